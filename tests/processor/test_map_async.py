"""Asynchronous functions: order, back-pressure, time, errors, and calls that are under way at a crash."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import streamdsl
from streamdsl import Config, ConnectorError, Topology, TopologyError, UserCodeError, count, dead_letter, files, memory, tumbling
from streamdsl.testing import TopologyTestDriver, assert_invariant

SCHEMA = {"id": int, "at": int}


def rows(n: int) -> list[dict[str, int]]:
    return [{"id": i, "at": i} for i in range(n)]


def called(function: Any, n: int = 200, **options: Any) -> tuple[Topology, Any]:
    topology = Topology("calls")
    out = memory("out")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows(n)), timestamp="at")
    stream.map_async(function, schema={"id": int, "twice": int}, **options).to(out, name="out")
    return topology, out


async def twice(row: Any) -> dict[str, int]:
    await asyncio.sleep(0.001 * (row.id % 7))
    return {"id": row.id, "twice": 2 * row.id}


def test_rows_come_out_in_order() -> None:
    topology, out = called(twice, capacity=20)
    topology.run()
    assert out.rows() == [{"id": i, "twice": 2 * i} for i in range(200)]


def test_unordered_rows_come_as_calls_end() -> None:
    topology, out = called(twice, capacity=50, ordered=False)
    topology.run()
    ids = [row["id"] for row in out.rows()]
    assert sorted(ids) == list(range(200)) and ids != sorted(ids)


def test_no_more_calls_than_the_capacity_are_under_way() -> None:
    under_way, most = 0, 0

    async def counted(row: Any) -> dict[str, int]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return {"id": row.id, "twice": 0}

    topology, out = called(counted, capacity=5)
    topology.run(Config(parallelism=1))
    assert most == 5 and len(out.rows()) == 200


def test_a_slow_function_holds_back_the_input() -> None:
    begun = []

    async def stuck(row: Any) -> dict[str, int]:
        begun.append(row.id)
        await asyncio.sleep(3600)
        return {"id": row.id, "twice": 0}

    topology, _ = called(stuck, n=5_000, capacity=4, timeout="2h")
    run = topology.start(Config(parallelism=1))
    time.sleep(0.5)
    figures = run.metrics()["operators"]["map_async.stuck"]
    began = time.monotonic()
    run.stop()
    run.wait()
    # Its last checkpoint holds the calls.
    assert time.monotonic() - began < 2.5
    assert len(begun) == 4 and figures["in_flight"] < 8


def test_windows_behind_see_every_row_in_time() -> None:
    """A watermark that passed a row under way would make it late."""
    for ordered in (True, False):
        topology = Topology("windows")
        out = memory("out")
        stream = topology.stream(memory("in", schema=SCHEMA, rows=rows(500)), timestamp="at")
        made = stream.map_async(twice, schema={"id": int, "twice": int}, capacity=30, ordered=ordered)
        made.key_by().window(tumbling("10ms")).aggregate(n=count()).to(out, name="out")
        run = topology.run(Config(batch_rows=16))
        assert [row["n"] for row in out.rows()] == [10] * 50
        assert sum(one.get("late", 0) for one in run.metrics()["operators"].values()) == 0


def test_the_driver_waits_for_the_calls() -> None:
    topology = Topology("driven")
    stream = topology.stream(memory("in", schema=SCHEMA), timestamp="at")
    stream.map_async(twice, schema={"id": int, "twice": int}).to(memory("out"), name="out")
    driver = TopologyTestDriver(topology)
    driver.send("in", {"id": 3, "at": 1})
    driver.send("in", {"id": 4, "at": 2})
    assert driver.read("out", timestamps=True) == [(1, {"id": 3, "twice": 6}), (2, {"id": 4, "twice": 8})]
    driver.checkpoint()
    driver.crash_and_restore(parallelism=2)
    driver.send("in", {"id": 5, "at": 3})
    assert driver.read("out") == [{"id": 5, "twice": 10}]


def test_nothing_shows_of_cuts_and_crashes() -> None:
    def topology() -> Topology:
        made = Topology("invariant")
        stream = made.stream(memory("in", schema=SCHEMA), timestamp="at")
        mapped = stream.map_async(twice, schema={"id": int, "twice": int}, capacity=3)
        mapped.key_by("id").window(tumbling("20ms")).aggregate(n=count()).to(memory("out"), name="out")
        return made

    assert_invariant(topology, {"in": rows(60)}, seeds=8)


def test_what_fails_is_tried_again() -> None:
    tries: collections.Counter[int] = collections.Counter()

    async def flaky(row: Any) -> dict[str, int]:
        tries[row.id] += 1
        if row.id % 5 == 0 and tries[row.id] < 3:
            raise ConnectionError("away")
        return {"id": row.id, "twice": 0}

    topology, out = called(flaky, n=20, retry=2)
    topology.run()
    assert len(out.rows()) == 20 and tries[5] == 3 and tries[1] == 1


async def bad(row: Any) -> dict[str, int]:
    if row.id == 7:
        raise ValueError("seven")
    if row.id == 8:
        await asyncio.sleep(60)
    return {"id": row.id, "twice": 0}


def test_a_call_that_fails_follows_the_policy() -> None:
    topology, _ = called(bad, n=20, retry=0)
    with pytest.raises(UserCodeError, match="ValueError: seven"):
        topology.run()
    letters = memory("letters")
    topology, out = called(bad, n=20, retry=0, timeout="50ms", errors=dead_letter(letters))
    topology.run()
    assert [row["id"] for row in out.rows()] == [i for i in range(20) if i not in (7, 8)]
    assert [row["error"].partition(":")[0] for row in letters.rows()] == ["ValueError", "TimeoutError"]


def test_each_attempt_has_its_own_time() -> None:
    tries: collections.Counter[int] = collections.Counter()
    never = asyncio.Event()

    async def hangs_at_first(row: Any) -> dict[str, int]:
        tries[row.id] += 1
        if row.id % 3 == 0 and tries[row.id] == 1:
            await never.wait()
        if row.id % 3 == 1 and tries[row.id] == 1:
            try:
                await never.wait()
            except asyncio.CancelledError:
                raise ConnectionError("closed in the middle") from None
        return {"id": row.id, "twice": tries[row.id]}

    topology, out = called(hangs_at_first, n=30, retry=1, timeout="30ms", capacity=7)
    topology.run()
    assert out.rows() == [{"id": i, "twice": 1 if i % 3 == 2 else 2} for i in range(30)]


def test_who_waits_for_the_same_key_is_not_given_up_with_another() -> None:
    asked: list[int] = []

    async def name_of(key: int) -> dict[str, str] | None:
        asked.append(key)
        if asked.count(key) == 1:
            while len(read) < 12:  # until all wait
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.2)
            if key == 0:
                raise ConnectionError("away")
        return {"name": f"n{key}"}

    read: list[Any] = []
    topology, out = Topology("calls"), memory("out")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=[{"id": i % 2, "at": i} for i in range(12)]), timestamp="at")
    stream.peek(read.append).join_lookup(name_of, on="id", schema={"name": str}, capacity=12, on_miss="fail").to(out)
    topology.run()
    assert [row["name"] for row in out.rows()] == [f"n{i % 2}" for i in range(12)]
    assert asked.count(1) == 1 and asked.count(0) == 2


@pytest.mark.parametrize("answer", [None, [{"id": 1, "twice": 2}], {"id": "x", "twice": 2}, {"id": 1}])
def test_answers_that_are_no_row(answer: Any) -> None:
    async def wrong(row: Any) -> Any:
        return answer

    topology, _ = called(wrong, n=1)
    with pytest.raises(UserCodeError):
        topology.run()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"function": lambda row: {}}, "is not asynchronous"),
        ({"function": 3}, "asynchronous function"),
        ({"schema": None}, "needs schema="),
        ({"capacity": 0}, "capacity=0"),
        ({"retry": -1}, "retry=-1"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], words: str) -> None:
    stream = Topology("t").stream(memory("in", schema=SCHEMA, rows=[]))
    given = {"function": twice, "schema": {"id": int, "twice": int}, **arguments}
    with pytest.raises(TopologyError, match=words):
        stream.map_async(given.pop("function"), **given)


def test_two_of_one_name_are_refused() -> None:
    topology, _ = called(twice, n=0)
    topology.stream(memory("more", schema=SCHEMA, rows=[])).map_async(twice, schema={"id": int, "twice": int}).to(memory("b"), name="b")
    with pytest.raises(TopologyError, match=r"under the name 'map_async\.twice'"):
        topology.run()


JOB = """
import asyncio, sys
from streamdsl import Config, Topology, files
async def slow(row):
    await asyncio.sleep(0.02 + 0.001 * (row.id % 9))
    return {"id": row.id, "twice": 2 * row.id}
def topology(source, target):
    made = Topology("calls")
    stream = made.stream(files(source, schema={"id": int, "at": int}), timestamp="at", name="in")
    stream.map_async(slow, schema={"id": int, "twice": int}, capacity=8, ordered=sys.argv[4] == "1").to(files(target), name="out")
    return made
if __name__ == "__main__":
    config = Config(state_dir=sys.argv[3], checkpoint_interval="20ms", batch_rows=16, parallelism=int(sys.argv[5]))
    topology(sys.argv[1], sys.argv[2]).run(config)
"""


@pytest.mark.crash
@pytest.mark.parametrize("ordered", [True, False])
def test_calls_under_way_at_a_crash_are_made_again(tmp_path: Any, ordered: bool) -> None:
    (tmp_path / "in.csv").write_text("id,at\n" + "".join(f"{i},{i}\n" for i in range(400)))
    (tmp_path / "job.py").write_text(JOB)
    words = [sys.executable, "job.py", "in.csv", "out.jsonl", "state", "1" if ordered else "0"]
    place = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(Path(streamdsl.__file__).parents[1])}}
    out = tmp_path / "out.jsonl"
    calls_in_checkpoints = 0
    for parallelism in (1, 2, 1):
        before = out.read_text().count("\n") if out.exists() else 0
        worker = subprocess.Popen([*words, str(parallelism)], **place)
        until = time.monotonic() + 60
        while worker.poll() is None and time.monotonic() < until and (not out.exists() or out.read_text().count("\n") < before + 30):
            time.sleep(0.02)
        worker.kill()
        worker.wait()
        calls_in_checkpoints += sum('"calls"' in path.read_text() for path in (tmp_path / "state").rglob("*.json"))
    subprocess.run([*words, "1"], check=True, **place)
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert sorted(ids) == list(range(400))
    assert calls_in_checkpoints > 0


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_call_that_is_made_again_knows_where_its_row_came_from(tmp_path: Any, parallelism: int) -> None:
    (tmp_path / "in.csv").write_text("id,at\n" + "".join(f"{i},{i}\n" for i in range(6)))
    begun: list[int] = []
    hangs = True

    async def fails(row: Any) -> dict[str, int]:
        begun.append(row.id)
        if hangs:
            await asyncio.sleep(3600)
        if row.id == 3:
            raise ValueError("bad")
        return {"id": row.id, "twice": 2 * row.id}

    def topology() -> Topology:
        made, letters = Topology("calls"), dead_letter(files(tmp_path / "letters.jsonl"))
        stream = made.stream(files(tmp_path / "in.csv", schema=SCHEMA), timestamp="at", name="in")
        calls = stream.map_async(fails, schema={"id": int, "twice": int}, capacity=8, retry=0, timeout="2h", errors=letters)
        calls.to(files(tmp_path / "out.jsonl"), name="out")
        return made

    run = topology().start(Config(state_dir=tmp_path / "state", checkpoint_interval="20ms", parallelism=parallelism))
    until = time.monotonic() + 60
    while (3 not in begun or run.metrics()["checkpoints"]["completed"] < 2) and time.monotonic() < until:
        time.sleep(0.01)
    run.stop()
    run.wait()
    hangs = False
    topology().run(Config(state_dir=tmp_path / "state", parallelism=3 - parallelism))
    (letter,) = [json.loads(line) for line in (tmp_path / "letters.jsonl").read_text().splitlines()]
    assert (Path(letter["topic"]).name, letter["offset"], letter["error"]) == ("in.csv", 3, "ValueError: bad")
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert ids == [0, 1, 2, 4, 5]


def test_a_look_up_by_a_function() -> None:
    asked: list[int] = []

    async def name_of(key: int) -> Any:
        asked.append(key)
        await asyncio.sleep(0.002)
        return None if key == 3 else {"name": f"n{key}", "id": -key}

    def joined(**options: Any) -> list[dict[str, Any]]:
        topology = Topology("t")
        out = memory("out")
        given = [{"id": i % 5, "at": i} for i in range(40)]
        stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at")
        stream.join_lookup(name_of, on="id", schema={"name": "str | None", "at": "int | None"}, **options).to(out, name="out")
        topology.run(Config(parallelism=1))
        return out.rows()

    async def both(key: int) -> Any:
        return {"name": "x", "at": 1}

    found = joined()
    assert found[1] == {"id": 1, "at": 1, "name": "n1", "at_right": None}
    assert [row["name"] for row in found] == [None if i % 5 == 3 else f"n{i % 5}" for i in range(40)]
    asked.clear()
    joined(cache_ttl="1h")
    assert sorted(asked) == [0, 1, 2, 3, 4]
    assert len(joined(on_miss="drop")) == 32
    with pytest.raises(UserCodeError, match="has nothing for the key"):
        joined(on_miss="fail", retry=0)


def test_what_cannot_be_opened_is_named() -> None:
    from streamdsl.connectors.base import Lookup
    from streamdsl.schema import Schema

    class Away(Lookup):
        name = "away"
        schema = Schema.of({"name": str})

        async def open(self) -> None:
            raise ConnectorError("the server is not there")

        async def get(self, key: Any) -> Any:
            return None

    topology = Topology("t")
    topology.stream(memory("in", schema=SCHEMA, rows=rows(1))).join_lookup(Away(), on="id").to(memory("out"), name="out")
    with pytest.raises(ConnectorError, match="the server is not there"):
        topology.run()


def test_a_job_that_was_stopped_goes_on(tmp_path: Any) -> None:
    (tmp_path / "in.csv").write_text("id,at\n" + "".join(f"{i},{i}\n" for i in range(300)))

    async def slow(row: Any) -> dict[str, int]:
        await asyncio.sleep(0.01)
        return {"id": row.id, "twice": 0}

    def topology() -> Topology:
        made = Topology("calls")
        stream = made.stream(files(tmp_path / "in.csv", schema=SCHEMA), timestamp="at", name="in")
        stream.map_async(slow, schema={"id": int, "twice": int}, capacity=4).to(files(tmp_path / "out.jsonl"), name="out")
        return made

    run = topology().start(Config(state_dir=tmp_path / "state", batch_rows=16))
    time.sleep(0.3)
    run.stop()
    run.wait()
    before = len((tmp_path / "out.jsonl").read_text().splitlines())
    topology().run(Config(state_dir=tmp_path / "state"))
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert ids == list(range(300)) and 0 < before < 300


HANGING = """
import asyncio, sys, time
from streamdsl import Config, Topology, memory

async def in_a_thread(row):
    print("hangs", flush=True)
    await asyncio.to_thread(time.sleep, 3600)

async def in_the_loop(row):
    print("hangs", flush=True)
    time.sleep(3600)

async def deaf(row):
    print("hangs", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def found(keys):
    print("hangs", flush=True)
    time.sleep(3600)

topology, what = Topology("hanging"), sys.argv[1]
rows = topology.stream(memory("in", schema={"id": int}, rows=[{"id": n} for n in range(20)]))
if what == "found":
    ended = rows.join_lookup(found, on="id", schema={"name": str}, timeout="1h")
else:
    ended = rows.map_async(globals()[what], schema={"id": int}, timeout="1h")
ended.to(memory("out"), name="out")
topology.run(Config(stop_timeout="1s"))
"""


@pytest.mark.parametrize("what", ["in_a_thread", "in_the_loop", "deaf", "found"])
def test_a_process_ends_although_a_call_hangs(what: str) -> None:
    """Also where the function waits in a thread: the interpreter does not join it."""
    with subprocess.Popen([sys.executable, "-c", HANGING, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "hangs\n"
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        finally:
            process.kill()


def test_a_key_that_comes_in_the_turn_of_its_answer_is_not_asked_for_again() -> None:
    from streamdsl.dsl.lookup_calls import FunctionLookup, LookupFunction
    from streamdsl.schema import Schema

    asked: list[str] = []
    later: list[asyncio.Task[Any]] = []

    async def look(key: str) -> Any:
        asked.append(key)
        await asyncio.sleep(0)
        later.append(asyncio.get_running_loop().create_task(caller({"k": key})))
        return {"x": key}

    schema = Schema.of({"x": str})
    caller: Any = LookupFunction(FunctionLookup(look, schema), ("k",), {"x": "x"}, schema, 10, 60.0, "null").per_task()

    async def rows() -> list[Any]:
        return [await caller({"k": "a"}), await later[0]]

    assert [row["x"] for row in asyncio.run(rows())] == ["a", "a"]
    assert asked == ["a"]


class Odd(BaseException):
    """Nothing that a function should raise."""


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), SystemExit(3), Odd("odd"), KeyboardInterrupt()])
def test_what_ends_other_programs_is_a_call_that_fails(raised: BaseException) -> None:
    async def function(row: Any) -> dict[str, int]:
        if row.id == 3:
            raise raised
        return {"id": row.id, "twice": 0}

    letters = memory("letters")
    topology, out = called(function, n=8, retry=1, capacity=3, errors=dead_letter(letters))
    topology.run()
    assert [row["id"] for row in out.rows()] == [0, 1, 2, 4, 5, 6, 7]
    (letter,) = letters.rows()
    assert ("was cancelled" if isinstance(raised, asyncio.CancelledError) else type(raised).__name__) in letter["error"]


def looked_up(answer: Any, **options: Any) -> list[dict[str, Any]]:
    async def lookup(key: int) -> Any:
        return answer

    topology, out = Topology("calls"), memory("out")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=rows(2)), timestamp="at")
    stream.join_lookup(lookup, on="id", **{"schema": {"name": str, "born": "int | None"}, **options}).to(out)
    topology.run()
    return out.rows()


@pytest.mark.parametrize("answer", [{"born": 3}, {}, 5, [{"name": "x"}], "text"])
def test_an_answer_without_a_column_that_is_needed_is_no_row_of_nulls(answer: Any) -> None:
    with pytest.raises(UserCodeError, match="without 'name'"):
        looked_up(answer)
    assert [row["born"] for row in looked_up({"name": "x"})] == [None, None]


@pytest.mark.parametrize("options", [{"cache_size": -1}, {"cache_size": "x"}, {"cache_size": True}, {"ordered": "no"}])
def test_settings_of_a_look_up_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TopologyError, match=next(iter(options))):
        looked_up({"name": "x"}, cache_ttl="1s", **options)
