"""The walks of docs/architecture.md, proved: each station exists, and its body calls the next."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "architecture.md").read_text()

#: (station, what its body must say to lead on). The stations stand in the document in this order.
RECORD = [
    ("SplitsTask.refill", "_refill"),
    ("Intake.rows_of", "._batch_of(", ".stamp("),
    ("SourceTask.hand_on", "generator_scan(", "on_records("),
    ("Task.on_records", ".process(batch)"),
    ("FilterOperator.finish", "self.emit("),
    ("KeyEncodeOperator.process", "SYS_KEY", "self.emit("),
    ("Output.partition", "shard_of(", "self.send("),
    ("Channel.offer", "self.ring["),
    ("InputGate.next", ".poll(element)"),
    ("Task.read_input", "self.gate.next(", "self.take_records("),
    ("Task.take_records", "self.on_records(", "self.go_on("),
    ("KeyLookup.process", "lookup_batch(", "self.emit("),
    ("FrameOperator.finish", "emit("),
    ("SinkOperator.process", "hand_over("),
]
WATERMARK = [
    ("SourceTask.hand_on", "valve.on_watermark(", "self.pass_on_time("),
    ("Task.pass_on_time", ".on_watermark(self.watermark)", "self.close_windows("),
    ("WindowOperator.on_watermark", "any_due(", "self.closing ="),
    ("Task.close_windows", ".go_on_closing("),
    ("WindowOperator.go_on_closing", "self.find_slots(", "self.close_slots(", "take_due(", "self.close_due(", "self.pass_on("),
    ("SlotDeadlines.gather", "self.pour("),
    ("Deadlines.take_due", "self.read_cold("),
    ("WindowOperator.pass_on", "self.next.on_watermark("),
    ("Output.on_watermark", "broadcast(WATERMARK"),
    ("Task.read_input", "valve.on_watermark(", "self.pass_on_time("),
]
BARRIER = [
    ("Job._trigger", "coordinator.trigger(", "request_checkpoint("),
    ("SourceTask.read_input", "self.take_snapshot("),
    ("Task.take_snapshot", "_snapshot(", "broadcast(BARRIER"),
    ("Output.broadcast", "self.send("),
    ("Task.read_input", "on_barrier(", "self.gate.block(", "self.gate.unblock_all("),
    ("BarrierAligner.on_barrier", "self.missing -= 1"),
    ("StateStore.begin",),
    ("StoreWriter._read_journal", "_append(", "_checkpoint("),
    ("Job._on_event", "coordinator.acknowledge(", "coordinator.store_written("),
    ("Coordinator._complete_if_whole", "storage.publish("),
    ("Job.on_complete", "self._committed(", "commit_point.start("),
    ("CommitPoint.start", "transaction.commit("),
    ("Job._committed", "task.commit("),
]


def stations(walk: str) -> list[tuple[Path, str]]:
    """Return (file, function) of each station as the document lists them."""
    text = DOC.split(f"<!-- walk: {walk} -->")[1].split("\n\n")[0]
    return [(ROOT / file, name) for file, name in re.findall(r"^\d+\. `([^`]+)` `([^`]+)`", text, re.M)]


def body(path: Path, function: str) -> str:
    """Return the source of Class.method."""
    owner, name = function.split(".")
    lines = path.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"(cdef )?class {owner}\b", line))
    first = next(i for i in range(start, len(lines)) if re.match(rf"    (cp?def|def) .*\b{name}\(", lines[i]))
    after = (i for i in range(first + 1, len(lines)) if re.match(r" {0,4}\S", lines[i]) and not lines[i].startswith("    )"))
    end = next(after, len(lines))
    return "\n".join(lines[first:end])


WALKS = {"record": RECORD, "watermark": WATERMARK, "barrier": BARRIER}


@pytest.mark.parametrize("walk", WALKS)
def test_the_document_lists_the_stations(walk):
    assert [name for _, name in stations(walk)] == [station[0] for station in WALKS[walk]]


@pytest.mark.parametrize(
    ("walk", "at"),
    [(walk, i) for walk, found in WALKS.items() for i in range(len(found))],
    ids=[f"{walk}-{station[0]}" for walk, found in WALKS.items() for station in found],
)
def test_each_station_leads_on(walk, at):
    path, function = stations(walk)[at]
    _, *needed = WALKS[walk][at]
    source = body(path, function)
    for text in needed:
        assert text in source, f"{function} no longer says {text!r}: mend the walk in docs/architecture.md, or the code"
