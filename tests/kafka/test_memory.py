"""What waits to be read is bounded in bytes, whatever the partitions, the size of a record and the order of reading."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from streamdsl import Config, Topology, TopologyError, kafka, memory, tumbling
from tests.kafka.topics import consume_all, create_topic, produce

#: A process of its own: a peak is one of a whole life.
READ = """
import sys
from streamdsl import Config, Topology, kafka, memory, tumbling

broker, topic = sys.argv[1:]
topology, out = Topology("memory"), memory("out")
rows = topology.stream(kafka(topic, {"id": int, "pad": str}, until="latest"), timestamp="id", name="in")
rows.select("id").key_by().window(tumbling("1h")).count().to(out)
topology.run(Config(broker=broker))
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(sum(row["count"] for row in out.rows()), peak >> 10)
"""


def peak_mib(broker, topic, expected):
    done = subprocess.run([sys.executable, "-c", READ, broker.bootstrap, topic], capture_output=True, text=True, check=True, timeout=120)
    rows, peak = map(int, done.stdout.split())
    assert rows == expected
    return peak


@pytest.mark.parametrize(
    ("partitions", "used", "records", "size"), [(3, 2, 12_000, 25_000), (100, 100, 400_000, 40)], ids=["large", "many"]
)
def test_a_backlog_does_not_fill_the_memory(broker, topic_name, partitions, used, records, size):
    """With a partition that is empty, or with a hundred: they are read in event time, and each has to wait for the others."""
    topic = create_topic(broker.bootstrap, topic_name, partitions)
    pad = "x" * size
    produce(broker.bootstrap, topic, ({"value": json.dumps({"id": n, "pad": pad}), "partition": n % used} for n in range(records)))
    assert peak_mib(broker, topic, records) < 250


def test_partitions_that_wait_for_one_another_do_not_wait_for_ever(broker, topic_name):
    """What is wanted next may have been held back while others were wanted, and these have filled the memory since."""
    topic = create_topic(broker.bootstrap, topic_name, 50)
    pad = "x" * 100
    produce(broker.bootstrap, topic, ({"value": json.dumps({"id": n, "pad": pad}), "partition": n * n % 50} for n in range(100_000)))
    topology, out = Topology("waiting"), memory("out")
    rows = topology.stream(kafka(topic, {"id": int, "pad": str}, until="latest", buffer_memory="1MiB"), timestamp="id", name="in")
    rows.select("id").key_by().window(tumbling("1h")).count().to(out)
    run = topology.start(Config(broker=broker.bootstrap))
    try:
        assert run.wait(60), run.metrics()["tasks"][0]["splits"]
    finally:
        run.abandon()
    assert sum(row["count"] for row in out.rows()) == 100_000


JOB = """
import sys
from streamdsl import Config, Topology, count, kafka, rolling

broker, source, sink, state = sys.argv[1:]
topology = Topology(f"limited-{source}")
rows = topology.stream(kafka(source, {"k": str, "id": int}, until="latest"), timestamp="id", name="in").key_by("k")
rows.with_columns(n=count().over(rolling("1h"))).select("id", "n").to(kafka(sink, partitions=1), name="out")
topology.run(Config(broker=broker, state_dir=state, checkpoint_interval="50ms", state_memory="1GiB"))
"""


def test_a_process_short_of_memory_loses_nothing(broker, topic_name, tmp_path):
    """Under `ulimit -v`: it ends well, or says what is short, or a library aborts. Each start goes on from the last commit."""
    source, sink, records = create_topic(broker.bootstrap, topic_name, 3), f"{topic_name}-out", 60_000
    pad = "x" * 60
    produce(broker.bootstrap, source, (json.dumps({"k": f"{n % 20_000}-{pad}", "id": n}) for n in range(records)))

    def start(limit_mib: int | None) -> subprocess.CompletedProcess[str]:
        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if limit_mib is not None:
                resource.setrlimit(resource.RLIMIT_AS, (limit_mib << 20, limit_mib << 20))

        command = [sys.executable, "-c", JOB, broker.bootstrap, source, sink, str(tmp_path / "state")]
        # What waits for a broker without memory for its connections does so for a minute.
        return subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, timeout=120, check=False)

    for limit_mib in (600, 700, 900):
        ended = start(limit_mib)
        assert ended.returncode == 0 or "(ulimit -v)" in ended.stderr, ended.stderr
        if ended.returncode == 1:
            said = ended.stderr.lower().partition("what was committed stays")[2]  # behind the warning
            assert any(word in said for word in ("memory", "cannot allocate", "thread", "bad_alloc")), ended.stderr
    ended = start(None)
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(record.value) for record in consume_all(broker.bootstrap, sink)]
    assert sorted(row["id"] for row in found) == list(range(records))


def test_the_bound_can_be_set():
    assert kafka("t", buffer_memory="1GiB").buffer_memory == 1 << 30
    with pytest.raises(TopologyError, match="less than a MiB"):
        kafka("t", buffer_memory=1000)
