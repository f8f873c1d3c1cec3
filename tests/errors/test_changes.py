"""A job goes on with a changed topology: what would give its state or positions another meaning is refused by name.

What is allowed gives what the changed topology gives when it runs from the beginning.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamdsl import (
    Config,
    Processor,
    StateError,
    Topology,
    col,
    count,
    event_time,
    expanding,
    files,
    hopping,
    rolling,
    tumbling,
)

from .jobs import Gate, GatedSink, GatedSource, read_jsonl

SCHEMA = {"k": str, "v": int, "w": int, "x": float, "b": bool, "at": int, "on": int}
ROWS, HALF = 40, 20

Build = Callable[[Any], Any]


def write_input(place: Path) -> None:
    lines = [f"k{i % 3},{i * 7 % 11},{i % 5},{i / 4},{str(i % 2 == 0).lower()},{100 * i},{100 * i + 7}" for i in range(ROWS)]
    (place / "in.csv").write_text("k,v,w,x,b,at,on\n" + "\n".join(lines) + "\n")


def topology(place: Path, build: Build, gate: Gate | None = None, out: str = "out.jsonl", **stream: Any) -> Topology:
    gate = gate or Gate(0)
    made = Topology("job")
    rows = made.stream(GatedSource(files(place / "in.csv", schema=SCHEMA), gate), **{"timestamp": "at", "name": "in", **stream})
    found = build(rows)
    found = found.to_stream() if hasattr(found, "to_stream") else found
    # As text: what a sink says of other columns is not asked here.
    found.map(as_text, schema={"row": str}).to(GatedSink(files(place / out), gate), name="out")
    return made


def as_text(row: Any) -> dict[str, str]:
    return {"row": json.dumps(row.asdict(), default=str)}


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(row["row"]) for row in read_jsonl(path)]


def config(place: Path, **options: Any) -> Config:
    return Config(state_dir=place / "state", checkpoint_interval="20ms", **options)


def stopped(place: Path, build: Build, **stream: Any) -> None:
    """Run the first half of the input, and stop."""
    write_input(place)
    gate = Gate(HALF, hold=True)
    run = topology(place, build, gate, **stream).start(config(place))
    assert gate.covered.wait(60)
    run.stop()
    run.wait()
    assert not run.finished


def whole(place: Path, build: Build, **stream: Any) -> list[dict[str, Any]]:
    """Return what the topology gives from the beginning."""
    topology(place, build, out="whole.jsonl", **stream).run(Config(state_dir=place / "other", checkpoint_interval="20ms"))
    return results(place / "whole.jsonl")


def framed(**columns: Any) -> Build:
    return lambda rows: rows.key_by("k").with_columns(name="op", **columns)


def running(**columns: Any) -> Build:
    return lambda rows: rows.key_by("k").aggregate(name="op", **columns)


def windowed(window: Any, **options: Any) -> Build:
    return lambda rows: rows.key_by("k").window(window, **options).aggregate(name="op", n=count(), total=col("v").sum())


def reduced(prepare: Build, window: Any = None) -> Build:
    def build(rows: Any) -> Any:
        keyed = prepare(rows).key_by("k")
        keyed = keyed if window is None else keyed.window(window)
        return keyed.reduce(lambda a, b: {**b.asdict(), "v": a.v + b.v}, name="op")

    return build


def declaring(declare: Callable[[Any], Any], use: Callable[[Any, Any], Any]) -> Build:
    class Declaring(Processor):
        output = {"k": str, "n": int}

        def open(self, ctx: Any) -> None:
            self.state = declare(ctx.state)

        def process(self, row: Any, ctx: Any) -> Any:
            use(self.state, row)
            return {"k": row.k, "n": 1}

    return lambda rows: rows.key_by("k").process(Declaring(), name="op")


class Gathered(Processor):
    output = {"k": str, "n": int}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        return {"k": key, "n": len(rows)}


def gathered(prepare: Build, size: str = "1s") -> Build:
    return lambda rows: prepare(rows).key_by("k").window(tumbling(size)).process(Gathered(), name="op")


def keyed(**key: Any) -> Build:
    return lambda rows: rows.with_columns(**key).key_by("c").aggregate(n=count(), name="op")


def joined(how: str, **options: Any) -> Build:
    return lambda rows: rows.join(rows.select("k", y=col("w")), on="k", how=how, name="op", **options)


SUM = col("v").sum()
DAY = tumbling("1d")

REFUSED = {
    # windows
    "size": (windowed(tumbling("10s")), windowed(tumbling("20s")), 'tumbling("10s") → tumbling("20s")'),
    "offset": (windowed(tumbling("10s")), windowed(tumbling("10s", offset="1s")), "offset"),
    "every": (windowed(hopping("10s", "5s")), windowed(hopping("10s", "2s")), "hopping"),
    "window kind": (windowed(tumbling("10s")), windowed(hopping("10s", "5s")), "hopping"),
    "emit": (windowed(tumbling("10s")), windowed(tumbling("10s"), emit="update"), "emit: close → update"),
    "grace grows": (windowed(tumbling("10s")), windowed(tumbling("10s"), grace="5s"), "grace (ms): 0 → 5000 (it may only become smaller)"),
    "window of a Processor": (gathered(lambda s: s), gathered(lambda s: s, "2s"), "tumbling"),
    "no window": (windowed(tumbling("10s")), running(n=count(), total=SUM), "operator: window_aggregate → aggregate"),
    # aggregates
    "another column": (running(n=SUM), running(n=col("w").sum()), "sum(v (int64)) → sum(w (int64))"),
    "another column in a window": (
        lambda s: s.key_by("k").window(DAY).aggregate(n=SUM, name="op"),
        lambda s: s.key_by("k").window(DAY).aggregate(n=col("w").sum(), name="op"),
        "sum(v (int64)) → sum(w (int64))",
    ),
    "another expression": (running(n=SUM), running(n=(col("v") * 2).sum()), "mul"),
    "another expression before it": (
        lambda s: s.with_columns(v=col("v") * 2).key_by("k").aggregate(n=SUM, name="op"),
        lambda s: s.with_columns(v=col("v") * 3).key_by("k").aggregate(n=SUM, name="op"),
        "sum(mul(",
    ),
    "another column by a rename": (
        lambda s: s.select("k", y=col("v")).key_by("k").aggregate(n=col("y").sum(), name="op"),
        lambda s: s.select("k", y=col("w")).key_by("k").aggregate(n=col("y").sum(), name="op"),
        "sum(v (int64)) → sum(w (int64))",
    ),
    "another aggregate": (running(n=SUM), running(n=col("v").max()), "sum(v (int64)) → max(v (int64))"),
    "filter": (running(n=count().filter(col("v") > 3)), running(n=count().filter(col("v") > 4)), "filter(gt(v, 3)) → "),
    "filter added": (running(n=SUM), running(n=SUM.filter(col("b"))), ".filter(b)"),
    "by": (
        running(n=col("v").max_by(col("x"))),
        running(n=col("v").max_by(col("x") * -1)),
        "max_by",
    ),
    "top_k": (running(n=col("v").top_k(2, by=col("x"))), running(n=col("v").top_k(3, by=col("x"))), "n=2) → "),
    "top_k by": (running(n=col("v").top_k(2, by=col("x"))), running(n=col("v").top_k(2, by=col("x") * -1)), "top_k"),
    "order": (running(a=SUM, b=col("w").sum()), running(b=col("w").sum(), a=SUM), "sum(w (int64)); sum(v (int64))"),
    "one more": (running(a=SUM), running(a=SUM, n=count()), "count()"),
    "type": (running(a=SUM), running(a=col("v").cast(float).sum()), "sum"),
    "another filter before it": (
        lambda s: s.filter(col("v") > 3).key_by("k").aggregate(n=count(), name="op"),
        lambda s: s.filter(col("v") > 4).key_by("k").aggregate(n=count(), name="op"),
        "rows of 'in': gt(v, 3) → gt(v, 4)",
    ),
    # frames
    "lag": (framed(p=col("v").lag(1)), framed(p=col("v").lag(2)), "lag"),
    "lag of another column": (framed(p=col("v").lag()), framed(p=col("w").lag()), "lag(v"),
    "a longer frame": (framed(n=count().over(rolling("1s"))), framed(n=count().over(rolling("2s"))), "rolling (ms): 1000 → 2000"),
    "rolling over another column": (
        framed(n=col("v").max().over(rolling("1s"))),
        framed(n=col("w").max().over(rolling("1s"))),
        "kept of each record",
    ),
    "rolling, then expanding": (framed(n=count().over(rolling("1s"))), framed(n=count().over(expanding())), "op"),
    "expanding over another column": (framed(n=SUM.over(expanding())), framed(n=col("w").sum().over(expanding())), "sum(v"),
    # keys
    "another key": (
        lambda s: s.key_by("v").aggregate(n=count(), name="op"),
        lambda s: s.key_by("w").aggregate(n=count(), name="op"),
        "keys: v (int64) → w (int64)",
    ),
    "another expression as key": (keyed(c=col("v") % 2), keyed(c=col("v") % 3), "keys: mod(v, 2"),
    "order of keys": (
        lambda s: s.key_by("v", "w").aggregate(n=count(), name="op"),
        lambda s: s.key_by("w", "v").aggregate(n=count(), name="op"),
        "keys: v (int64), w (int64) → w (int64), v (int64)",
    ),
    "one more key": (
        lambda s: s.key_by("v").aggregate(n=count(), name="op"),
        lambda s: s.key_by("v", "w").aggregate(n=count(), name="op"),
        "keys: v (int64) → v (int64), w (int64)",
    ),
    "type of a key": (keyed(c=col("v")), keyed(c=col("v").cast(str)), "keys: v (int64) →"),
    # rows
    "columns of reduce": (reduced(lambda s: s.select("k", "v")), reduced(lambda s: s.select("k", "v", "w")), "rows: k string, v int64 →"),
    "order of columns": (reduced(lambda s: s.select("k", "v", "w")), reduced(lambda s: s.select("k", "w", "v")), "rows"),
    "another column in rows": (reduced(lambda s: s.select("k", "v")), reduced(lambda s: s.select("k", v=col("w"))), "v int64 = w"),
    "rows of a window": (gathered(lambda s: s.select("k", "v")), gathered(lambda s: s.select("k", "w")), "rows"),
    "type in rows of a window": (
        gathered(lambda s: s.select("k", "v")),
        gathered(lambda s: s.select("k", v=col("v").cast(float))),
        "rows",
    ),
    "reduce by window": (reduced(lambda s: s), reduced(lambda s: s, DAY), "op"),
    # joins
    "unmatched rows of a join": (joined("inner", within="1s"), joined("left", within="1s"), "how: inner → left"),
    "unmatched rows of a join by window": (joined("inner", within=DAY), joined("outer", within=DAY), "how: inner → outer"),
    "fewer unmatched rows of a join": (joined("left", within="1s"), joined("inner", within="1s"), "how: left → inner"),
    # Processors
    "value to list": (
        declaring(lambda s: s.value("x", int), lambda x, row: x.set(row.v)),
        declaring(lambda s: s.list("x", int), lambda x, row: x.append(row.v)),
        "state 'x': value int → list int",
    ),
    "type of a value": (
        declaring(lambda s: s.value("x", int), lambda x, row: x.set(row.v)),
        declaring(lambda s: s.value("x", str), lambda x, row: x.set(row.k)),
        "value int → value str",
    ),
    "type of a map's keys": (
        declaring(lambda s: s.map("x", int, int), lambda x, row: x.put(row.v, 1)),
        declaring(lambda s: s.map("x", str, int), lambda x, row: x.put(row.k, 1)),
        "map int: int → map str: int",
    ),
    "item of a list": (
        declaring(lambda s: s.value("x", list[int]), lambda x, row: x.set([row.v])),
        declaring(lambda s: s.value("x", list[str]), lambda x, row: x.set([row.k])),
        "value list[int] → value list[str]",
    ),
    "clock of a ttl": (
        declaring(lambda s: s.value("x", int, ttl="1h"), lambda x, row: x.set(row.v)),
        declaring(lambda s: s.value("x", int, ttl="1h", clock="processing"), lambda x, row: x.set(row.v)),
        "by the wall clock",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    before, after, told = REFUSED[name]
    stopped(tmp_path, before)
    with pytest.raises(StateError) as caught:
        topology(tmp_path, after).run(config(tmp_path))
    text = str(caught.value)
    assert told in text, text
    for way in ("'op'", "drop_state=['op']", "name=", "state_dir"):
        assert way in text, text
    # It was only refused: as it was, and with the way out, the job goes on.
    topology(tmp_path, after).run(config(tmp_path, drop_state=["op"]))


def test_rows_of_an_inner_join_are_not_kept_for_another(tmp_path: Path) -> None:
    """They have no deadlines: unmatched ones would never come out. Saying that the state fits does not help, nor does the error say so."""
    stopped(tmp_path, joined("inner", within="1s"))
    with pytest.raises(StateError, match=r"state in another form: op: .*inner.* → .*left") as caught:
        topology(tmp_path, joined("left", within="1s")).run(config(tmp_path, keep_state=["op"]))
    assert "drop_state=['op']" in str(caught.value)
    assert "keep_state" not in str(caught.value)


def test_the_event_time(tmp_path: Path) -> None:
    stopped(tmp_path, windowed(tumbling("1s")))
    with pytest.raises(StateError, match=r"'in' has changed: event time: at → on"):
        topology(tmp_path, windowed(tumbling("1s")), timestamp="on").run(config(tmp_path))


def test_another_form_of_files(tmp_path: Path) -> None:
    write_input(tmp_path)

    def job(format: str) -> Topology:
        made = Topology("job")
        rows = made.stream(files(tmp_path / "in.csv", schema=SCHEMA, format=format, rate=100), timestamp="at", name="in")
        rows.to(files(tmp_path / "out.jsonl"))
        return made

    run = job("csv").start(config(tmp_path))
    run.stop()
    run.wait()
    with pytest.raises(StateError, match=r"'in' has changed: positions: csv files → json files"):
        job("json").run(config(tmp_path))


ALLOWED = {
    "a smaller grace": (windowed(tumbling("1s"), grace="5s"), windowed(tumbling("1s"))),
    "another tag for late rows": (windowed(tumbling("1s"), late="late"), windowed(tumbling("1s"), late="behind")),
    "ddof": (running(n=col("x").std()), running(n=col("x").std(ddof=0))),
    "std, then var": (running(n=col("x").std()), running(n=col("x").var())),
    "another name of a column": (running(n=SUM), running(total=SUM)),
    "another name of an intermediate column": (
        lambda s: s.with_columns(y=col("v") * 2).key_by("k").aggregate(n=col("y").sum(), name="op"),
        lambda s: s.with_columns(z=col("v") * 2).key_by("k").aggregate(n=col("z").sum(), name="op"),
    ),
    "written at once or in two steps": (
        lambda s: s.with_columns(y=col("v") * 2).filter(col("v") >= 0).key_by("k").aggregate(n=(col("y") + 1).sum(), name="op"),
        lambda s: s.key_by("k").filter(col("v") >= 0).aggregate(n=(col("v") * 2 + 1).sum(), name="op"),
    ),
    "conditions in another order": (
        lambda s: s.filter((col("v") > 1) & (col("w") < 4)).filter(col("b")).key_by("k").aggregate(n=SUM, name="op"),
        lambda s: s.filter(col("b")).rename(v="y").key_by("k").filter(col("w") < 4).filter(col("y") > 1)
        .aggregate(n=col("y").sum(), name="op"),
    ),
    "a shorter frame": (framed(n=col("v").sum().over(rolling("10s"))), framed(n=col("v").sum().over(rolling("1s")))),
    "another aggregate over what a frame keeps": (
        framed(n=col("v").sum().over(rolling("1s"))),
        framed(n=col("v").max().over(rolling("1s")), m=col("v").mean().over(rolling("0.5s"))),
    ),
    "the current record": (framed(n=SUM.over(expanding())), framed(n=SUM.over(expanding(exclude_current=True)))),
    "another name of the key": (
        lambda s: s.key_by("k").aggregate(n=SUM, name="op"),
        lambda s: s.rename(k="key").key_by("key").aggregate(n=SUM, name="op"),
    ),
    "another operator beside it": (
        lambda s: s.key_by("k").aggregate(n=SUM, name="op"),
        lambda s: s.key_by("k").with_columns(p=event_time(), n=count().over(expanding()), name="p")
        .key_by("k").aggregate(n=SUM, name="op"),
    ),
    "another state": (
        declaring(lambda s: s.value("x", int), lambda x, row: x.set(row.v)),
        declaring(lambda s: (s.value("x", int), s.list("y", int)), lambda x, row: x[1].append(row.v)),
    ),
    "another ttl": (
        declaring(lambda s: s.value("x", int, ttl="1h"), lambda x, row: x.set(row.v)),
        declaring(lambda s: s.value("x", int, ttl="2h"), lambda x, row: x.set(row.v)),
    ),
    "a value that may be missing": (
        declaring(lambda s: s.value("x", int), lambda x, row: x.set(row.v)),
        declaring(lambda s: s.value("x", int | None), lambda x, row: x.set(row.v)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize("parallelism", [1, 2])
def test_allowed(tmp_path: Path, name: str, parallelism: int) -> None:
    before, after = ALLOWED[name]
    stopped(tmp_path, before)
    old = len(results(tmp_path / "out.jsonl"))
    topology(tmp_path, after).run(config(tmp_path, parallelism=parallelism))
    found = results(tmp_path / "out.jsonl")[old:]
    expected = whole(tmp_path, after)[old:]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


def test_disorder_may_change(tmp_path: Path) -> None:
    stopped(tmp_path, windowed(tumbling("1s")))
    old = results(tmp_path / "out.jsonl")
    topology(tmp_path, windowed(tumbling("1s")), disorder="1s").run(config(tmp_path))
    assert results(tmp_path / "out.jsonl")[len(old) :] == whole(tmp_path, windowed(tumbling("1s")))[len(old) :]


def test_state_is_dropped_once(tmp_path: Path) -> None:
    """A run that is started again under the same configuration goes on with what it has kept since."""
    stopped(tmp_path, running(n=SUM))
    after = running(n=col("w").sum())
    gate = Gate(5, hold=True)
    run = topology(tmp_path, after, gate).start(config(tmp_path, drop_state=["op"]))
    assert gate.covered.wait(60)
    run.stop()
    run.wait()
    topology(tmp_path, after).run(config(tmp_path, drop_state=["op"]))
    last = {row["k"]: row["n"] for row in results(tmp_path / "out.jsonl")}
    assert last == {f"k{key}": sum(i % 5 for i in range(HALF, ROWS) if i % 3 == key) for key in range(3)}


def test_what_is_late_does_not_depend_on_the_name_of_the_keys(tmp_path: Path) -> None:
    """A window that has closed stays closed, whatever the columns of its key are called now."""
    write_input(tmp_path)
    rows = [
        *(f"a,1,1,1,true,{100 * i},0" for i in range(HALF)),
        "a,1,1,1,true,100,0",
        *(f"a,1,1,1,true,{100 * i},0" for i in range(HALF, 30)),
    ]
    text = "k,v,w,x,b,at,on\n" + "\n".join(rows) + "\n"
    stopped_with(tmp_path, text, windowed(tumbling("1s")))
    build = lambda s: s.rename(k="key").key_by("key").window(tumbling("1s")).aggregate(n=count(), total=SUM, name="op")  # noqa: E731
    topology(tmp_path, build).run(config(tmp_path))
    assert [row["n"] for row in results(tmp_path / "out.jsonl")] == [10, 10, 10]


def stopped_with(place: Path, text: str, build: Build) -> None:
    (place / "in.csv").write_text(text)
    gate = Gate(HALF, hold=True)
    run = topology(place, build, gate).start(config(place))
    assert gate.covered.wait(60)
    run.stop()
    run.wait()
