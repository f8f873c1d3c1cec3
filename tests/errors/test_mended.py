"""A run that fails on a record says what, where and what to do; mended, it goes on with nothing lost or repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamdsl import Aggregate, Config, DataError, Processor, Topology, UserCodeError, col, count, expanding, files, tumbling
from streamdsl.errors import StreamError

from .jobs import BAD, ROWS, SCHEMA, Gate, GatedSink, GatedSource, Numbering, check_numbered, read_jsonl, streamdsl_threads, write_csv


def refuse(value: int, broken: bool) -> None:
    if broken and value == BAD:
        raise ValueError(f"{value} is refused\x1b[2J")


def doubled(row: Any, broken: bool) -> dict[str, Any]:
    refuse(row.v, broken)
    return {"k": row.k, "v": row.v, "at": row.at}


class Refusing(Numbering):
    """Numbers records, and fails where it is told to."""

    def __init__(self, place: str) -> None:
        self.place = place

    def process(self, row: Any, ctx: Any) -> Any:
        refuse(row.v, self.place == "process")
        ctx.set_timer(ctx.timestamp + 1, name="soon")
        yield from super().process(row, ctx)

    def on_timer(self, timer: Any, ctx: Any) -> None:
        if self.place == "timer" and timer.timestamp == 100 * BAD + 1:
            raise ValueError("the timer is refused")


class Windowed(Processor):
    """The records of a window, one by one."""

    output = {"k": str, "v": int}

    def __init__(self, broken: bool) -> None:
        self.broken = broken

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        for row in rows:
            refuse(row.v, self.broken)
            yield {"k": row.k, "v": row.v}


def summed(before: int, value: int, broken: bool) -> int:
    refuse(value, broken)
    return before + value


# Each takes (stream, broken) and returns the stream of numbered records, or {"v"} rows.
def map_(stream: Any, broken: bool) -> Any:
    return stream.map(lambda row: doubled(row, broken), schema=SCHEMA).key_by("k").process(Numbering(), name="number")


def flat_map(stream: Any, broken: bool) -> Any:
    return stream.flat_map(lambda row: [doubled(row, broken)], schema=SCHEMA).key_by("k").process(Numbering(), name="number")


def filter_(stream: Any, broken: bool) -> Any:
    return stream.filter(lambda row: refuse(row.v, broken) is None).key_by("k").process(Numbering(), name="number")


def peek(stream: Any, broken: bool) -> Any:
    return stream.peek(lambda row: refuse(row.v, broken)).key_by("k").process(Numbering(), name="number")


def process(stream: Any, broken: bool) -> Any:
    return stream.key_by("k").process(Refusing("process" if broken else ""), name="op")


def timer(stream: Any, broken: bool) -> Any:
    return stream.key_by("k").process(Refusing("timer" if broken else ""), name="op")


def reduce(stream: Any, broken: bool) -> Any:
    def larger(a: Any, b: Any) -> Any:
        refuse(b.v, broken)
        return b

    return stream.key_by("k").reduce(larger, name="op").to_stream().select("k", "v")


def window(stream: Any, broken: bool) -> Any:
    return stream.key_by("k").window(tumbling("100ms")).process(Windowed(broken), name="op")


def aggregate(stream: Any, broken: bool) -> Any:
    latest = Aggregate(lambda: 0, lambda before, value: summed(0, value, broken), lambda a, b: b, type=int)
    return stream.key_by("k").aggregate(v=latest(col("v")), name="op").to_stream().select("k", "v")


def overflow(stream: Any, broken: bool) -> Any:
    factor = 2**62 if broken else 1
    computed = stream.with_columns(big=(col("v") - BAD + 1) * col("v").replace_strict({BAD: factor}, default=0) * 2)
    return computed.filter(col("big") >= 0).drop("big").key_by("k").process(Numbering(), name="number")


def native_filter(stream: Any, broken: bool) -> Any:
    factor = 2**62 if broken else 1
    return stream.filter(col("v").replace_strict({BAD: factor}, default=0) * 2 >= 0).key_by("k").process(Numbering(), name="number")


def native_sum(stream: Any, broken: bool) -> Any:
    factor = 2**63 - 1 if broken else 0
    sums = stream.key_by("k").aggregate(v=col("v").max(), s=(col("v").replace_strict({BAD: factor}, default=1)).sum(), name="op")
    return sums.to_stream().select("k", "v")


def native_window(stream: Any, broken: bool) -> Any:
    factor = 2**62 if broken else 0
    windows = stream.key_by("k").window(tumbling("100ms"))
    return windows.aggregate(v=col("v").max(), s=(col("v").replace_strict({BAD: factor}, default=1) * 2).sum(), name="op").select("k", "v")


def frame(stream: Any, broken: bool) -> Any:
    factor = 2**62 if broken else 0
    framed = stream.key_by("k").with_columns(s=(col("v").replace_strict({BAD: factor}, default=1) * 2).sum().over(expanding()), name="op")
    return framed.select("k", "v")


CASES: dict[str, tuple[Any, type[StreamError]]] = {
    "map": (map_, UserCodeError),
    "flat_map": (flat_map, UserCodeError),
    "filter": (filter_, UserCodeError),
    "peek": (peek, UserCodeError),
    "process": (process, UserCodeError),
    "timer": (timer, UserCodeError),
    "reduce": (reduce, UserCodeError),
    "window": (window, UserCodeError),
    "aggregate": (aggregate, UserCodeError),
    "overflow": (overflow, DataError),
    "native filter": (native_filter, DataError),
    "native sum": (native_sum, DataError),
    "native window": (native_window, DataError),
    "frame": (frame, DataError),
}


def run(place: Path, build: Any, broken: bool, parallelism: int) -> Any:
    """Run once; a broken one waits for a checkpoint in front of the bad record."""
    gate = Gate(BAD if broken else 0)
    topology = Topology("job")
    source, sink = files(place / "in.csv", schema=SCHEMA), files(place / "out.jsonl")
    stream = topology.stream(GatedSource(source, gate), timestamp="at", name="in")
    build(stream, broken).to(GatedSink(sink, gate), name="out")
    # What failed has been mended, in an operator or in front of it: what was computed before the bad record is right.
    keep = [] if broken else ["op", "number"]
    return topology.run(Config(parallelism=parallelism, state_dir=place / "state", checkpoint_interval="5ms", keep_state=keep))


def taken(run: Any) -> int:
    """Return how many rows a run read."""
    return sum(rows for task in run.metrics()["tasks"] for rows in task.get("splits", {}).values())


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_failing_record_is_named_and_the_mended_run_goes_on(case: str, parallelism: int, tmp_path: Path) -> None:
    build, kind = CASES[case]
    write_csv(tmp_path / "in.csv")
    with pytest.raises(kind) as caught:
        run(tmp_path, build, True, parallelism)
    error, text = caught.value, str(caught.value)
    assert error.operator and error.operator in text
    assert error.remedy and error.remedy in text
    assert f"'k{BAD % 3}'" in text, "it shows the key or the record"
    if case != "timer":
        assert f"v={BAD}" in text or f"'v': {BAD}" in text, "it shows the record"
    assert "\x1b" not in text
    assert not streamdsl_threads()
    second = run(tmp_path, build, False, 3 - parallelism)
    assert second.finished and taken(second) <= ROWS - BAD, "it did not begin anew"
    rows = read_jsonl(tmp_path / "out.jsonl")
    if rows and "n" in rows[0]:
        check_numbered(rows)
    else:
        assert sorted(row["v"] for row in rows) == list(range(ROWS))


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_line_that_cannot_be_read_is_mended_in_the_file(parallelism: int, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", bad=f"k0,thirty\x1b,{100 * BAD}")
    with pytest.raises(DataError) as caught:
        run(tmp_path, lambda stream, broken: process(stream, False), True, parallelism)
    error, text = caught.value, str(caught.value)
    assert (error.operator, error.field, error.topic, error.offset) == ("in", "v", str(tmp_path / "in.csv"), BAD)
    assert "thirty" in text and "errors=" in text and "\x1b" not in text
    write_csv(tmp_path / "in.csv")
    second = run(tmp_path, lambda stream, broken: process(stream, False), False, 3 - parallelism)
    assert taken(second) <= ROWS - BAD
    check_numbered(read_jsonl(tmp_path / "out.jsonl"))


def test_a_record_that_was_read_cannot_be_changed_under_a_run(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", bad="k0,thirty,0")
    with pytest.raises(DataError):
        run(tmp_path, lambda stream, broken: process(stream, False), True, 1)
    text = (tmp_path / "in.csv").read_text()
    (tmp_path / "in.csv").write_text(text.replace("thirty", "30").replace("k0,0,0", "k9,9,0"))
    with pytest.raises(StreamError, match="has changed since the checkpoint"):
        run(tmp_path, lambda stream, broken: process(stream, False), False, 1)


def test_the_position_is_told_where_the_columns_hold_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv")
    topology = Topology("job")
    stream = topology.stream(files(tmp_path / "in.csv", schema=SCHEMA), timestamp="at", name="in")
    placed = stream.select("v", "_topic", "_partition", "_offset")
    placed.with_columns(big=col("v").replace_strict({BAD: 2**62}, default=1) * 4).to(files(tmp_path / "out.jsonl"), name="out")
    with pytest.raises(DataError) as caught:
        topology.run()
    error = caught.value
    assert (error.topic, error.partition, error.offset, error.field) == (str(tmp_path / "in.csv"), 0, BAD, "big")
    assert error.context["record"]["v"] == BAD and error.context["timestamp"] == 100 * BAD


def test_a_value_that_does_not_fit_its_column_is_named_by_the_sink(tmp_path: Path) -> None:
    import pyarrow as pa

    (tmp_path / "in.csv").write_text("k,small\na,100\nb,127\n")
    topology = Topology("job")
    stream = topology.stream(files(tmp_path / "in.csv", schema={"k": str, "small": pa.int8()}), name="in")
    stream.with_columns(small=(col("small") + 1).cast("int8")).to(files(tmp_path / "out.jsonl"), name="out")
    with pytest.raises(DataError) as caught:
        topology.run()
    assert "'b'" in str(caught.value) and caught.value.operator


def test_values_are_shown_short_and_in_one_line(tmp_path: Path) -> None:
    columns = {f"c{i}": str | None for i in range(60)}
    (tmp_path / "in.jsonl").write_text('{"v": 1, "c0": "line\\nbreak\\u001b", "c1": "' + "x" * 10_000 + '"}\n')
    topology = Topology("job")
    stream = topology.stream(files(tmp_path / "in.jsonl", schema={"v": int, **columns}), name="in")
    stream.with_columns(n=col("c0").cast("int64"), m=count and col("c1")).to(files(tmp_path / "out.jsonl"), name="out")
    with pytest.raises(DataError) as caught:
        topology.run()
    first = str(caught.value).split("\n")[0]
    assert "break" in first and len(first) < 8_000 and "\x1b" not in first and "more" in first
