"""A small table in every task: joined without an exchange, part of snapshots, right after a rescale."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import Config, Topology, col, files, memory
from streamdsl.testing import TopologyTestDriver

TX = {"kind": str | None, "at": int, "n": int}
RULES = {"kind": str, "limit": int | None}
DATED = {**RULES, "at": int}
RULE = st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9))
EVENTS = st.lists(st.tuples(st.just("tx"), st.sampled_from(["a", "b", "c", None])) | RULE)


def job(how="left", filtered=False):
    topology = Topology("t")
    rules = topology.table(memory("rules", RULES), key="kind", broadcast=True)
    if filtered:
        rules = rules.filter(col("limit") < 5).select("limit")
    topology.stream(memory("tx", TX), timestamp="at").join(rules, on="kind", how=how).to(memory("out"))
    return topology


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.sampled_from(["inner", "left"]), st.sampled_from([1, 3]), st.booleans(), st.integers(0, 20))
def test_every_task_sees_the_table_as_it_is(events, how, parallelism, filtered, crash_at):
    driver = TopologyTestDriver(job(how, filtered), parallelism=parallelism, partitions=3)
    rules, expected, found = {}, [], []
    for number, (what, value) in enumerate(events):
        if number == crash_at:
            driver.checkpoint()
            driver.crash_and_restore(parallelism=4 - parallelism)
        if what == "tx":
            driver.send("tx", {"kind": value, "at": number, "n": number}, partition=number % 3)
            limit = rules.get(value)
            if limit is not None or how == "left":
                expected.append((number, limit))
        else:
            rules[what] = value if value is None or not filtered or value < 5 else None
            driver.send("rules", {"kind": what, "limit": value}, timestamp=number, partition=ord(what) % 3)
        found += [(row["n"], row["limit"]) for row in driver.read("out")]
    assert found == expected


def test_rows_of_the_stream_stay_in_their_tasks():
    plan = job().explain(parallelism=2)
    assert "broadcast" in plan
    assert "hash" not in plan.split("physical")[-1]


@pytest.mark.parametrize("parallelism", [1, 2, 4])
def test_history_is_joined_in_order_of_time(parallelism):
    rules = [{"kind": "a", "at": at, "limit": at} for at in range(0, 1_000, 100)]
    tx = [{"kind": "a", "at": at, "n": at} for at in range(0, 1_000, 7)]
    topology = Topology("t")
    table = topology.table(memory("rules", DATED, rules), key="kind", timestamp="at", broadcast=True)
    rows = topology.stream(memory("tx", TX, tx), timestamp="at").join(table, on="kind").collect(Config(parallelism=parallelism)).to_pylist()
    assert {row["n"]: row["limit"] for row in rows} == {at: at // 100 * 100 for at in range(0, 1_000, 7)}


def test_a_run_goes_on_with_the_table_it_had(tmp_path):
    sink = memory("out")

    def run(tx, parallelism):
        topology = Topology("t")
        rules = [{"kind": "a", "at": 1, "limit": 7}]
        table = topology.table(memory("rules", DATED, rules), key="kind", timestamp="at", broadcast=True)
        path = tmp_path / "tx.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in tx))
        topology.stream(files(path, TX), timestamp="at", name="tx").join(table, on="kind", how="left").to(sink)
        topology.run(Config(parallelism=parallelism, state_dir=str(tmp_path / "state")))
        return [row["limit"] for row in sink.rows()]

    tx = [{"kind": "a", "at": 5, "n": 1}]
    assert run(tx, 1) == [7]
    assert run([*tx, {"kind": "a", "at": 9, "n": 2}], 2) == [7, 7]
