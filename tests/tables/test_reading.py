"""`Run.table`: what a job holds by key, as of a checkpoint or live, while it runs and afterwards."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import polars
import pytest

from streamdsl import Config, DataError, StateError, StreamError, Topology, col, count, memory
from streamdsl.runtime import metrics_server
from streamdsl.testing import TopologyTestDriver

from .jobs import BALANCES, DECIMALS, KEYS, ROWS, SCHEMA, Held, bank


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of `bank` that has ended, in two tasks a stage."""
    return bank().run(Config(state_dir=tmp_path_factory.mktemp("bank") / "state", parallelism=2))


@pytest.fixture
def running(tmp_path):
    """A run of `bank` that has read all rows and whose input has not ended."""
    source = Held(ROWS)
    topology = bank(source=source)
    run = topology.start(Config(state_dir=tmp_path / "state", checkpoint_interval="1h", parallelism=2))
    try:
        until(lambda: run.metrics()["sinks"]["sink-balances"] == len(ROWS), run)
        yield run, source
    finally:
        source.over.set()
        run.abandon()


def until(true, run):
    deadline = time.monotonic() + 60
    while not true():
        assert not run.wait(0.01) and time.monotonic() < deadline, "it never came about"


def test_a_table_is_read_by_key_by_prefix_and_as_a_whole(finished):
    balances = finished.table("balances")
    assert balances.as_of == "checkpoint 1" and balances.keys == ("account",)
    assert balances.get("a3")["balance"] == BALANCES["a3"] and balances.get("nobody") is None and balances.get(None) is None
    assert {row["account"]: row["balance"] for row in balances.scan()} == BALANCES
    assert {row["account"] for row in balances.scan("a1")} == {key for key in BALANCES if key.startswith("a1")}
    assert len(list(balances.scan(limit=5))) == 5 and list(balances.scan("b")) == []
    table = balances.to_arrow()
    assert dict(zip(*[table[name].to_pylist() for name in ("account", "balance")], strict=True)) == BALANCES
    assert polars.DataFrame(balances).height == len(BALANCES)


def test_a_key_of_several_columns_is_a_tuple_or_a_mapping(finished):
    pairs = finished.table("pairs")
    wanted = sum(row["account"] == "a3" and row["n"] == 1 for row in ROWS)
    for key in (("a3", 1), ["a3", 1], {"n": 1, "account": "a3"}):
        assert pairs.get(key) == {"account": "a3", "n": 1, "times": wanted}
    assert {row["n"] for row in pairs.scan(("a3",))} == {0, 1, 2} and len(list(pairs.scan(("a1", 2)))) == 1
    for wrong in ("a3", ("a3",), ("a3", "one"), {"account": "a3"}.keys()):
        with pytest.raises(DataError, match="pairs"):
            pairs.get(wrong)


def test_every_operator_that_keeps_rows_is_a_table(finished):
    assert finished.tables() == ("balances", "latest", "once", "pairs", "recent", "seen", "table.people", "total", "windows")
    of = {name: {row.get("account", row.get("id")): row for row in finished.table(name).scan()} for name in finished.tables()}
    assert all(set(of[name]) == set(BALANCES) for name in ("balances", "recent", "latest", "seen"))
    assert of["seen"]["a3"] == {"account": "a3", "times": 20, "latest": [row["amount"] for row in ROWS if row["account"] == "a3"]}
    assert of["latest"]["a3"] == [row for row in ROWS if row["account"] == "a3"][-1]
    assert (
        of["table.people"]
        == {1: {"id": 1, "name": "Ada"}, 2: {"id": 2, "name": "Bob"}}
        == {row["id"]: row for row in finished.table("people").to_arrow().to_pylist()}
    )
    assert finished.table("total").get() == {"all": sum(BALANCES.values())}


def test_open_windows_are_rows(running):
    run, _ = running
    windows = run.table("windows", live=True)
    assert [row["times"] for row in windows.get("a3")] == [20] and windows.to_arrow().num_rows == len(BALANCES)
    assert run.table("windows").to_arrow().sort_by("account") == windows.to_arrow().sort_by("account")


def test_live_rows_are_those_of_now_and_others_those_of_a_checkpoint(running):
    run, source = running
    for name in run.tables():
        live, kept = run.table(name, live=True), run.table(name)
        assert (live.as_of, kept.as_of) == ("live", "checkpoint 1")
        assert sorted(map(str, live.scan())) == sorted(map(str, kept.scan())), name
    live = run.table("balances", live=True)
    assert live.get("a3")["balance"] == BALANCES["a3"] and live.get("nobody") is None
    source.over.set()
    run.wait()
    assert run.table("balances").as_of == "checkpoint 2" and run.table("balances").get("a3")["balance"] == BALANCES["a3"]
    with pytest.raises(StateError, match="ended"):
        live.get("a3")
    with pytest.raises(StateError, match="live=False"):
        run.table("balances", live=True)


def test_a_table_stays_as_of_its_checkpoint_while_newer_ones_come(tmp_path):
    source = Held([{"account": "a", "n": 0, "amount": 1, "at": 1_000 * i} for i in range(4_000)])
    topology = Topology("busy")
    topology.stream(source, timestamp="at", name="moves").key_by("account").aggregate(n=count(), name="counts").to(memory("out"))
    with topology.start(Config(state_dir=tmp_path / "s", checkpoint_interval="20ms", retained_checkpoints=1, batch_rows=10)) as run:
        first = run.table("counts")
        seen = first.get("a")
        until(lambda: run.metrics()["checkpoints"]["completed"] > 6, run)
        assert first.get("a") == seen and run.table("counts").as_of != first.as_of
        source.over.set()
    del first
    run.wait()
    assert not list((tmp_path / "s").glob("live/reading-*"))


@pytest.mark.parametrize("backend", ["rocksdb", "memory"])
def test_rows_that_have_no_room_in_memory_are_read_all_the_same(tmp_path, backend):
    rows = [{"account": f"k{i}", "n": 0, "amount": i, "at": i} for i in range(30_000)]
    source = Held(rows)
    topology = Topology("large")
    topology.stream(source, timestamp="at", name="moves").key_by("account").aggregate(n=col("amount").sum(), name="sums").to(memory("out"))
    config = Config(state_dir=tmp_path / "s", checkpoint_interval="1h", state_memory="1MiB", state_backend=backend)
    with topology.start(config) as run:
        until(lambda: run.metrics()["sinks"]["out"] == len(rows), run)
        assert run.metrics()["state"]["cold_keys"] > 0
        assert [run.table("sums", live=True).get(f"k{i}")["n"] for i in (0, 7, 29_999)] == [0, 7, 29_999]
        with pytest.raises(StateError, match="not all rows"):
            list(run.table("sums", live=True).scan())
        assert run.table("sums").to_arrow().num_rows == len(rows) and run.table("sums").get("k29999")["n"] == 29_999
        source.over.set()


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_type_are_found(tmp_path, name):
    type_, *keys = KEYS[name]
    check_keys(tmp_path, type_, keys)


def test_decimal_keys_are_found(tmp_path):
    import pyarrow as pa

    check_keys(tmp_path, pa.decimal128(10, 2), DECIMALS)


def check_keys(tmp_path, type_, keys):
    topology = Topology("keys")
    rows = [{"k": key, "v": number} for number, key in enumerate([*keys, *keys[:1]])]
    read = topology.stream(memory("in", {"k": type_, "v": int}, rows), name="in")
    read.key_by("k").aggregate(n=count(), name="alone").to(memory("a"))
    read.with_columns(w=col("v") * 0).key_by("w", "k").aggregate(n=count(), name="both").to(memory("b"))
    run = topology.run(Config(state_dir=tmp_path / "state"))
    assert [run.table("alone").get(key)["n"] for key in keys] == [2, 1]
    assert [run.table("both").get((0, key))["n"] for key in keys] == [2, 1]
    assert sorted(row["n"] for row in run.table("both").scan((0,))) == [1, 2]
    with pytest.raises(DataError, match="'k'"):
        run.table("alone").get(object())


def test_what_is_no_table_is_named(finished, tmp_path):
    with pytest.raises(StreamError, match="balances") as raised:
        finished.table("balance")
    assert "did you mean 'balances'" in str(raised.value)
    run = bank().run()
    with pytest.raises(StateError, match="gone"):
        run.table("balances")


def test_tables_are_what_the_driver_says(tmp_path):
    driver = TopologyTestDriver(bank(Held(ROWS) and ROWS))
    driver.send_batch("moves", ROWS)
    driver.end()
    run = bank().run(Config(state_dir=tmp_path / "s"))
    shown = {row["account"]: row["balance"] for row in run.table("balances").scan()}
    assert shown == {key: row["balance"] for key, row in driver.state("balances").items()}


def get(address):
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error) if "json" in error.headers["Content-Type"] else error.read().decode()


def test_tables_are_served_as_json(running):
    run, _ = running
    with metrics_server(run) as server:
        assert get(f"{server.address}/tables")[1]["tables"] == list(run.tables())
        status, page = get(f"{server.address}/tables/balances/a3")
        assert (status, page["row"]["balance"], page["as_of"]) == (200, BALANCES["a3"], "checkpoint 1")
        assert get(f"{server.address}/tables/balances/a3?live=1")[1]["as_of"] == "live"
        assert get(f"{server.address}/tables/pairs/a3/1")[1]["key"] == ["a3", 1]
        some = get(f"{server.address}/tables/balances?prefix=a1&limit=3")[1]
        assert len(some["rows"]) == 3 and some["more"] is True
        assert get(f"{server.address}/tables/windows/a3")[1]["row"][0]["window_start"].startswith("1970-01-01T00:00:00")
        for path, status in {
            "balances/no%2Fbody": 404,
            "nothing/a": 404,
            "pairs/a3": 400,
            "pairs/a3/x": 400,
            "balances?limit=0": 400,
        }.items():
            assert get(f"{server.address}/tables/{path}")[0] == status, path
    with metrics_server(run, tables=False) as server:
        assert get(f"{server.address}/tables/balances/a3")[0] == 403
    with metrics_server(run, host="0.0.0.0") as server:
        port = server.address.rpartition(":")[2]
        assert get(f"http://127.0.0.1:{port}/tables")[0] == 403
    with metrics_server(run, host="0.0.0.0", tables=True) as server:
        port = server.address.rpartition(":")[2]
        assert get(f"http://127.0.0.1:{port}/tables")[0] == 200


def test_schema_is_not_needed_by_a_job_without_rows(tmp_path):
    topology = Topology("empty")
    topology.stream(memory("in", SCHEMA, []), name="in").key_by("account").aggregate(n=count(), name="counts").to(memory("out"))
    run = topology.run(Config(state_dir=tmp_path / "s"))
    assert run.table("counts").to_arrow().schema.names == ["account", "n"] and run.table("counts").get("a") is None
