"""Checkpoints while calls are under way: whatever their rows hold, and although all input has been read."""

from __future__ import annotations

import asyncio
import decimal
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import Config, Topology, col, count, files, memory, tumbling
from tests.held import Held

#: What Python has no value for: it matters only to a function that reads it.
UNREADABLE = {
    "nanoseconds": pa.array([1, None, -1, 1_700_000_000_123_456_789], pa.timestamp("ns")),
    "far times": pa.array([1, None, 10**15, -(10**15)], pa.timestamp("ms", "UTC")),
    "durations": pa.array([1, None, -1, 5], pa.duration("ns")),
}
READABLE = {
    "list": pa.array([[], None, [None, 1], [2]], pa.list_(pa.int32())),
    "struct": pa.array([{"a": 1.5}, None, {"a": None}, {"a": -0.0}], pa.struct([("a", pa.float32())])),
    "map": pa.array([[], None, [("a", 1)], [("b", None)]], pa.map_(pa.string(), pa.int64())),
    "decimal": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-0.0001"), decimal.Decimal(10**15)], pa.decimal128(20, 4)),
    "bytes": pa.array([b"", None, b"\xff\x00", b"x"]),
    "float32": pa.array([1.5, None, float("inf"), 0.1], pa.float32()),
    "uint64": pa.array([1, None, 2**64 - 1, 0], pa.uint64()),
    "second": pa.array([1, None, -1, 5], pa.timestamp("s", "UTC")),
}


class Calls:
    """A function that hangs until it is told not to; it returns the columns that it is told to."""

    def __init__(self, path: Path, columns: dict[str, pa.Array], names: list[str], **options: Any) -> None:
        self.path, self.names, self.options = path, names, options
        self.table = pa.table({"id": list(range(4)), **columns})
        self.hangs, self.begun = True, list[int]()
        pq.write_table(self.table, path / "in.parquet")

    async def call(self, row: Any) -> dict[str, Any]:
        self.begun.append(row.id)
        if self.hangs:
            await asyncio.sleep(3_600)
        return {name: row[name] for name in self.names}

    def topology(self) -> Topology:
        topology = Topology("calls")
        stream = topology.stream(files(self.path / "in.parquet", schema=self.table.schema), timestamp="id", name="in")
        schema = pa.schema([self.table.schema.field(name) for name in self.names])
        made = stream.map_async(self.call, schema=schema, timeout="1h", name="calls", **self.options)
        made.to(files(self.path / "out.parquet"), name="out")
        made.key_by().window(tumbling("2ms")).aggregate(n=count()).to(files(self.path / "counts.jsonl"), name="counts")
        return topology

    def interrupted(self, parallelism: int = 1) -> dict[str, Any]:
        """Run until a checkpoint holds all calls, then stop; return the figures."""
        run = self.topology().start(Config(state_dir=self.path / "state", checkpoint_interval="20ms", parallelism=parallelism))
        until = time.monotonic() + 60
        while len(self.begun) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        begun = run.metrics()["checkpoints"]["completed"]
        while run.metrics()["checkpoints"]["completed"] < begun + 2 and time.monotonic() < until:
            assert run.metrics()["checkpoints"]["failed"] == 0
            time.sleep(0.01)
        run.stop()
        run.wait()
        figures = run.metrics()["checkpoints"]
        self.hangs, self.begun = False, []
        return figures

    def gone_on(self, parallelism: int = 1) -> pa.Table:
        self.topology().run(Config(state_dir=self.path / "state", parallelism=parallelism))
        return pq.read_table(self.path / "out.parquet")


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_checkpoint_holds_what_the_function_does_not_read(tmp_path: Path, what: str) -> None:
    calls = Calls(tmp_path, {"c": UNREADABLE[what]}, ["id"])
    figures = calls.interrupted()
    assert figures["failed"] == 0
    assert calls.gone_on()["id"].to_pylist() == [0, 1, 2, 3]


def test_rows_of_calls_that_are_made_again_are_as_they_were(tmp_path: Path) -> None:
    calls = Calls(tmp_path, READABLE, ["id", *READABLE])
    calls.interrupted()
    assert calls.gone_on().to_pylist() == calls.table.to_pylist()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("parallelism", [(1, 1), (2, 1), (1, 2)])
def test_checkpoints_do_not_wait_for_the_last_calls(tmp_path: Path, ordered: bool, parallelism: tuple[int, int]) -> None:
    """All input has been read, so its end waits for the calls: a checkpoint and a stop do not."""
    calls = Calls(tmp_path, {}, ["id"], ordered=ordered)
    figures = calls.interrupted(parallelism[0])
    assert figures["completed"] >= 2 and figures["failed"] == 0
    found = calls.gone_on(parallelism[1])["id"].to_pylist()
    assert (found if ordered else sorted(found)) == [0, 1, 2, 3]
    assert sorted(calls.begun) == [0, 1, 2, 3]
    assert [json.loads(line)["n"] for line in (tmp_path / "counts.jsonl").read_text().splitlines()] == [2, 2]


@pytest.mark.parametrize("ordered", [True, False])
def test_what_is_late_behind_a_call_is_late_when_the_call_is_made_again(tmp_path: Path, ordered: bool) -> None:
    """A watermark stands between two calls: it does so as well behind a restore."""
    hangs, begun = [True], list[int]()
    rows = [{"id": at} for at in (0, 100, 5, 101)]

    async def call(row: Any) -> dict[str, int]:
        begun.append(row.id)
        if hangs[0]:
            await asyncio.sleep(3_600)
        return {"id": row.id}

    def counts(name: str, stop: bool) -> list[tuple[int, int]]:
        topology = Topology("calls")
        made = topology.stream(memory("in", schema={"id": int}, rows=rows), timestamp="id", name="in")
        made = made.map_async(call, schema={"id": int}, timeout="1h", ordered=ordered, name="calls")
        windows = made.key_by().window(tumbling("10ms")).aggregate(n=count(), first=col("id").min())
        windows.to(files(tmp_path / f"{name}.jsonl"), name="out")
        run = topology.start(Config(state_dir=tmp_path / name, checkpoint_interval="20ms", batch_rows=1))
        if stop:
            wait_for(lambda: len(begun) == len(rows))
            run.stop()
        run.wait()
        return [(row["first"], row["n"]) for row in map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())]

    assert counts("stopped", stop=True) == []
    hangs[0] = False
    assert counts("stopped", stop=False) == counts("whole", stop=False) == [(0, 1), (100, 2)]


class FirstSplitHeld(Held):
    """Only the first split waits, and the other does not wait for it."""

    bounded = False

    def open_split(self, split: str, position: Any, columns: Any) -> Any:
        return super().open_split(split, position, columns) if split == "0" else self.inner.open_split(split, position, columns)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_watermark_of_a_call_makes_no_row_late_that_another_task_has_not_read_yet(tmp_path: Path, ordered: bool) -> None:
    """The splits of two tasks are read by one behind a restore. One of these was ahead, and had calls; the other had none."""
    hangs, begun, old_begun = [True], list[int](), asyncio.Event()

    async def call(row: Any) -> dict[str, int]:
        begun.append(row.id)
        if hangs[0]:
            await asyncio.sleep(3_600)
        if row.id < 100:
            old_begun.set()
        await old_begun.wait()
        await asyncio.sleep(0.2)  # so long the input may say more: how far time has come by then does not count
        return {"id": row.id}

    def run(parallelism: int, stop: bool) -> None:
        source = FirstSplitHeld(memory("in", {"id": int}, [{"id": at} for at in (5, 100, 6, 101)], splits=2), rows=0)
        topology = Topology("calls")
        made = topology.stream(source, timestamp="id", name="in")
        made = made.map_async(call, schema={"id": int}, timeout="1h", ordered=ordered, name="calls")
        windows = made.key_by().window(tumbling("10ms")).aggregate(n=count(), first=col("id").min())
        windows.to(files(tmp_path / "out.jsonl"), name="out")
        config = Config(state_dir=tmp_path / "state", checkpoint_interval="20ms", batch_rows=1, parallelism=parallelism)
        run = topology.start(config)
        if stop:
            wait_for(lambda: sorted(begun) == [100, 101])
            run.stop()
        else:
            source.over.set()
        run.wait()

    run(parallelism=2, stop=True)
    hangs[0] = False
    run(parallelism=1, stop=False)
    rows = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [(row["first"], row["n"]) for row in rows] == [(5, 2), (100, 2)]


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "did not come"
        time.sleep(0.01)
