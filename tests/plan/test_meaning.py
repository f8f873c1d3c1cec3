"""What is compared when a job goes on: the rows and the columns that reach whatever keeps state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from streamdsl import Processor, Topology, TwoInputProcessor, col, count, expanding, memory, rolling, tumbling
from streamdsl.checkpoint.meanings import changes
from streamdsl.compiler import compile

SCHEMA = {"k": str, "v": int, "w": int, "at": int}
Change = Callable[[Any], Any]


class Counted(Processor):
    output = {"k": str, "n": int}

    def process(self, row: Any, ctx: Any) -> Any:
        return {"k": row.k, "n": row.v}

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        return {"k": key, "n": len(rows)}


class Paired(TwoInputProcessor):
    output = {"k": str, "n": int}

    def process_left(self, row: Any, ctx: Any) -> Any:
        return {"k": row.k, "n": row.v}

    def process_right(self, row: Any, ctx: Any) -> Any:
        return {"k": row.k, "n": row.v}


def keyed(s: Any) -> Any:
    return s.key_by("k")


#: Everything that keeps state, over one input.
ONE: dict[str, Change] = {
    "aggregate": lambda s: keyed(s).aggregate(n=count(), total=col("v").sum(), name="op"),
    "window": lambda s: keyed(s).window(tumbling("1s")).aggregate(total=col("v").sum(), name="op"),
    "rolling": lambda s: keyed(s).with_columns(n=col("v").sum().over(rolling("1s")), name="op"),
    "expanding": lambda s: keyed(s).with_columns(n=col("v").sum().over(expanding()), name="op"),
    "lag": lambda s: keyed(s).with_columns(n=col("v").lag(), name="op"),
    "reduce": lambda s: keyed(s).reduce(lambda a, b: b, name="op"),
    "reduce in a window": lambda s: keyed(s).window(tumbling("1s")).reduce(lambda a, b: b, name="op"),
    "deduplicate": lambda s: s.deduplicate(on=["k", "v"], name="op"),
    "Processor": lambda s: keyed(s).process(Counted(), name="op"),
    "Processor of windows": lambda s: keyed(s).window(tumbling("1s")).process(Counted(), name="op"),
    "aggregate of an aggregate": lambda s: (
        keyed(s).window(tumbling("1s")).aggregate(m=col("v").max(), name="first").key_by("k").aggregate(m=col("m").sum(), name="op")
    ),
}

#: Everything that keeps state, over two.
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "interval join": lambda a, b: keyed(a).join(keyed(b), within="1s", name="op"),
    "as-of join": lambda a, b: keyed(a).join_asof(keyed(b), name="op"),
    "join with a table": lambda a, b: a.join(b, on="k", name="op"),
    "join of two tables": lambda a, b: a.join(b, on="k", name="op"),
    "connect": lambda a, b: keyed(a).connect(keyed(b)).process(Paired(), name="op"),
    "merge": lambda a, b: a.merge(b).key_by("k").aggregate(n=count(), total=col("v").sum(), name="op"),
}

CHANGES: dict[str, tuple[Change, Change]] = {
    "another condition": (lambda s: s.filter(col("w") > 3), lambda s: s.filter(col("w") > 4)),
    "a new condition": (lambda s: s, lambda s: s.filter(col("w") > 4)),
    "no condition": (lambda s: s.filter(col("w") > 3), lambda s: s),
    "another expression": (lambda s: s.with_columns(v=col("v") * 2), lambda s: s.with_columns(v=col("v") * 3)),
    "a condition over another expression": (
        lambda s: s.with_columns(x=col("w") * 2).filter(col("x") > 3).select(*SCHEMA),
        lambda s: s.with_columns(x=col("w") * 3).filter(col("x") > 3).select(*SCHEMA),
    ),
}


def found(build: Callable[..., Any], *changes: Change, tables: str = "") -> Any:
    topology = Topology("t")
    made = []
    for name, change in zip("ab", changes, strict=False):
        source = memory(name, schema=SCHEMA)
        made.append(change(topology.table(source, key="k") if name in tables else topology.stream(source, timestamp="at")))
    result = build(*made)
    result = result.to_stream() if hasattr(result, "to_stream") else result
    result.to(memory("out"))
    return compile(topology).physical.meanings


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("verb", ONE)
def test_a_change_in_front_of_state_is_noticed(verb: str, change: str) -> None:
    before, after = CHANGES[change]
    assert changes(found(ONE[verb], before), found(ONE[verb], before)) == {}
    assert "op" in changes(found(ONE[verb], before), found(ONE[verb], after))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("verb", TWO)
def test_a_change_on_either_side_is_noticed(verb: str, side: str, change: str) -> None:
    before, after = CHANGES[change]
    same: Change = lambda s: s  # noqa: E731
    tables = {"join with a table": "b", "join of two tables": "ab"}.get(verb, "")
    was = found(TWO[verb], *((before, same) if side == "left" else (same, before)), tables=tables)
    now = found(TWO[verb], *((after, same) if side == "left" else (same, after)), tables=tables)
    # The filter of a table keeps a table of its own.
    assert [name for name in changes(was, now) if name == "op" or "table" in name]


@pytest.mark.parametrize("verb", ONE)
def test_another_way_to_say_the_same_is_no_change(verb: str) -> None:
    before: Change = lambda s: s.filter((col("w") > 3) & (col("v") < 9)).filter(col("k") != "a")  # noqa: E731
    after: Change = lambda s: s.filter(col("k") != "a").rename(w="y").filter(col("v") < 9).filter(col("y") > 3).rename(y="w")  # noqa: E731
    assert changes(found(ONE[verb], before), found(ONE[verb], lambda s: after(s).select(*SCHEMA))) == {}


def test_another_source_beside_it_is_no_change() -> None:
    def alone(a: Any) -> Any:
        return keyed(a).aggregate(n=count(), name="op")

    was = found(alone, lambda s: s.filter(col("w") > 3))
    both = found(lambda a, b: alone(a.merge(b)), lambda s: s.filter(col("w") > 3), lambda s: s.filter(col("w") > 5))
    assert changes(was, both) == {}


def test_branches_that_meet_again_are_told_by_their_conditions() -> None:
    def build(limit: int, *, swapped: bool = False) -> Callable[[Any], Any]:
        def made(s: Any) -> Any:
            parts = [s.filter(col("v") > limit), s.filter(col("v") <= 3).with_columns(v=col("v") * 1)]
            return keyed(parts[swapped].merge(parts[not swapped])).aggregate(n=count(), name="op")

        return made

    same: Change = lambda s: s  # noqa: E731
    assert changes(found(build(3), same), found(build(3, swapped=True), same)) == {}
    assert "op" in changes(found(build(3), same), found(build(4), same))


def test_what_an_aggregate_computes_counts_for_the_state_behind_it() -> None:
    def build(ddof: int, name: str = "s") -> Callable[[Any], Any]:
        return lambda s: (
            keyed(s)
            .window(tumbling("1s"))
            .aggregate(**{name: col("v").std(ddof=ddof)}, name="first")
            .key_by("k")
            .aggregate(m=col(name).max(), name="op")
        )

    same: Change = lambda s: s  # noqa: E731
    told = changes(found(build(1), same), found(build(0), same))
    assert list(told) == ["op"]
    assert "ddof=1" in told["op"][0]
    assert changes(found(build(1), same), found(build(1, "t"), same)) == {}


def test_thousands_of_conditions_are_told_in_one_line() -> None:
    def build(last: int) -> Change:
        def made(s: Any) -> Any:
            for n in range(3_000):
                s = s.filter(col("v") != n)
            return s.filter(col("v") != last)

        return made

    began = time.process_time()
    was, now = found(ONE["aggregate"], build(-1)), found(ONE["aggregate"], build(-2))
    assert time.process_time() - began < 10
    (told,) = changes(was, now)["op"]
    assert len(told) < 200
