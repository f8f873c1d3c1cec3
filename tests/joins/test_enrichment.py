"""A stream beside a table, and beside the latest row of another stream: what a newcomer writes to enrich records."""

import csv
import random

import pytest

from streamdsl import Config, Topology, TopologyError, col, count, files, memory
from streamdsl.testing import TopologyTestDriver

TX = {"customer": str | None, "at": int, "n": int}
CUSTOMERS = {"customer": str, "at": int, "city": str | None}


def drawn(seed, n, m, keys=7, end=1_000):
    chance = random.Random(seed)
    transactions = [{"customer": f"c{chance.randrange(keys + 2)}", "at": chance.randrange(end), "n": i} for i in range(n)]
    changes = [{"customer": f"c{chance.randrange(keys)}", "at": chance.randrange(end), "city": f"v{i}"} for i in range(m)]
    return sorted(transactions, key=lambda row: row["at"]), sorted(changes, key=lambda row: row["at"])


def truth(transactions, changes, *, tolerance=None, exact=True):
    """The latest change at or before each transaction, by brute force."""
    found = {}
    for row in transactions:
        seen = [one for one in changes if one["customer"] == row["customer"] and one["at"] <= row["at"] - (not exact)]
        best = seen[-1] if seen and (tolerance is None or row["at"] - seen[-1]["at"] <= tolerance) else None
        found[row["n"]] = None if best is None else best["city"]
    return found


def cities(rows):
    return {row["n"]: row["city"] for row in rows}


@pytest.mark.parametrize(("parallelism", "batch_rows"), [(1, 1000), (1, 5), (3, 20)])
@pytest.mark.parametrize("declared", ["table first", "stream first"])
def test_a_stream_meets_the_table_as_it_is_at_its_time(parallelism, batch_rows, declared):
    transactions, changes = drawn(1, 400, 60, end=300)
    topology = Topology("t")
    read = [
        lambda: topology.table(memory("customers", CUSTOMERS, changes), key="customer", timestamp="at"),
        lambda: topology.stream(memory("tx", TX, transactions), timestamp="at"),
    ]
    table, stream = [one() for one in read] if declared == "table first" else [one() for one in reversed(read)][::-1]
    rows = stream.join(table, on="customer", how="left").collect(Config(parallelism=parallelism, batch_rows=batch_rows)).to_pylist()
    assert len(rows) == 400
    assert cities(rows) == truth(transactions, changes)


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize(("tolerance", "exact"), [(None, True), (None, False), (40, True), (0, True), (25, False)])
def test_as_of_in_any_order_of_arrival(parallelism, tolerance, exact):
    transactions, changes = drawn(2, 300, 80, end=400)
    chance = random.Random(3)
    unordered = sorted(transactions, key=lambda row: row["at"] + chance.randrange(50))
    late_changes = sorted(changes, key=lambda row: row["at"] + chance.randrange(50) // 50)
    topology = Topology("t")
    left = topology.stream(memory("tx", TX, unordered), timestamp="at", disorder=100)
    right = topology.stream(memory("customers", CUSTOMERS, late_changes), timestamp="at", disorder=100)
    joined = left.join_asof(right, by="customer", tolerance=tolerance, allow_exact=exact)
    rows = joined.collect(Config(parallelism=parallelism, batch_rows=9)).to_pylist()
    assert len(rows) == 300
    assert cities(rows) == truth(transactions, changes, tolerance=tolerance, exact=exact)
    inner = left.join_asof(right, by="customer", how="inner", tolerance=tolerance, allow_exact=exact, name="inner").collect().to_pylist()
    assert cities(inner) == {n: city for n, city in truth(transactions, changes, tolerance=tolerance, exact=exact).items() if city}


def write(path, rows):
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


@pytest.mark.parametrize("way", ["table", "as of"])
def test_two_files_of_a_newcomer(tmp_path, way):
    """100,000 transactions and 1,000 changes of customers: the truth in every row."""
    transactions, changes = drawn(4, 100_000, 1_000, keys=100, end=10_000_000)
    write(tmp_path / "tx.csv", transactions)
    write(tmp_path / "customers.csv", changes)
    topology = Topology("enrich")
    stream = topology.stream(files(tmp_path / "tx.csv", TX), timestamp="at")
    source = files(tmp_path / "customers.csv", CUSTOMERS)
    if way == "table":
        joined = stream.join(topology.table(source, key="customer", timestamp="at"), on="customer", how="left")
    else:
        joined = stream.join_asof(topology.stream(source, timestamp="at"), by="customer")
    rows = joined.collect()
    latest, at, expected = {}, 0, []
    for row in transactions:
        while at < len(changes) and changes[at]["at"] <= row["at"]:
            latest[changes[at]["customer"]] = changes[at]["city"]
            at += 1
        expected.append(latest.get(row["customer"]))
    assert dict(zip(rows["n"].to_pylist(), rows["city"].to_pylist(), strict=True)) == dict(enumerate_by_n(transactions, expected))


def enumerate_by_n(transactions, expected):
    return zip((row["n"] for row in transactions), expected, strict=True)


def driver_of(how="inner"):
    topology = Topology("t")
    table = topology.table(memory("customers", {"customer": str, "city": str | None}), key="customer")
    stream = topology.stream(memory("tx", TX), timestamp="at")
    stream.join(table, on="customer", how=how).to(memory("out"))
    return TopologyTestDriver(topology)


def tx(driver, customer, n):
    driver.send("tx", {"customer": customer, "at": n, "n": n})
    return [row["city"] for row in driver.read("out")]


def test_only_the_stream_side_emits_and_a_tombstone_withdraws():
    driver = driver_of()
    assert tx(driver, "a", 1) == []
    driver.send("customers", {"customer": "a", "city": "Lima"}, timestamp=1)
    assert driver.read("out") == []
    assert tx(driver, "a", 2) == ["Lima"]
    assert tx(driver, None, 3) == []
    driver.send("customers", {"customer": "a", "city": None}, timestamp=4)
    assert tx(driver, "a", 5) == []


def test_left_keeps_rows_without_a_match_and_with_a_null_key():
    driver = driver_of("left")
    assert tx(driver, "a", 1) == [None]
    assert tx(driver, None, 2) == [None]


def test_the_table_survives_a_crash():
    driver = driver_of()
    driver.send("customers", {"customer": "a", "city": "Lima"}, timestamp=1)
    driver.checkpoint()
    driver.crash_and_restore(parallelism=3)
    assert tx(driver, "a", 2) == ["Lima"]


def test_rows_that_wait_for_the_watermark_survive_a_crash():
    topology = Topology("t")
    left = topology.stream(memory("tx", TX), timestamp="at", watermarks="external")
    right = topology.stream(memory("customers", CUSTOMERS), timestamp="at", watermarks="external")
    left.join_asof(right, by="customer").to(memory("out"))
    driver = TopologyTestDriver(topology)
    driver.send("tx", {"customer": "a", "at": 10, "n": 1})
    driver.checkpoint()
    driver.crash_and_restore(parallelism=2)
    driver.send("customers", {"customer": "a", "at": 10, "city": "Lima"})
    driver.send("customers", {"customer": "a", "at": 11, "city": "Cusco"})
    driver.advance_watermark("tx", 10)
    assert driver.read("out") == []
    driver.advance_watermark("customers", 10)
    assert [row["city"] for row in driver.read("out")] == ["Lima"]


def test_a_table_of_aggregates_is_joined_with():
    topology = Topology("t")
    stream = topology.stream(memory("tx", TX), timestamp="at")
    other = topology.stream(memory("customers", CUSTOMERS), timestamp="at")
    moves = other.key_by("customer").aggregate(moves=count())
    stream.join(moves, on="customer").to(memory("out"))
    driver = TopologyTestDriver(topology)
    for at in (1, 2):
        driver.send("customers", {"customer": "a", "at": at, "city": "x"})
    driver.send("tx", {"customer": "a", "at": 3, "n": 3})
    assert [row["moves"] for row in driver.read("out")] == [2]


def test_what_means_nothing_is_refused():
    topology = Topology("t")
    table = topology.table(memory("customers", CUSTOMERS), key="customer", timestamp="at")
    stream = topology.stream(memory("tx", TX), timestamp="at")
    with pytest.raises(TopologyError, match="within= means nothing where the right side is a table"):
        stream.join(table, on="customer", within="5s")
    with pytest.raises(TopologyError, match="the table has one row for each customer, not for each 'n'"):
        stream.join(table, on="n")
    with pytest.raises(TopologyError, match="how='outer' is unknown"):
        stream.join(table, on="customer", how="outer")
    with pytest.raises(TopologyError, match=r"has \.to_stream"):
        stream.join_asof(table, by="customer")
    with pytest.raises(TopologyError, match=r"on='n' is not the event time"):
        stream.join_asof(stream.filter(col("n") > 0), by="customer", on="n")
