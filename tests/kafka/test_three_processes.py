"""The fraud example as in production: a broker, a worker and a producer, each a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from examples.fraud import data, producer, topology
from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl.connectors.kafka.markers import markers_topic
from tests.cli.jobs import ROOT, command, environment, worker
from tests.fraud import oracle
from tests.kafka.topics import consume_all, forget_topics


@pytest.fixture
def sample(tmp_path):
    return data.generate(tmp_path / "data", transactions=20_000, accounts=2_000, seed=11)


def figure(address: str, name: str) -> float:
    """Return a figure of a worker, over all its labels."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as page:
        return sum(float(line.split()[-1]) for line in page.read().decode().splitlines() if line.startswith(f"{name}{{"))


def until(what, timeout_s=90.0):
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_worker_and_a_producer_give_the_alerts_of_the_oracle(broker, tmp_path, sample):
    forget_topics(broker.bootstrap, topology.TRANSACTIONS, topology.ALERTS, markers_topic("fraud-detection"))
    here = {"place": tmp_path, "cwd": ROOT}
    target = ("-A", "examples.fraud.topology:topology")
    asked = command(*target, "topics", "--broker", broker.bootstrap, **here)
    assert asked.returncode == 1 and asked.stdout.count("missing") == 2
    made = command(*target, "topics", "--create", "--broker", broker.bootstrap, **here)
    assert made.returncode == 0 and made.stdout.count("created with 3 partitions") == 2, made.stderr
    flags = ("--broker", broker.bootstrap, "--checkpoint-interval", "200ms", "--metrics-port", 0)
    sending = [sys.executable, str(ROOT / "examples/fraud/producer.py"), "--broker", broker.bootstrap, "--rate", "max", "--input"]
    with worker("-A", f"{ROOT}/examples/fraud/topology.py", "worker", *flags, place=tmp_path) as running:
        address = running.until("metrics ").split()[1].removesuffix("/metrics,")
        sent = subprocess.run(
            [*sending, *map(str, sample.transactions)], env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert sent.returncode == 0, sent.stderr
        assert "20,000 transactions in" in sent.stderr
        # Not the lag: what the client knows of the end of a partition may be of before.
        until(lambda: figure(address, "streamdsl_source_records_total") == 20_000)
        until(lambda: figure(address, "streamdsl_source_lag_records") == 0)
        with urllib.request.urlopen(f"{address}/health", timeout=30) as page:
            assert json.load(page)["healthy"] is True
        running.process.send_signal(signal.SIGTERM)
        code, said = running.ended()
    assert code == 0, said
    output = tmp_path / "alerts.jsonl"
    found = consume_all(broker.bootstrap, topology.ALERTS)
    output.write_bytes(b"".join(record.value + b"\n" for record in found))
    assert oracle.difference(oracle.expected(sample.transactions), oracle.found(output)) == ""
    assert all(record.key == json.loads(record.value)["account_number"].encode() for record in found)


def test_the_producer_makes_its_topic_once_and_leaves_another_one_alone(broker, topic_name, sample, capsys):
    options = ["--broker", broker.bootstrap, "--topic", topic_name, "--rate", "max", "--input", *map(str, sample.transactions)]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert producer.main([*options, "--records", "50"]) == 0
        assert f"made the topic {topic_name} with 3 partitions" in capsys.readouterr().err
        assert producer.main([*options, "--records", "70"]) == 0
        assert "made the topic" not in capsys.readouterr().err
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    found = consume_all(broker.bootstrap, topic_name)
    assert len(found) == 120 and len({record.partition for record in found}) > 1
    # As Java's clients would have placed them.
    assert all(record.partition == shard_of_key(record.key, 3) for record in found)
