"""Tables that change: their rows at the end, and every change on the way, against a dictionary."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, TopologyError, col, count, lit, memory
from streamdsl.testing import TopologyTestDriver

PEOPLE = {"id": str, "name": str | None}
CITIES = {"id": str, "city": str | None}
EVENTS = st.lists(st.tuples(st.sampled_from(["people", "cities"]), st.sampled_from("abc"), st.none() | st.sampled_from("xyz")), max_size=25)


def applied(rows, keys=("id",)):
    """Apply changes to an empty table; each must fit what is there."""
    table = {}
    for row in rows:
        op, key = row.pop("op"), tuple(row[name] for name in keys)
        if op == "add":
            assert key not in table, "added twice"
        elif op == "replace":
            assert key in table, "replaced, but not there"
        else:
            assert table[key] == row, "withdrawn with other values than it had"
        if op == "withdraw":
            del table[key]
        else:
            table[key] = row
    return table


def job(how):
    topology = Topology("t")
    people = topology.table(memory("people", PEOPLE), key="id")
    cities = topology.table(memory("cities", CITIES), key="id")
    people.join(cities, how=how).to_stream().to(memory("out"))
    return topology


def expected(events, how):
    people = {key: value for side, key, value in events if side == "people"}
    cities = {key: value for side, key, value in events if side == "cities"}
    people, cities = ({key: value for key, value in one.items() if value is not None} for one in (people, cities))
    keys = {"inner": people.keys() & cities.keys(), "left": people.keys(), "right": cities.keys(), "outer": people.keys() | cities.keys()}
    return {(key,): {"id": key, "name": people.get(key), "city": cities.get(key)} for key in keys[how]}


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from(["inner", "left", "right", "outer"]), st.sampled_from([1, 3]), st.integers(0, 25))
def test_two_tables_joined(events, how, parallelism, crash_at):
    driver = TopologyTestDriver(job(how), parallelism=parallelism)
    rows = []
    for number, (side, key, value) in enumerate(events):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        driver.send(side, {"id": key, "name" if side == "people" else "city": value}, timestamp=number)
        rows += driver.read("out")
    assert applied(rows) == expected(events, how)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.booleans())
def test_a_filtered_table(events, whole_nulls):
    """A row that no longer passes is withdrawn, one that never passed is not heard of; rows may hold nothing but nulls."""
    topology = Topology("t")
    table = topology.stream(memory("in", {"id": str, "v": str | None}), timestamp=None).key_by("id").aggregate(last=col("v").last())
    condition = col("last").is_null() if whole_nulls else col("last") != "y"
    table.filter(condition).to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    latest = {}
    for number, (_, key, value) in enumerate(events):
        driver.send("in", {"id": key, "v": value}, timestamp=number)
    rows = driver.read("out")
    for _, key, value in events:
        latest[key] = value
    found = applied(rows)
    assert set(found) <= {(key,) for key in latest}
    shown = {key for (key,), row in found.items() for _ in [row]}
    kept = {row["id"] for row in found.values() if (row["last"] is None if whole_nulls else row["last"] not in (None, "y"))}
    assert shown == kept


def test_rows_of_a_table_are_computed_from():
    topology = Topology("t")
    table = topology.table(memory("people", PEOPLE), key="id")
    shown = table.with_columns(short=col("name").str.slice(0, 1)).select("short").filter(col("short") == "A")
    shown.to(memory("out"))
    driver = TopologyTestDriver(topology)
    for name in ("Ada", "Bob", "Abe", None):
        driver.send("people", {"id": "1", "name": name}, timestamp=1)
    assert [row["short"] for row in driver.read("out")] == ["A", None, "A", None]


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_joined_table_is_enriched_with_and_joined_again(parallelism):
    chance = random.Random(5)
    orders = [{"id": f"k{chance.randrange(9)}", "n": i} for i in range(60)]
    topology = Topology("t")
    counts = topology.stream(memory("orders", {"id": str, "n": int}, orders)).key_by("id").aggregate(n=count())
    people = topology.table(memory("people", PEOPLE, [{"id": f"k{i}", "name": f"p{i}"} for i in range(6)]), key="id")
    cities = topology.table(memory("cities", CITIES, [{"id": f"k{i}", "city": f"c{i}"} for i in range(4)]), key="id")
    rows = counts.join(people, how="left").join(cities, how="left", name="all").collect(Config(parallelism=parallelism)).to_pylist()
    latest = applied(rows)
    for (key,), row in latest.items():
        number = int(key[1:])
        assert row["n"] == sum(order["id"] == key for order in orders)
        assert (row["name"], row["city"]) == (f"p{number}" if number < 6 else None, f"c{number}" if number < 4 else None)


def test_what_cannot_be_is_refused():
    topology = Topology("t")
    people = topology.table(memory("people", PEOPLE), key="id")
    other = topology.table(memory("other", {"number": int, "x": int}), key="number")
    with pytest.raises(TopologyError, match="'id' is string on the left, 'number' is int64"):
        people.join(other)
    with pytest.raises(TopologyError, match="'name' is string on the left, 'number' is int64"):
        people.join(other, on="name")
    with pytest.raises(TopologyError, match="not for each id, name"):
        people.join(other, on=["id", "name"])
    with pytest.raises(TopologyError, match="how='outer' has no key"):
        people.join(people, on="name", how="outer")
    with pytest.raises(TopologyError, match=r"(?s)no column 'nme'.*did you mean 'name'"):
        people.join(people, on="nme")
    with pytest.raises(TopologyError, match="belongs to the table's key"):
        people.with_columns(id=lit("x"))
    with pytest.raises(TopologyError, match="belongs to the table's key"):
        people.drop("id")
    with pytest.raises(TopologyError, match="is not a table"):
        people.join(topology.stream(memory("s", PEOPLE)))


MOVES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.none() | st.tuples(st.sampled_from("xyz"), st.none() | st.integers(-9, 9))), max_size=25
)


def grouped(derived):
    topology = Topology("t")
    schema = {"id": str, "city": str | None, "n": int | None}
    if derived:
        keyed = topology.stream(memory("in", {**schema, "id": str}), timestamp=None).key_by("id")
        table = keyed.aggregate(city=col("city").last(), n=col("n").last()).filter(col("city").is_not_null())
    else:
        table = topology.table(memory("in", schema), key="id")
    groups = table.group_by("city").aggregate(rows=count(), total=col("n").sum(), mean=col("n").mean(), big=count().filter(col("n") > 3))
    groups.to_stream().to(memory("out"))
    return topology


@settings(max_examples=60, deadline=None)
@given(MOVES, st.sampled_from([1, 3]), st.integers(0, 25))
def test_groups_of_a_table_are_exact_at_the_end(moves, parallelism, crash_at):
    """Regrouping a table withdraws the old row before it adds the new one."""
    driver = TopologyTestDriver(grouped(False), parallelism=parallelism)
    rows, table = [], {}
    for number, (key, value) in enumerate(moves):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        city, n = value or (None, None)
        driver.send("in", {"id": key, "city": city, "n": n}, timestamp=number)
        rows += driver.read("out")
        table[key] = value
    groups = {}
    for value in table.values():
        if value is not None:
            groups.setdefault(value[0], []).append(value[1])
    found = applied(rows, ("city",))
    assert set(found) == {(city,) for city in groups}
    for (city,), row in found.items():
        values = [n for n in groups[city] if n is not None]
        assert row["rows"] == len(groups[city])
        assert row["total"] == sum(values)
        assert row["mean"] == (sum(values) / len(values) if values else None)
        assert row["big"] == sum(n > 3 for n in values)


def test_groups_of_a_derived_table():
    driver = TopologyTestDriver(grouped(True))
    for number, (key, city, n) in enumerate([("a", "x", 1), ("b", "x", 2), ("a", "y", 5), ("b", None, 9)]):
        driver.send("in", {"id": key, "city": city, "n": n}, timestamp=number)
    found = applied(driver.read("out"), ("city",))
    assert {city: (row["rows"], row["total"]) for (city,), row in found.items()} == {"x": (1, 9), "y": (1, 5)}
