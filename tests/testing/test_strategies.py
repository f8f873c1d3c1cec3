"""The strategies: rows that fit their schema, on time unless asked for, cuts that cover everything."""

import datetime
import subprocess
import sys
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from streamdsl import Field, Schema, Topology, TopologyError, col, memory
from streamdsl.testing import Simulation, TopologyTestDriver, reference
from streamdsl.testing.simulation import judged
from streamdsl.testing.strategies import cuts, keyed_rows, streams, values
from tests.testing import jobs

EVERY_TYPE = [
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.date32()),
    *(pa.timestamp(unit, tz) for unit in ("s", "ms", "us", "ns") for tz in (None, "UTC", "America/Lima")),
    *(pa.decimal128(5, 2), pa.decimal128(38, 9), pa.list_(pa.int32()), pa.large_list(pa.string()), pa.list_(pa.int8(), 2)),
    *(pa.struct([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string())]), pa.map_(pa.string(), pa.float64())),
]
KEYS = [type_ for type_ in EVERY_TYPE if not pa.types.is_nested(type_) and not pa.types.is_decimal(type_)]
quick = settings(max_examples=20, deadline=None)


@pytest.mark.parametrize("type_", EVERY_TYPE, ids=str)
def test_rows_of_every_type_fit_and_pass_through(type_):
    topology = Topology("pass")
    schema = pa.schema([pa.field("v", type_), pa.field("w", type_, nullable=False)])
    topology.stream(memory("in", schema=schema)).to(memory("out"))

    @quick
    @given(keyed_rows(schema, max_size=5))
    def test(rows):
        found = [row for _, row in reference(topology, {"in": rows})["out"]]
        assert pa.RecordBatch.from_pylist(found, schema=schema) == pa.RecordBatch.from_pylist(rows, schema=schema)

    test()


@pytest.mark.parametrize("type_", EVERY_TYPE, ids=str)
def test_nulls_come_where_they_may(type_):
    assert find(values(Field("v", type_)), lambda value: value is None) is None
    assert find(values(Field("v", type_)), lambda value: value is not None) is not None

    @quick
    @given(values(Field("v", type_, nullable=False)))
    def test(value):
        assert value is not None

    test()


@pytest.mark.parametrize("type_", KEYS, ids=str)
def test_keys_meet_again(type_):
    schema = pa.schema([pa.field("k", type_, nullable=False), pa.field("n", pa.int64())])
    rows = find(keyed_rows(schema, key="k", keys=2, min_size=4), lambda rows: True)
    assert len({row["k"] for row in rows}) < len(rows)
    assert len({row["k"] for row in find(keyed_rows(schema, key="k", keys=2), lambda rows: len({row["k"] for row in rows}) == 2)}) == 2

    @quick
    @given(keyed_rows(schema, key="k", keys=3))
    def test(rows):
        assert len({row["k"] for row in rows}) <= 3

    test()


def test_many_keys_are_different_ones():
    @quick
    @given(keyed_rows({"k": str}, key="k", keys=100, columns={}))
    def test(rows):
        assert all(row["k"] is None or row["k"].isalpha() for row in rows)

    test()
    schema = pa.schema([pa.field("k", pa.string(), nullable=False)])
    assert find(keyed_rows(schema, key="k", keys=30), lambda rows: any(len(row["k"]) == 2 for row in rows))


TIMES = [pa.int64(), pa.int32(), pa.int16(), pa.uint32(), *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns"))]


@pytest.mark.parametrize("disorder", [0, 50, 1_500])
@pytest.mark.parametrize("type_", TIMES, ids=str)
def test_no_row_is_late_and_all_disorder_comes(type_, disorder):
    topology = Topology("timed")
    schema = pa.schema([pa.field("at", type_, nullable=False)])
    topology.stream(memory("in", schema=schema), timestamp="at", disorder=disorder).to(memory("out"))

    def times(rows):
        return [time for time, _ in reference(topology, {"in": rows})["out"]]

    @settings(max_examples=50, deadline=None)
    @given(keyed_rows(schema, timestamp="at", max_disorder_ms=disorder))
    def test(rows):
        found = times(rows)
        assert all(time >= max(found[: i + 1]) - disorder for i, time in enumerate(found))

    test()
    if disorder >= 1_000 or (disorder and type_ != pa.timestamp("s")):
        find(keyed_rows(schema, timestamp="at", max_disorder_ms=disorder), lambda rows: times(rows) != sorted(times(rows)))


def test_sizes_and_columns_can_be_chosen():
    @quick
    @given(keyed_rows({"k": str, "x": float}, min_size=2, max_size=4, columns={"x": st.just(7.5)}))
    def test(rows):
        assert 2 <= len(rows) <= 4
        assert all(row["x"] == 7.5 for row in rows)
        assert all(list(row) == ["k", "x"] for row in rows)

    test()


@dataclass
class Visit:
    user: str
    city: str | None
    at: datetime.datetime


def test_a_dataclass_is_a_schema():
    @quick
    @given(keyed_rows(Visit, key=("user", "city"), timestamp="at"))
    def test(rows):
        assert all(isinstance(row["user"], str) and isinstance(row["at"], datetime.datetime) for row in rows)

    test()


def test_wrong_arguments_are_refused():
    with pytest.raises(TopologyError, match="unknown column 'who'"):
        keyed_rows({"k": str}, key="who")
    with pytest.raises(TopologyError, match="unknown column 'when'"):
        keyed_rows({"k": str}, timestamp="when")
    with pytest.raises(TopologyError, match="not a time"):
        keyed_rows({"k": str}, timestamp="k")
    with pytest.raises(TopologyError, match="at least 1"):
        keyed_rows({"k": str}, key="k", keys=0)
    with pytest.raises(TopologyError, match="cannot be a key"):
        keyed_rows({"k": list[int]}, key="k")
    with pytest.raises(TopologyError, match="not negative"):
        cuts(-1)
    with pytest.raises(TopologyError, match="no source 'out'"):
        streams(jobs.frames, columns={"out": {}})


@quick
@given(st.integers(0, 40), st.data())
def test_cuts_cover_everything_once(n, data):
    found = data.draw(cuts(n))
    rows = list(range(n))
    assert [row for cut in found for row in rows[cut]] == rows
    assert all(rows[cut] for cut in found)


def test_cuts_come_in_all_sizes():
    assert find(cuts(4), lambda found: len(found) == 4) == [slice(i, i + 1) for i in range(4)]
    assert find(cuts(4), lambda found: True) == [slice(0, 4)]


@quick
@given(st.data())
def test_cuts_serve_a_driver(data):
    rows = jobs.rows(3, 20)
    driver = TopologyTestDriver(jobs.frames())
    for cut in data.draw(cuts(len(rows))):
        driver.send_batch("in", rows[cut])
    driver.end()
    assert driver.read("out") == [row for _, row in reference(jobs.frames, {"in": rows})["out"]]


def test_streams_know_keys_times_and_disorder():
    @quick
    @given(streams(jobs.two_sources, keys=2))
    def test(data):
        assert set(data) == {"a", "b"}
        for rows in data.values():
            assert {row["user"] for row in rows} <= {"a", "b", None}
            assert {row["city"] for row in rows} <= {"a", "b"}

    test()

    @quick
    @given(streams(jobs.windows))
    def on_time(data):
        assert not judged(jobs.windows(), data).alone

    on_time()
    late = find(streams(jobs.windows, max_late_ms=500), lambda data: judged(jobs.windows(), data).alone)
    assert len(late["in"]) == 2


@quick
@given(streams(jobs.rules, max_size=8), st.integers(0, 100))
def test_streams_serve_a_simulation(data, seed):
    Simulation(jobs.rules, data, seed).run()


def test_a_schema_with_hidden_columns_has_visible_rows():
    schema = Schema((Field("a", pa.int64(), nullable=False), Field("h", pa.int64(), hidden=True)))
    assert find(keyed_rows(schema), lambda rows: len(rows) == 1) == [{"a": 0}]


def test_computed_keys_are_left_alone():
    topology = Topology("computed")
    topology.stream(memory("in", schema={"k": str, "n": int})).key_by(half=col("n") / 2).count().to(memory("out"))
    find(streams(topology), lambda data: any(row["n"] not in (None, 0, 1, 2) for row in data["in"]))


def test_hypothesis_is_imported_when_it_is_needed():
    code = "import sys, streamdsl.testing, streamdsl.testing.strategies; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_hypothesis_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"streamdsl\[test\]"):
        cuts(3)
