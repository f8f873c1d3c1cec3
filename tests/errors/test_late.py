"""Records that come too late are counted, and the first of each operator and start is logged: what it is, when, and where it stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Processor, Topology, col, count, dead_letter, files, memory, rolling, tumbling

SCHEMA = {"k": str, "v": int, "at": int}
#: The last three are late for every window and frame of five seconds.
ROWS = [{"k": "a", "v": i, "at": 1000 * i} for i in range(30)] + [{"k": "b", "v": 99, "at": 5}] * 3


class Counting(Processor):
    output = {"n": int}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        yield {"n": len(list(rows))}


def aggregated(keyed: Any, **more: Any) -> Any:
    return keyed.window(tumbling("5s")).aggregate(n=count(), **more)


def processed(keyed: Any, **more: Any) -> Any:
    return keyed.window(tumbling("5s")).process(Counting(), **more)


def framed(keyed: Any, **more: Any) -> Any:
    return keyed.with_columns(n=count().over(rolling("5s")), **more)


VERBS = [aggregated, processed, framed]


@pytest.mark.parametrize("verb", VERBS)
def test_the_first_is_logged(verb: Any, caplog: pytest.LogCaptureFixture) -> None:
    for start in range(2):
        topology = Topology("job")
        keyed = topology.stream(memory("in", SCHEMA, ROWS), timestamp="at", name="in").key_by("k")
        run = _run(topology, verb(keyed))
        (late,) = [figures["late"] for task in run.metrics()["tasks"] for figures in task["operators"].values() if "late" in figures]
        said = [record for record in caplog.records if "too late" in record.getMessage()]
        assert late == 3 and len(said) == start + 1
    text = said[0].getMessage()
    assert said[0].levelname == "WARNING"
    assert "1970-01-01T00:00:00.005Z" in text and "the watermark was 1970-01-01T00:00:28.999Z" in text and "'k': 'b'" in text


def test_times_before_1970_are_written_as_such(caplog: pytest.LogCaptureFixture) -> None:
    topology = Topology("job")
    rows = [{"k": "a", "at": -1_001, "v": 1}, {"k": "b", "at": -7_001, "v": 1}]
    _run(topology, aggregated(topology.stream(memory("in", SCHEMA, rows), timestamp="at", name="in").key_by("k")))
    (said,) = [record.getMessage() for record in caplog.records if "too late" in record.getMessage()]
    assert "1969-12-31T23:59:52.999Z" in said and "the watermark was 1969-12-31T23:59:58.998Z" in said


def _run(topology: Topology, stream: Any) -> Any:
    stream.to(memory("out"), name="out")
    return topology.run()


def summed(keyed: Any, **more: Any) -> Any:
    return keyed.window(tumbling("5s")).aggregate(n=(col("v") // col("at")).sum(), **more)


@pytest.mark.parametrize("verb", [summed, framed])
def test_it_says_where_the_record_stood(verb: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the position comes with the rows, as it does for dead letters."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    topology = Topology("job")
    keyed = topology.stream(files(path, schema=SCHEMA), timestamp="at", name="in", errors=dead_letter(memory("bad"))).key_by("k")
    _run(topology, verb(keyed, errors=dead_letter(memory("worse"))))
    (text,) = [record.getMessage() for record in caplog.records if "too late" in record.getMessage()]
    assert f"topic {path}" in text and "offset 30" in text, text


def reduced(keyed: Any) -> Any:
    return keyed.window(tumbling("5s")).reduce(lambda one, other: one)


def deduplicated(keyed: Any) -> Any:
    return keyed.deduplicate(within="5s")


def joined(keyed: Any) -> Any:
    return keyed.join(keyed, within="5s")


def joined_asof(keyed: Any) -> Any:
    return keyed.join_asof(keyed)


@pytest.mark.parametrize("projected", [False, True], ids=["as it is", "behind a projection"])
@pytest.mark.parametrize("verb", [*VERBS, reduced, deduplicated, joined, joined_asof])
def test_it_says_where_the_record_stood_whoever_reads_it(
    verb: Any, projected: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No policy asks for the position, and no column: it is read for the log alone."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    topology = Topology("job")
    rows = topology.stream(files(path, schema=SCHEMA), timestamp="at", name="in")
    made = verb((rows.select("k", w=col("v") + 1) if projected else rows).key_by("k"))
    assert not set(made.schema.names) & {"_topic", "_partition", "_offset"}
    _run(topology, made)
    said = [record.getMessage() for record in caplog.records if "too late" in record.getMessage()]
    assert said and all(f"topic {path}, partition 0, offset 30" in text for text in said), said


@pytest.mark.parametrize("verb", [aggregated, processed])
def test_late_rows_that_somebody_takes_are_no_news(verb: Any, caplog: pytest.LogCaptureFixture) -> None:
    topology, late = Topology("job"), memory("late")
    keyed = topology.stream(memory("in", SCHEMA, ROWS), timestamp="at", name="in").key_by("k")
    window = keyed.window(tumbling("5s"))
    rows = window.aggregate(n=count()) if verb is aggregated else window.process(Counting())
    rows.output("late").to(late, name="late")
    _run(topology, rows)
    assert len(late.rows()) == 3
    assert not [record for record in caplog.records if "too late" in record.getMessage()]
