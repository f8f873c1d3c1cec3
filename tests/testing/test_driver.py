"""TopologyTestDriver: what a crash does to what was read, and what is refused."""

import pyarrow as pa
import pytest

from streamdsl import DataError, StreamError, Topology, count, dead_letter, expanding, memory, tumbling
from streamdsl.testing import TopologyTestDriver


def numbered(**options):
    topology = Topology("numbered")
    stream = topology.stream(memory("in", schema={"k": str, "n": int}), timestamp="n")
    stream.key_by("k").with_columns(c=count().over(expanding())).to(memory("out"))
    return TopologyTestDriver(topology, **options)


def keys(rows):
    return sorted(row["k"] for row in rows)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("checkpoint", [False, True])
def test_each_row_is_read_once_whatever_order_it_comes_back_in(seed, checkpoint):
    driver = numbered(parallelism=3, seed=seed)
    for n, key in enumerate("abc"):
        driver.send("in", {"k": key, "n": n})
    if checkpoint:
        driver.checkpoint()
    seen = driver.read("out")
    for key in "de":
        driver.send("in", {"k": key, "n": 4})
    driver.crash_and_restore(parallelism=2)
    assert keys(seen) == ["a", "b", "c"]
    assert keys(driver.read("out")) == ["d", "e"]
    driver.send("in", {"k": "a", "n": 5})
    driver.crash_and_restore(parallelism=1)
    driver.crash_and_restore(parallelism=4)
    assert driver.read("out") == [{"k": "a", "n": 5, "c": 2}]
    driver.crash_and_restore()
    assert driver.read("out") == []


def test_equal_rows_are_counted():
    topology = Topology("same")
    topology.stream(memory("in", schema={"k": str}), watermarks="external").to(memory("out"))
    driver = TopologyTestDriver(topology)
    for _ in range(3):
        driver.send("in", {"k": "a"}, timestamp=1)
        assert driver.read("out") == [{"k": "a"}]
    driver.send("in", {"k": "a"}, timestamp=1)
    driver.crash_and_restore()
    assert driver.read("out") == [{"k": "a"}]
    assert driver.read("out") == []


def test_a_crash_before_a_window_closes_is_no_reason_to_close_it():
    topology = Topology("windows")
    stream = topology.stream(memory("in", schema={"k": str, "n": int}), timestamp="n")
    stream.key_by("k").window(tumbling("10ms")).count().to(memory("out"))
    driver = TopologyTestDriver(topology, parallelism=2)
    driver.send("in", {"k": "a", "n": 3})
    driver.checkpoint()
    driver.crash_and_restore(parallelism=4)
    assert driver.read("out") == []
    driver.advance_watermark("in", 9)
    assert [row["count"] for row in driver.read("out")] == [1]
    driver.crash_and_restore(parallelism=1)
    assert driver.read("out") == []


def test_batches_of_arrow_are_checked_as_rows_are():
    driver = numbered()
    with pytest.raises(DataError, match="no column 'z'"):
        driver.send_batch("in", pa.table({"k": ["a"], "n": [1], "z": [1]}))
    with pytest.raises(DataError, match="does not fit"):
        driver.send_batch("in", pa.table({"k": ["a"], "n": ["x"]}))
    with pytest.raises(DataError, match="does not fit"):
        driver.send("in", {"k": "a", "n": 2**70})
    driver.send_batch("in", pa.table({"n": pa.chunked_array([[3], [4]]), "k": pa.chunked_array([["a"], ["b"]])}))
    assert keys(driver.read("out")) == ["a", "b"]


def test_a_null_where_none_may_be_is_a_bad_record():
    with pytest.raises(DataError, match="field 'k' is null"):
        numbered().send_batch("in", pa.table({"n": [1, 2]}))
    topology = Topology("t")
    topology.stream(memory("in", schema={"k": str, "n": int}), errors=dead_letter(memory("bad"))).to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("in", {"k": "a", "n": 1})
    driver.send_batch("in", [{"k": "b", "n": 2}, {"n": 3}])
    assert keys(driver.read("out")) == ["a", "b"]
    assert [(letter["value"], letter["offset"]) for letter in driver.read("bad")] == [(b'{"k": null, "n": 3}', 2)]


def test_a_batch_has_a_timestamp_for_each_row():
    with pytest.raises(StreamError, match="2 timestamps for 1 rows"):
        numbered().send_batch("in", [{"k": "a", "n": 1}], timestamps=[1, 2])


def test_nothing_follows_the_end():
    driver = numbered(partitions=2)
    driver.end("in")
    for late in (lambda: driver.send("in", {"k": "a", "n": 1}), lambda: driver.advance_watermark("in", 5), lambda: driver.idle("in")):
        with pytest.raises(StreamError, match="has ended"):
            late()
    driver.end()


def test_the_clock_does_not_go_back():
    with pytest.raises(StreamError, match="does not go back"):
        numbered().advance_processing_time(-1)


def test_an_unknown_partition_takes_nothing():
    driver = numbered(partitions=2)
    with pytest.raises(StreamError, match="no partition 2"):
        driver.send("in", {"k": "a", "n": 1}, partition=2)
    driver.send("in", {"k": "a", "n": 1}, partition=1)
    assert keys(driver.read("out")) == ["a"]
