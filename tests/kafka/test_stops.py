"""A stop ends in time while the broker stands still, wherever the job is; what was not committed is computed again, once."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import threading
import time

import pytest

from streamdsl import Config, Topology, kafka
from tests.cli.jobs import worker
from tests.kafka.topics import consume_all, produce

SCHEMA = {"id": "int64"}
DELIVERIES = ["exactly_once", "at_least_once"]
#: What a stop may take beside its time-out, on a machine that is busy.
GRACE_S = 1.5


def records(*numbers):
    return [json.dumps({"id": n}) for n in range(*numbers)]


def copied(source, sink, delivery, **more):
    topology = Topology(f"job-{source}")
    topology.stream(kafka(source, SCHEMA, **more), name="in").to(kafka(sink, partitions=1, delivery=delivery), name="out")
    return topology


def ids(broker, topic):
    return sorted(json.loads(record.value)["id"] for record in consume_all(broker.bootstrap, topic))


def wait_for(what, seconds=30.0):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "did not come"
        time.sleep(0.05)


def right(delivery, found, wanted):
    return found == wanted if delivery == "exactly_once" else sorted(set(found)) == wanted


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("paused_for", [0.0, 0.4])
def test_a_stop_while_the_broker_stands_still(mortal_broker, source, sink, tmp_path, caplog, delivery, paused_for):
    """At once, and when a checkpoint, its commit or a snapshot already waits for the broker."""
    config = Config(broker=mortal_broker.bootstrap, state_dir=tmp_path / "state", checkpoint_interval="100ms", stop_timeout="3s")
    produce(mortal_broker.bootstrap, source, records(500))
    run = copied(source, sink, delivery).start(config)
    wait_for(lambda: len(set(ids(mortal_broker, sink))) == 500)
    produce(mortal_broker.bootstrap, source, records(500, 700))
    mortal_broker.pause()
    time.sleep(paused_for)
    began = time.monotonic()
    run.stop()
    assert run.wait()
    assert time.monotonic() - began < 3 + GRACE_S
    mortal_broker.resume()
    wait_for(lambda: not run.left_behind, 60)
    run._control.join(60)
    assert copied(source, sink, delivery, until="latest").run(config).finished
    assert right(delivery, ids(mortal_broker, sink), list(range(700)))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("streamdsl")]


WORKER = """
import os
from streamdsl import Topology, kafka

topology = Topology("job-{source}")
more = {{"until": "latest"}} if os.environ.get("UNTIL") else {{}}
rows = topology.stream(kafka("{source}", {{"id": "int64"}}, **more), name="in")
rows.to(kafka("{sink}", partitions=1, delivery="{delivery}"), name="out")
"""


def catches_sigterm(pid: int) -> bool:
    """Whether a process has got as far as to its handler: on a busy machine importing takes seconds."""
    caught = re.search(r"^SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text(), flags=re.M)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("when", ["starting", "running", "starting again"])
def test_a_worker_leaves_while_the_broker_stands_still(mortal_broker, source, sink, tmp_path, delivery, when):
    (tmp_path / "job.py").write_text(WORKER.format(source=source, sink=sink, delivery=delivery))
    target = ("-A", "job.py", "worker", "--broker", mortal_broker.bootstrap, "--state-dir", "state", "--checkpoint-interval", "100ms")
    produce(mortal_broker.bootstrap, source, records(300))
    if when == "starting":
        mortal_broker.pause()
    with worker(*target, place=tmp_path) as running:
        if when == "starting":
            wait_for(lambda: catches_sigterm(running.process.pid))
            time.sleep(1)
        else:
            wait_for(lambda: len(set(ids(mortal_broker, sink))) == 300)
            mortal_broker.pause()
            if when == "starting again":
                mortal_broker.kill()
                time.sleep(1)
            else:
                time.sleep(0.3)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        code, said = running.ended()
        took = time.monotonic() - began
    assert took < 5 + GRACE_S, said
    assert code == (143 if when == "starting" else 0), said
    mortal_broker.revive()
    with worker(*target, place=tmp_path, env={"UNTIL": "1"}) as running:
        code, said = running.ended()
        assert code == 0, said
    assert right(delivery, ids(mortal_broker, sink), list(range(300)))
