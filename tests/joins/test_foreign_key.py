"""A table joined by a column that holds the key of another one: exact under changes of either side and of that column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, col, count, memory
from streamdsl.testing import TopologyTestDriver
from tests.joins.test_tables import applied

ORDERS = {"id": str, "customer": str | None, "n": int | None}
CUSTOMERS = {"name": str, "city": str | None}
ORDER = st.tuples(st.sampled_from("123"), st.none() | st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9)))
CUSTOMER = st.tuples(st.sampled_from("ab"), st.none() | st.sampled_from("xyz"))
EVENTS = st.lists(st.tuples(st.just("orders"), ORDER) | st.tuples(st.just("customers"), CUSTOMER), max_size=25)


def job(how, derived=False):
    topology = Topology("t")
    orders = topology.table(memory("orders", ORDERS), key="id")
    if derived:
        orders = orders.filter(col("n") >= 0).with_columns(n=col("n") + 0)
    customers = topology.table(memory("customers", CUSTOMERS), key="name")
    orders.join(customers, on="customer", how=how).to_stream().to(memory("out"))
    return topology


def send(driver, number, side, row):
    key, value = row
    if side == "orders":
        customer, n = value or (None, None)
        driver.send(side, {"id": key, "customer": customer, "n": n}, timestamp=number)
    else:
        driver.send(side, {"name": key, "city": value}, timestamp=number)


def expected(events, how):
    """What KIP-213 says: each order beside its customer, as both are last."""
    orders = {key: value for side, (key, value) in events if side == "orders"}
    cities = {key: value for side, (key, value) in events if side == "customers" and value is not None}
    gone = [key for key in cities if {k: v for side, (k, v) in events if side == "customers"}[key] is None]
    for key in gone:
        del cities[key]
    rows = {}
    for key, value in orders.items():
        if value is not None and (how == "left" or value[0] in cities):
            rows[(key,)] = {"id": key, "customer": value[0], "n": value[1], "city": cities.get(value[0])}
    return rows


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.sampled_from(["inner", "left"]), st.sampled_from([1, 3]), st.booleans(), st.integers(0, 25), st.integers(0, 99))
def test_the_join_is_exact_at_the_end(events, how, parallelism, derived, crash_at, seed):
    """Table-table: either side emits; a tombstone withdraws. Every change fits what was shown before it."""
    driver = TopologyTestDriver(job(how, derived), parallelism=parallelism, seed=seed)
    rows = []
    for number, (side, row) in enumerate(events):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        send(driver, number, side, row)
        rows += driver.read("out")
    assert applied(rows) == expected(events, how)


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.sampled_from(["inner", "left"]), st.integers(2, 4))
def test_changes_that_race_between_tasks_end_as_the_last_one(events, how, parallelism):
    """All at once, in batches: the two halves of a change of the foreign key go through two tasks."""
    topology = Topology("t")
    rows = {"orders": [], "customers": []}
    for side, (key, value) in events:
        customer, n = (value or (None, None)) if side == "orders" else (None, None)
        rows[side].append({"id": key, "customer": customer, "n": n} if side == "orders" else {"name": key, "city": value})
    orders = topology.table(memory("orders", ORDERS, rows["orders"]), key="id")
    customers = topology.table(memory("customers", CUSTOMERS, rows["customers"]), key="name")
    found = orders.join(customers, on="customer", how=how).collect(Config(parallelism=parallelism)).to_pylist()
    assert applied(found) == expected(events, how)


def test_a_change_of_the_foreign_key_is_one_replacement_in_one_task():
    driver = TopologyTestDriver(job("inner"))
    for number, (side, row) in enumerate(
        [("customers", ("a", "x")), ("customers", ("b", "y")), ("orders", ("1", ("a", 5))), ("orders", ("1", ("b", 5)))]
    ):
        send(driver, number, side, row)
    assert [(row["op"], row["city"]) for row in driver.read("out")] == [("add", "x"), ("replace", "y")]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_table_joined_with_itself(parallelism):
    staff = [{"id": 1, "name": "Ada", "boss": None}, {"id": 2, "name": "Bob", "boss": 1}, {"id": 3, "name": "Eve", "boss": 2}]
    topology = Topology("t")
    people = topology.table(memory("people", {"id": int, "name": str, "boss": int | None}, staff), key="id")
    rows = people.join(people, on="boss", how="left").collect(Config(parallelism=parallelism)).to_pylist()
    latest = applied(rows)
    assert {key: row["name_right"] for (key,), row in latest.items()} == {1: None, 2: "Ada", 3: "Bob"}


def test_keys_of_several_columns_and_a_table_of_aggregates():
    topology = Topology("t")
    lines = topology.stream(memory("lines", {"shop": int, "item": str, "n": int}, [{"shop": 1, "item": "a", "n": i} for i in range(3)]))
    totals = lines.key_by("shop", "item").aggregate(total=col("n").sum())
    items = topology.table(memory("items", {"item": str, "price": int}, [{"item": "a", "price": 7}]), key="item")
    priced = totals.join(items, on="item").with_columns(worth=col("total") * col("price"))
    by_price = priced.group_by("price").aggregate(groups=count(), worth=col("worth").sum())
    assert applied(by_price.collect().to_pylist(), ("price",)) == {(7,): {"price": 7, "groups": 1, "worth": 21}}


def test_many_rows_may_name_one_key():
    topology = Topology("t")
    orders = topology.table(memory("orders", {"id": int, "customer": str}), key="id")
    customers = topology.table(memory("customers", CUSTOMERS), key="name")
    orders.join(customers, on="customer").to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology, state_memory=65_536)
    driver.send_batch("orders", [{"id": i, "customer": "a"} for i in range(3_000)])
    for city in ("x", "y", None):
        driver.send("customers", {"name": "a", "city": city}, timestamp=1)
        driver.checkpoint()
        driver.crash_and_restore()
    rows = driver.read("out")
    assert [sum(row["op"] == op for row in rows) for op in ("add", "replace", "withdraw")] == [3_000, 3_000, 3_000]
