"""A partition whose only broker is away: what waits there makes the run unhealthy, and nothing else does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from streamdsl import Config, Topology, kafka, memory
from streamdsl.runtime.health import Health
from tests.kafka.topics import create_topic, produce

STALLED_S = 8.0
#: One batch is fetched at a time, and the next a second later, so that records wait at the broker and not here.
LITTLE = {
    "fetch.queue.backoff.ms": 1000,
    "queued.min.messages": 10,
    "queued.max.messages.kbytes": 8,
    "max.partition.fetch.bytes": 2048,
    "fetch.max.bytes": 4096,
}
LITTLE["message.max.bytes"] = 4096


def test_a_partition_that_stands_still_is_told_of_and_an_empty_one_is_not(cluster, topic_name, tmp_path):
    """Longer than what is known of a partition's end counts (5 s): that nobody can be asked for it does not make it well."""
    source = create_topic(cluster.bootstrap, topic_name, 3, at=[[1], [2], [3]])
    rows = ({"value": json.dumps({"id": n}), "partition": n % 2} for n in range(10_000))
    produce(cluster.bootstrap, source, rows, **{"batch.num.messages": 20})
    topology = Topology(f"job-{source}")
    read = kafka(source, {"id": "int64"}, rate=400.0, options=LITTLE)
    topology.stream(read, name="in").to(memory("out"), name="out")
    run = topology.start(Config(broker=cluster.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="500ms"))
    try:
        health = Health(run, stalled_after_s=STALLED_S)
        watch(health, lambda: taken(run, source, 1) > 50)
        # The third partition is empty for longer than others may stand still.
        until = time.monotonic() + STALLED_S + 3
        assert watch(health, lambda: time.monotonic() > until) == set()
        cluster[1].kill()
        [problem] = watch(health, lambda: bool(health.problems))
        assert problem.startswith(f"partition {source}/1 has ") and "has made no progress for" in problem, problem
        assert health.report()["status"] == "unhealthy"
        before = taken(run, source, 0)
        cluster[1].start()
        watch(health, lambda: not health.problems)
        assert taken(run, source, 0) > before, "the others are to go on"
        run.stop()
        assert run.wait(30)
    finally:
        run.abandon()


def taken(run, source: str, partition: int) -> int:
    [task] = run.metrics()["tasks"]
    return task["splits"].get(f"{source}/{partition}", 0)


def watch(health: Health, over: Callable[[], bool], seconds: float = 90.0) -> set[str]:
    """Look at the run every half a second until it is `over`, and return the problems."""
    found: set[str] = set()
    until = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < until, found
        time.sleep(0.5)
        health.look()
        found |= set(health.problems)
    return found
