"""A source that is partitioned by the key: the same rows without an exchange, whoever reads which split."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import Config, DataError, StateError, Topology, TopologyError, col, count, expanding, memory, rolling, tumbling
from streamdsl._native.event_time.clock import ManualClock
from streamdsl._native.event_time.peer_time import PeerTime
from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl.cli.graph import mermaid
from streamdsl.compiler import compile, drawn
from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Source, SplitReader
from streamdsl.physical import node as physical
from streamdsl.runtime.environment import MemoryEnvironment
from streamdsl.runtime.job import Job
from streamdsl.schema import Schema

SCHEMA = pa.schema([pa.field("k", pa.string()), pa.field("at", pa.int64(), nullable=False), pa.field("n", pa.int64(), nullable=False)])


@dataclasses.dataclass(eq=False)
class Logs(Source):
    """Splits that a test fills; `open_ended` ones wait for more at their ends."""

    logs: list[list[dict[str, Any]]]
    partitioned_by: str | None = "k"
    open_ended: bool = False
    name: str = "in"
    schema: Any = dataclasses.field(default_factory=lambda: Schema.of(SCHEMA))

    @property
    def bounded(self) -> bool:
        return not self.open_ended

    def splits(self) -> Sequence[str]:
        return [f"{self.name}/{number}" for number in range(len(self.logs))]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return LogReader(self, int(split.rpartition("/")[2]), position or {"offset": 0}, columns)


class LogReader(SplitReader):
    def __init__(self, source: Logs, number: int, position: Any, columns: Sequence[str]) -> None:
        self.source, self.number, self.at, self.columns = source, number, position["offset"], columns

    def read(self, max_rows: int) -> Chunk | End | None:
        rows = self.source.logs[self.number][self.at : self.at + 7]
        if not rows:
            return None if self.source.open_ended else END
        chunk = Chunk(self.rows(rows), {"offset": self.at})
        self.at += len(rows)
        return chunk

    def rows(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        keys = [None if row["k"] is None else row["k"].encode() for row in rows]
        made = {"_key": keys, **{name: [row[name] for row in rows] for name in SCHEMA.names}}
        types = {**METADATA_COLUMNS, **{field.name: field.type for field in SCHEMA}}
        return pa.RecordBatch.from_arrays([pa.array(made[name], types[name]) for name in self.columns], names=list(self.columns))

    def position(self, chunk: Chunk, rows: int) -> Json:
        return {"offset": chunk.position["offset"] + rows}  # type: ignore[index,call-overload]


def dealt(rows: list[dict[str, Any]], splits: int) -> list[list[dict[str, Any]]]:
    """Return the rows by the split that Kafka would put them into; those without a key anywhere."""
    logs: list[list[dict[str, Any]]] = [[] for _ in range(splits)]
    for row in rows:
        logs[row["n"] % splits if row["k"] is None else shard_of_key(row["k"].encode(), splits)].append(row)
    return logs


def drawn_rows(seed: int, n: int = 400) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    keys = [f"account-{i}" for i in range(25)] + ["", "ñandú"]
    return [{"k": draw.choice(keys) if draw.random() > 0.05 else None, "at": 50 * i - draw.randrange(100), "n": i} for i in range(n)]


def build(source: Source, *, key: str = "k") -> tuple[Topology, dict[str, Any]]:
    """Return a topology with all kinds of state behind one key, and another key behind that."""
    topology = Topology("partitioned")
    stream = topology.stream(source, timestamp="at", disorder="1s")
    keyed = stream.filter(col("n") % 7 != 0).key_by(key)
    sinks = {name: memory(name) for name in ("frames", "windows", "rekeyed")}
    frames = keyed.with_columns(seen=count().over(expanding()), recent=count().over(rolling("2s")), last=col("n").lag())
    frames.select("n", "seen", "recent", "last").to(sinks["frames"])
    keyed.window(tumbling("1s")).aggregate(n=count(), total=col("n").sum()).to(sinks["windows"])
    frames.with_columns(digit=col("n") % 3).key_by("digit").window(tumbling("5s")).aggregate(total=col("seen").sum()).to(sinks["rekeyed"])
    return topology, sinks


def start(topology: Topology, environment: MemoryEnvironment, parallelism: int, seed: int | None = None) -> Job:
    config = Config(parallelism=parallelism, state_backend="memory", batch_rows=8)
    job = Job(compile(topology, parallelism=parallelism).physical, config, environment, clock=ManualClock(0), seed=seed)
    job.open()
    return job


def run(topology: Topology, sinks: dict[str, Any], parallelism: int, seed: int | None = None) -> dict[str, list[str]]:
    job = start(topology, MemoryEnvironment(), parallelism, seed)
    job.run_until_quiet(checkpoints=True)
    job.close()
    return {name: sorted(map(repr, sink.rows())) for name, sink in sinks.items()}


@pytest.mark.parametrize("parallelism", [1, 2, 3, 5])
@pytest.mark.parametrize("splits", [1, 3, 4, 6])
def test_the_same_rows_with_and_without(splits, parallelism):
    logs = dealt(drawn_rows(splits), splits)
    expected = run(*build(Logs(logs, partitioned_by=None)), 1)
    assert len(expected["frames"]) > 200 and len(expected["windows"]) > 200 and len(expected["rekeyed"]) > 5
    topology, sinks = build(Logs(logs))
    stages = compile(topology, parallelism=parallelism).physical.stages
    hashed = [edge for stage in stages for edge in stage.edges if edge.partition == "hash"]
    assert len(hashed) == (parallelism > 1), "the second key needs an exchange, the first does not"
    assert run(topology, sinks, parallelism, seed=splits) == expected


def test_the_record_key_itself_can_be_the_key():
    logs = dealt(drawn_rows(3), 4)
    expected = run(*build(Logs(logs, partitioned_by=None), key="_key"), 1)
    assert run(*build(Logs(logs, partitioned_by="_key"), key="_key"), 3) == expected
    assert len(expected["frames"]) > 200


@pytest.mark.parametrize(("splits", "shards"), [(4, 128), (6, 132), (1, 128), (7, 133)])
def test_who_reads_a_split_owns_its_keys(splits, shards):
    topology, _ = build(Logs(dealt(drawn_rows(1), splits)))
    job = start(topology, MemoryEnvironment(), 3)
    try:
        assert job.plan.shards == shards
        owned = {task.id: set(task.owned_shards) for task in job.tasks if task.id.startswith("0.")}
        assert sorted(shard for own in owned.values() for shard in own) == list(range(shards))
        for number in range(splits):
            assert all(shard in owned[f"0.{number % 3}"] for shard in range(number, shards, splits))
        job.run_until_quiet()
        (frames,) = [name for name in job.plan.state_names if name.startswith("frame")]
        keys = [(key, int(task.id[-1])) for task in job.tasks if task.operator(frames) for key in task.operator(frames).state()]
        assert len(keys) == len(dict(keys)) == 27
        assert all(shard_of_key(key.encode(), splits) % 3 == task for key, task in keys)
    finally:
        job.close()


@pytest.mark.parametrize("toggled", [False, True], ids=["declared", "declared now and then"])
@pytest.mark.parametrize("seed", range(6))
def test_checkpoints_are_gone_on_with_at_another_parallelism(seed, toggled):
    draw = random.Random(seed)
    splits = draw.choice([3, 5, 6])
    logs = dealt(drawn_rows(seed), splits)
    expected = run(*build(Logs(logs, partitioned_by=None)), 1)
    environment, source = MemoryEnvironment(), Logs(logs)
    topology, sinks = build(source)
    for turn, parallelism in enumerate((1, 2, 3, 7, 1)):
        # What has begun with the declaration can go on without it, and with it again.
        source.partitioned_by = None if toggled and turn % 2 else "k"
        job = start(topology, environment, parallelism, seed)
        assert job.plan.shards % splits == 0
        if turn == 4:
            job.run_until_quiet(checkpoints=True)
            job.close()
            break
        for _ in range(draw.randint(2, 6)):
            job.step_tasks()
        if turn == 0 or draw.random() < 0.7:
            job.checkpoint_now()
        for _ in range(draw.randint(0, 3)):
            job.step_tasks()
        job.abandon()
    assert {name: sorted(map(repr, sink.rows())) for name, sink in sinks.items()} == expected


def test_a_record_in_another_partition_is_named():
    logs = dealt(drawn_rows(2), 4)
    home = shard_of_key(b"account-3", 4)
    elsewhere = (home + 1) % 4
    logs[elsewhere].insert(11, {"k": "account-3", "at": 0, "n": 1_000})
    for parallelism in (1, 3):
        with pytest.raises(DataError) as raised:
            run(*build(Logs(logs)), parallelism)
        error = raised.value
        assert (error.operator, error.field, error.topic, error.partition, error.offset) == ("in", "k", "in", elsewhere, 11)
        assert f"'account-3' lies in in/{elsewhere}" in error.message and f"partition {home} of 4" in error.message
        assert "leave partitioned_by= out" in str(error) and "murmur2_random" in str(error)
    assert run(*build(Logs(logs, partitioned_by=None)), 1) == run(*build(Logs(logs, partitioned_by=None)), 3)


def test_an_idle_task_closes_its_windows_when_the_others_go_on():
    alone = next(f"k{i}" for i in range(99) if shard_of_key(f"k{i}".encode(), 2) == 0)
    other = next(f"k{i}" for i in range(99) if shard_of_key(f"k{i}".encode(), 2) == 1)
    logs = [[{"k": alone, "at": 100, "n": 1}], [{"k": other, "at": at, "n": at} for at in range(0, 9_000, 500)]]
    topology = Topology("idle")
    out = memory("out")
    stream = topology.stream(Logs(logs, open_ended=True), timestamp="at", idle_timeout="5s")
    stream.key_by("k").window(tumbling("1s")).count().to(out)
    job = start(topology, MemoryEnvironment(), 2)
    try:
        job.run_until_quiet()
        assert alone not in {row["k"] for row in out.rows()}
        job.clock.ms += 4_000
        logs[1].append({"k": other, "at": 9_000, "n": 9_000})
        job.run_until_quiet()
        job.clock.ms += 2_000  # only the first split has been dry for as long as that
        job.run_until_quiet()
        job.checkpoint_now()
        assert alone in {row["k"] for row in out.rows()}
        # It wakes, is late by now, and time does not go back.
        logs[0].append({"k": alone, "at": 200, "n": 2})
        logs[0].append({"k": alone, "at": 20_000, "n": 3})
        logs[1].append({"k": other, "at": 30_000, "n": 4})
        job.run_until_quiet()
        job.checkpoint_now()
        assert [row["count"] for row in out.rows() if row["k"] == alone] == [1]
    finally:
        job.close()


def test_peers_follow_the_rule_of_the_valve():
    peers = PeerTime(4)
    lowest, active, idle, ended = -(2**63), 0, 1, 2
    assert peers.reached_by_others(0) == lowest
    for task, watermark in ((1, 50), (2, 80), (3, 20)):
        peers.say(task, watermark, active)
    assert peers.reached_by_others(0) == 20
    peers.say(3, 20, idle)
    assert peers.reached_by_others(0) == 50
    peers.say(1, 50, ended)
    assert peers.reached_by_others(0) == 80
    peers.say(2, 80, idle)
    assert peers.reached_by_others(0) == 80 and peers.reached_by_others(2) == lowest  # task 0 has not begun
    peers.say(2, 80, ended)
    peers.say(3, 20, ended)
    assert peers.reached_by_others(0) == lowest


# What is refused --------------------------------------------------------------------------------------------------


def test_a_checkpoint_with_other_shards_is_refused():
    environment = MemoryEnvironment()
    logs = dealt(drawn_rows(1), 6)
    job = start(build(Logs(logs, partitioned_by=None))[0], environment, 2)
    job.step_tasks()
    job.checkpoint_now()
    job.abandon()
    with pytest.raises(StateError, match=r"128 shards, no multiple of the splits of 'in' \(6\)(.|\n)*leave partitioned_by= out"):
        start(build(Logs(logs))[0], environment, 2)


def test_another_number_of_splits_is_refused():
    environment = MemoryEnvironment()
    job = start(build(Logs(dealt(drawn_rows(1), 4)))[0], environment, 2)
    job.step_tasks()
    job.checkpoint_now()
    job.abandon()
    with pytest.raises(StateError, match="has 5 splits, the checkpoint 4: keys are bound to other splits"):
        start(build(Logs(dealt(drawn_rows(1), 5)))[0], environment, 2)


def test_splits_that_no_number_of_shards_suits_are_refused():
    topology = Topology("two")
    for name, splits in (("a", 509), ("b", 521)):
        topology.stream(Logs([[]] * splits, name=name)).key_by("k").count(name=f"n{name}").to(memory(f"out-{name}"))
    with pytest.raises(TopologyError, match=r"'a' \(509\), 'b' \(521\)"):
        start(topology, MemoryEnvironment(), 2)


@pytest.mark.parametrize(
    ("column", "said"),
    [("at", "is int64: only a column of text"), ("_offset", "only a column of text"), ("_topic", "only a column of text"), ("kk", "'k'")],
)
def test_columns_that_are_no_record_key_are_refused(column, said):
    with pytest.raises(TopologyError, match="partitioned_by") as raised:
        Topology("wrong").stream(Logs([[]], partitioned_by=column))
    assert said in str(raised.value)
    topology, _ = build(memory("in", schema=SCHEMA))
    with pytest.raises(TopologyError, match="bind: 'in' is partitioned_by"):
        topology.plan(bind={"in": Logs([[]], partitioned_by=column)})


def test_one_source_after_another_is_not_partitioned():
    with pytest.raises(TopologyError, match=r"'in' is partitioned_by='k'(.|\n)*leave partitioned_by= out"):
        memory("history", schema=SCHEMA).then(Logs([[]]))


# What is seen -----------------------------------------------------------------------------------------------------


def elided(stream: Any) -> list[bool]:
    """Return of each key_by in front of a sink whether it needs no exchange."""
    stream.to(memory("out"))
    stages = compile(stream.topology, parallelism=3).physical.stages
    return [one.partitioned for stage in stages for one in stage.operators if isinstance(one, physical.PhysicalKeyEncode)]


def test_steps_that_keep_the_key_keep_the_partitioning():
    def stream() -> Any:
        return Topology("steps").stream(Logs([[], []]), timestamp="at")

    assert elided(stream().key_by("k").count().to_stream()) == [True]
    assert elided(stream().filter(col("n") > 1).peek(print).with_columns(m=col("n") + 1).key_by("k").count().to_stream()) == [True]
    assert elided(stream().rename(k="account").key_by("account").count().to_stream()) == [True]
    branches = stream().branch(odd=col("n") % 2 == 1, default="even")
    assert elided(branches["odd"].with_columns(n=col("n") * 2).merge(branches["even"]).key_by("k").count().to_stream()) == [True]


def test_other_keys_and_other_steps_need_an_exchange():
    def stream(**options: Any) -> Any:
        return Topology("steps").stream(Logs([[], []], **options), timestamp="at")

    assert elided(stream().key_by("n").count().to_stream()) == [False]
    assert elided(stream().key_by("k", "n").count().to_stream()) == [False]
    assert elided(stream().key_by().count().to_stream()) == [False]
    assert elided(stream().with_columns(k=col("k") + "x").key_by("k").count().to_stream()) == [False]
    assert elided(stream().map(lambda row: {"k": "x"}, schema={"k": str}).key_by("k").count().to_stream()) == [False]
    assert elided(stream(partitioned_by=None).key_by("k").count().to_stream()) == [False]
    topology = Topology("two")
    one, two = (topology.stream(Logs([[], []], name=name)) for name in ("one", "two"))
    assert elided(one.merge(two).key_by("k").count().to_stream()) == [False]


def test_the_plan_says_that_there_is_no_exchange():
    topology, _ = build(Logs([[], []]))
    text = topology.explain(parallelism=3)
    assert "partitioned_by=k" in text
    assert "key_by %1: k  [no exchange: the source is partitioned by it]" in text
    assert "| no exchange: the source is partitioned by it" in text and "; partitioned by k" in text
    assert "128 shards or more, a multiple of the splits of in" in text
    assert "no exchange: the source is partitioned by it" in mermaid(drawn(topology))
    assert "no exchange" not in mermaid(drawn(build(Logs([[], []], partitioned_by=None))[0]))


def test_the_column_is_read_and_checked_where_nobody_else_needs_it():
    logs = dealt(drawn_rows(2), 4)
    logs[(shard_of_key(b"account-3", 4) + 1) % 4].append({"k": "account-3", "at": 0, "n": 1_000})
    topology = Topology("check")
    topology.stream(Logs(logs)).select("n").to(memory("out"))
    with pytest.raises(DataError, match="partitioned_by='k'"):
        run(topology, {}, 2)
