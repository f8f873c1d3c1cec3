"""topics and doctor, with a broker that is made up: what is asked of the client, and what becomes of its answers."""

from __future__ import annotations

import re
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from streamdsl import Topology, files, kafka
from streamdsl.cli import kafka as asking
from streamdsl.cli import target
from streamdsl.cli.app import run


def topology(*, partitions: int | None = 3) -> Topology:
    made = Topology("job")
    made.stream(kafka("in", {"k": str}, partitions=partitions)).to(kafka("out", partitions=partitions))
    return made


class Broker:
    """Topics by their number of partitions."""

    def __init__(self, **topics: int) -> None:
        self.topics = topics
        self.options: list[dict[str, Any]] = []

    def admin(self, options):
        self.options.append(options)
        return self

    def metadata(self, client, broker, timeout_s=0.0):
        return SimpleNamespace(brokers={1: None}, topics={name: SimpleNamespace(partitions=range(n)) for name, n in self.topics.items()})

    def allowed(self, client, topics):
        return {}

    def create(self, topic, partitions):
        self.options.append(topic.options)
        self.topics[topic.name] = partitions


@pytest.fixture
def asked(monkeypatch, capsys):
    """Run the command line against a made-up broker."""

    def ask(broker: Broker, *arguments: str, of: Topology) -> tuple[int, str]:
        for name in ("admin", "metadata", "allowed", "create"):
            monkeypatch.setattr(asking, name, getattr(broker, name))
        for module in ("topics", "doctor"):
            monkeypatch.setattr(f"streamdsl.cli.{module}.load", lambda target: of)
        code = run(["-A", "job", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return ask


def test_missing_topics_are_shown_and_made_with_their_partitions(asked):
    broker = Broker(out=3)
    code, said = asked(broker, "topics", "--broker", "a:1", of=topology())
    assert code == 1 and "in  missing, source 'in'" in said and "out  3 partitions, sink 'out'" in said
    assert broker.topics == {"out": 3}
    code, said = asked(broker, "topics", "--broker", "a:1", "--create", of=topology())
    assert code == 0 and broker.topics == {"out": 3, "in": 3}
    assert asked(broker, "topics", "--broker", "a:1", of=topology())[0] == 0


def test_another_number_of_partitions_is_said_and_not_changed(asked):
    broker = Broker(**{"in": 6, "out": 3})
    code, said = asked(broker, "topics", "--broker", "a:1", "--create", of=topology())
    assert code == 1 and "in  6 partitions, source 'in', the topology says 3" in said and broker.topics["in"] == 6


def test_partitions_must_be_said_by_somebody(asked):
    broker = Broker()
    code, said = asked(broker, "topics", "--broker", "a:1", "--create", of=topology(partitions=None))
    assert code == 2 and "how many partitions shall 'in' have?" in said and broker.topics == {}
    assert asked(broker, "topics", "--broker", "a:1", "--create", "--partitions", "5", of=topology(partitions=None))[0] == 0
    assert broker.topics == {"in": 5, "out": 5}


def test_the_client_gets_secrets_and_the_screen_does_not(asked, monkeypatch):
    monkeypatch.setenv("STREAMDSL_KAFKA__SASL_PASSWORD", "canary")
    broker = Broker(out=3)
    for command in (["topics"], ["topics", "--create"], ["doctor"]):
        assert "canary" not in asked(broker, *command, "--broker", "a:1", of=topology())[1]
    assert all(options["sasl.password"] == "canary" for options in broker.options)


def test_the_doctor_sees_topics(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code, said = asked(Broker(**{"in": 2}), "doctor", "--broker", "a:1", of=topology())
    assert code == 1
    assert "ok  broker a:1 answers: 1 in the cluster, 1 topics" in said
    assert re.search(r"NO +topic in .*2 partitions, the topology says 3", said) and re.search(r"NO +topic out .*is missing", said)
    assert asked(Broker(**{"in": 3, "out": 3}), "doctor", "--broker", "a:1", of=topology())[0] == 0


def test_a_broker_that_does_not_answer_is_named(capsys, monkeypatch):
    monkeypatch.setattr("streamdsl.cli.doctor._TIMEOUT_S", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert run(["doctor", "--broker", address]) == 1
    assert f"the broker {address} does not answer" in capsys.readouterr().out


def test_options_that_librdkafka_refuses_are_not_repeated():
    with pytest.raises(Exception, match="Unsupported SASL mechanism: NONSENSE") as caught:
        asking.admin(
            {"bootstrap.servers": "a:1", "security.protocol": "sasl_ssl", "sasl.mechanisms": "NONSENSE", "sasl.password": "canary"}
        )
    assert "canary" not in str(caught.value)
    with pytest.raises(Exception, match=r"Invalid value .* \"sasl\.oauthbearer\.method\"") as caught:
        asking.admin({"bootstrap.servers": "a:1", "sasl.oauthbearer.method": "canary"})
    assert "canary" not in str(caught.value)


def test_a_topology_without_kafka_needs_no_client(capsys, monkeypatch):
    plain = Topology("plain")
    plain.stream(files("in.csv", schema={"k": str})).to(files("out.jsonl"))
    monkeypatch.setattr("streamdsl.cli.topics.load", lambda _: plain)
    assert run(["-A", "plain", "topics"]) == 0
    assert "names no Kafka topic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.b:c", ("a.b", "c")),
        ("a.b", ("a.b", "topology")),
        ("dir/a-b.py:c", ("dir/a-b.py", "c")),
        ("a:b.c", ("a", "b.c")),
    ],
)
def test_a_target_is_module_or_file_and_attribute(given, expected):
    assert target.split_target(given) == expected
