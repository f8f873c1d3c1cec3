"""Small keyed jobs driven through the real tasks, and the data that Hypothesis draws for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from streamdsl import Aggregate, Topology, col, count, memory
from streamdsl.testing import TopologyTestDriver
from tests.aggregates.oracle import Arrival, Row

SCHEMA = {"k": str | None, "i": int | None, "f": float | None, "s": str | None, "b": bool | None, "t": int | None}

#: The columns of `oracle.EXPECTED`, as a user writes them.
AGGREGATES = {
    "n": count(),
    "n_i": col("i").count(),
    "sum_i": col("i").sum(),
    "sum_f": col("f").sum(),
    "sum_b": col("b").sum(),
    "min_i": col("i").min(),
    "max_f": col("f").max(),
    "min_f": col("f").min(),
    "max_s": col("s").max(),
    "min_b": col("b").min(),
    "mean_i": col("i").mean(),
    "mean_f": col("f").mean(),
    "std_f": col("f").std(ddof=0),
    "var_i": col("i").var(),
    "first_s": col("s").first(),
    "last_f": col("f").last(),
    "list_s": col("s").to_list(),
    "list_f": col("f").to_list(),
    "unique_s": col("s").n_unique(),
    "unique_f": col("f").n_unique(),
    "max_by": col("s").max_by(col("f")),
    "min_by": col("i").min_by(col("s")),
    "top": col("s").top_k(2, by=col("i")),
    "some": col("i").sum().filter(col("b")),
    "joined": Aggregate(lambda: "", lambda joined, value: joined + value, type=str)(col("s")),
}


def row(k: str | None = "a", *, i: int | None = None, f: float | None = None, s: str | None = None, b: bool | None = None) -> Row:
    """Return a row of the input; `t` is filled in when it is sent."""
    return {"k": k, "i": i, "f": f, "s": s, "b": b, "t": 0}


def driven(job: Callable[[Any], Any], *, late: str | None = None, **options: Any) -> TopologyTestDriver:
    """Return a driver of: rows keyed by `k` → `job` → "out" (and its late rows to "late")."""
    topology = Topology("job")
    source = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external")
    made = job(source.key_by("k"))
    made.to(memory("out"))
    if late is not None:
        made.output(late).to(memory("late"))
    return TopologyTestDriver(topology, **options)


def send(driver: TopologyTestDriver, arrivals: Sequence[Arrival]) -> None:
    """Send runs of records as batches, watermarks where they stand between them."""
    waiting: list[Row] = []
    for arrival in [*arrivals, None]:
        if arrival is not None and arrival.row is not None:
            waiting.append(arrival.row | {"t": arrival.time})
            continue
        if waiting:
            driver.send_batch("in", waiting)
            waiting = []
        if arrival is not None:
            driver.advance_watermark("in", arrival.time)


def cut(driver: TopologyTestDriver, arrivals: Sequence[Arrival], cuts: Sequence[int]) -> None:
    """Send the arrivals in pieces that end at the cuts."""
    at = 0
    for end in [*sorted(set(cuts)), len(arrivals)]:
        send(driver, arrivals[at:end])
        at = max(at, end)


FLOATS = st.one_of(st.sampled_from([0.0, -0.0, 1.5, 1e308, -1e308, float("nan"), float("inf"), 5e-324]), st.floats(-100, 100))
ROWS = st.builds(
    row,
    st.sampled_from(["a", "a", "a", "b", "", "ab", "ñandú"]),
    i=st.none() | st.integers(-5, 5) | st.integers(-(2**40), 2**40),
    f=st.none() | FLOATS,
    s=st.none() | st.sampled_from(["", "x", "xy", 'say "no"\n', "\\", "ñandú", "a long text that needs more room than the others"]),
    b=st.none() | st.booleans(),
)


def arrivals(times: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[list[Arrival]]:
    """Draw records out of order, with watermarks between them."""
    moments = st.integers(-40, 60) if times is None else times
    record = st.builds(Arrival, moments, ROWS)
    watermark = st.builds(Arrival, moments, st.none())
    one = st.one_of(record, record, record, record, record, watermark)
    # Lists are short unless they are told to be long, and then several records share a frame.
    return st.sampled_from([0, 1, 3, 12, 25, 40]).flatmap(lambda n: st.lists(one, min_size=n, max_size=n + 5)).map(timed)


def timed(drawn: list[Arrival]) -> list[Arrival]:
    """Let each row carry its time, as it will come out again."""
    return [arrival if arrival.row is None else Arrival(arrival.time, arrival.row | {"t": arrival.time}) for arrival in drawn]


def rising(drawn: list[Arrival]) -> list[Arrival]:
    """Put the records in order of time."""
    records = iter(sorted((arrival for arrival in drawn if arrival.row is not None), key=lambda arrival: arrival.time))
    return [arrival if arrival.row is None else next(records) for arrival in drawn]
