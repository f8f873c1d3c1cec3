"""deduplicate: of equal records the first by arrival; a time bounds what counts as equal, and how long it is remembered."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, TopologyError, col, memory
from streamdsl.testing import TopologyTestDriver

SCHEMA = {"k": str | None, "n": int, "t": int}


def job(within: Any = None, on: Any = "k", parallelism: int = 1, **options: Any) -> TopologyTestDriver:
    topology = Topology("job")
    stream = topology.stream(memory("in", schema=SCHEMA), timestamp="t", watermarks="external")
    kept = stream.deduplicate(on=on, within=within, name="once")
    kept.to(memory("out"))
    if within is not None:
        kept.output("late").to(memory("late"))
    return TopologyTestDriver(topology, parallelism=parallelism, **options)


def rows(*records: tuple[str | None, int]) -> list[dict[str, Any]]:
    return [{"k": k, "n": n, "t": t} for n, (k, t) in enumerate(records)]


def kept(driver: TopologyTestDriver, sink: str = "out") -> list[int]:
    return [row["n"] for row in driver.read(sink)]


def test_the_first_of_a_key_stays_for_ever_without_a_time() -> None:
    driver = job()
    driver.send_batch("in", rows(("a", 5), ("b", 5), ("a", 9), ("a", 1)))
    driver.advance_watermark("in", 10**12)
    driver.send_batch("in", rows(("a", 7), ("c", 7)))
    assert kept(driver) == [0, 1, 1]


def test_a_duplicate_lies_less_than_the_time_away_before_or_after() -> None:
    driver = job(within=10)
    driver.send_batch("in", rows(("a", 100), ("a", 109), ("a", 110), ("a", 91), ("a", 90), ("a", 95), ("a", 119), ("a", 120)))
    # 109 is near 100, 110 is not; 91 is near 100, 90 is not; 95 is near both; 119 is near 110, 120 is not.
    assert kept(driver) == [0, 2, 4, 7]


def test_a_duplicate_is_known_up_to_the_last_moment() -> None:
    driver = job(within=10)
    driver.send_batch("in", rows(("a", 100), ("b", 99)))
    for watermark in (101, 108):
        driver.advance_watermark("in", watermark)
    driver.send_batch("in", rows(("a", 109), ("b", 109)))
    assert kept(driver) == [0, 1, 1]


def test_a_dropped_record_does_not_prolong_the_time() -> None:
    driver = job(within=10)
    driver.send_batch("in", rows(*(("a", t) for t in range(0, 31, 5))))
    assert kept(driver) == [0, 2, 4, 6]


def test_records_at_or_below_the_watermark_are_late_and_counted() -> None:
    driver = job(within=10)
    driver.send_batch("in", rows(("a", 100)))
    driver.advance_watermark("in", 150)
    driver.send_batch("in", rows(("b", 151), ("c", 150), ("a", 149), ("a", 160)))
    assert (kept(driver), kept(driver, "late")) == ([0, 0, 3], [1, 2])
    (figures,) = [found for task in driver.metrics()["tasks"] for name, found in task["operators"].items() if name == "once"]
    assert (figures["late"], figures["duplicates"]) == (2, 0)


def test_nothing_is_late_without_a_time() -> None:
    driver = job()
    driver.advance_watermark("in", 150)
    driver.send_batch("in", rows(("a", 3), ("a", 4)))
    assert kept(driver) == [0]


def test_rows_with_a_null_key_are_dropped() -> None:
    driver = job()
    driver.send_batch("in", rows((None, 1), ("a", 2), (None, 3)))
    assert kept(driver) == [1]


@pytest.mark.parametrize("restored", [1, 3])
def test_the_state_is_freed_as_the_watermark_passes(restored: int) -> None:
    driver = job(within=10)
    for start in range(0, 1_000, 100):
        driver.send_batch("in", rows(*((f"k{i}", i) for i in range(start + 1, start + 101))))
        driver.advance_watermark("in", start + 90)
    driver.advance_watermark("in", 1_000)
    assert {key for key in driver.state("once")} <= {f"k{i}" for i in range(992, 1_001)}
    driver.checkpoint()
    driver.crash_and_restore(restored)
    assert len(driver.state("once")) == 9
    for watermark in range(1_001, 1_101, 5):
        driver.advance_watermark("in", watermark)
    assert driver.state("once") == {}


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_state_that_memory_has_no_room_for_is_freed_too(backend: Any, tmp_path: Path) -> None:
    """Keys that never come again leave the database when their time is over, whatever has been evicted."""
    keys = 4_000
    given = [{"k": f"key-{i}", "n": i, "t": i} for i in range(keys)]
    given += [{"k": "late", "n": 0, "t": 3 * keys + i} for i in range(3)]
    topology = Topology("job")
    out = memory("out")
    topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="t").deduplicate(on="k", within=2 * keys).to(out)
    config = Config(state_backend=backend, state_memory="64KiB", parallelism=1, batch_rows=100, state_dir=tmp_path)
    state = topology.run(config).metrics()["state"]
    assert len(out.rows()) == keys + 1
    assert state["evicted"] > keys
    assert max(state["keys"], state["cold_keys"]) <= 2, "the last key, and its place in the index"


def expected(steps: list[Any], within: int | None) -> tuple[list[int], list[int]]:
    """The rule, record by record."""
    watermark, seen, out, late = -(2**63), {}, [], []
    for n, step in enumerate(steps):
        if isinstance(step, int):
            watermark = max(watermark, step)
            continue
        key, time = step
        if within is not None and time <= watermark:
            late.append(n)
        elif not any(within is None or abs(time - other) < within for other in seen.get(key, [])):
            seen.setdefault(key, []).append(time)
            out.append(n)
    return out, late


TIMES = st.one_of(st.integers(-30, 60), st.sampled_from([-(2**62), 2**62]))
STEPS = st.lists(
    st.one_of(st.tuples(st.sampled_from("abc"), TIMES), st.tuples(st.sampled_from("abc"), TIMES), st.integers(-40, 70)), max_size=25
)


@settings(max_examples=200, deadline=None)
@given(
    steps=STEPS,
    within=st.sampled_from([None, 1, 7, 20, 2**61]),
    batch=st.integers(1, 6),
    crash=st.integers(0, 25),
    parallelism=st.integers(1, 3),
)
@example(steps=[("a", 50), ("a", 0), ("a", 3), 30, ("a", 45)], within=7, batch=5, crash=3, parallelism=2)
def test_any_cut_crash_and_parallelism_keeps_the_same(steps: list[Any], within: Any, batch: int, crash: int, parallelism: int) -> None:
    driver = job(within=within)
    waiting: list[dict[str, Any]] = []
    for n, step in enumerate([*steps, -(2**63)]):
        if waiting and (isinstance(step, int) or len(waiting) == batch):
            driver.send_batch("in", waiting)
            waiting = []
        if n == crash and not waiting:
            driver.checkpoint()
            driver.crash_and_restore(parallelism)
        if not isinstance(step, int):
            waiting.append({"k": step[0], "n": n, "t": step[1]})
        elif step > -(2**63):
            driver.advance_watermark("in", step)
    out, late = expected(steps, within)
    assert sorted(kept(driver)) == out
    assert within is None or sorted(kept(driver, "late")) == late


def test_keys_without_room_in_memory_are_remembered(tmp_path: Any) -> None:
    count = 20_000
    data = [{"k": f"customer-{i % (count // 2):08}", "n": i, "t": i // 10} for i in range(count)]
    out = memory("out")
    topology = Topology("job")
    topology.stream(memory("in", schema=SCHEMA, rows=data), timestamp="t").deduplicate(on="k", within="1h").to(out)
    topology.run(Config(state_dir=tmp_path, state_memory=2 << 20, batch_rows=500))
    assert sorted(row["n"] for row in out.rows()) == list(range(count // 2))


def test_several_columns_and_expressions_make_records_equal() -> None:
    driver = job(on=["k", (col("n") % 2).alias("odd")])
    driver.send_batch("in", [{"k": k, "n": n, "t": 0} for k, n in [("a", 0), ("a", 1), ("a", 2), ("b", 3), ("a", 5)]])
    found = driver.read("out")
    assert [row["n"] for row in found] == [0, 1, 3]


def test_a_keyed_stream_goes_on_by_its_key() -> None:
    topology = Topology("job")
    data = rows(("a", 0), ("a", 1), ("b", 2))
    keyed = topology.stream(memory("in", schema=SCHEMA, rows=data), timestamp="t").key_by("k")
    assert keyed.deduplicate().count().to_stream().collect().column("count").to_pylist() == [1, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [({}, "does not know what makes records equal"), ({"on": "k", "within": 0}, "is no time"), ({"on": "x"}, "unknown column")],
)
def test_what_cannot_be_is_refused_when_it_is_written(options: dict[str, Any], says: str) -> None:
    stream = Topology("job").stream(memory("in", schema=SCHEMA))
    with pytest.raises(TopologyError, match=says):
        stream.deduplicate(**options)
