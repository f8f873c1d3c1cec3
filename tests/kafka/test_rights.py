"""What a user must be allowed: what `doctor` lists is enough, each that is missing is named, also one that is taken away meanwhile."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from streamdsl import Config, ConnectorError, Topology, kafka
from streamdsl.cli import kafka as asked
from streamdsl.connectors.kafka.rights import Right
from tests.cli.jobs import command
from tests.kafka.broker import NoKafka
from tests.kafka.conftest import without
from tests.kafka.secured import USER, SecuredBroker
from tests.kafka.topics import consume_all, create_topic, produce

PASSWORD = "canary-0a52cc17"
KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional id": ResourceType.TRANSACTIONAL_ID}
DELIVERIES = ["exactly_once", "at_least_once"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A broker whose user may do nothing that it was not given."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    options = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"}
    try:
        broker = SecuredBroker(tmp_path_factory.mktemp("guarded"), PASSWORD, options)
    except NoKafka as missing:
        without(str(missing))
    with broker:
        yield broker


class Rights:
    """Gives the user rights, and takes them."""

    def __init__(self, broker):
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2})

    def _each(self, binding, kind, name, operation):
        return binding(KINDS[kind], name, ResourcePatternType.LITERAL, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)

    def give(self, right, *but):
        for operation in set(right.operations) - set(but):
            wanted = self._each(AclBinding, right.kind, right.name, AclOperation[operation])
            self.admin.create_acls([wanted])[wanted].result(30)

    def take(self, right):
        for operation in right.operations:
            gone = self._each(AclBindingFilter, right.kind, right.name, AclOperation[operation])
            self.admin.delete_acls([gone])[gone].result(30)


@pytest.fixture
def rights(guarded):
    return Rights(guarded)


@pytest.fixture
def job(guarded, topic_name):
    """Make a job and the rights that it needs, by what the command line says."""
    create_topic(guarded.bootstrap, topic_name, 1)
    options = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-256",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(guarded.authority.certificate),
    }

    def make(tmp_path, delivery, **more):
        config = Config(broker=guarded.secured, kafka=options, state_dir=tmp_path / "state", checkpoint_interval="100ms")
        topology = Topology(topic_name)
        rows = topology.stream(kafka(topic_name, {"id": int}, **more), name="in")
        rows.to(kafka(f"{topic_name}-out", partitions=1, delivery=delivery, errors="fail"), name="out")
        return topology, config, asked.rights_of(asked.topics_of(topology, config))

    return make


def records(*numbers):
    return [json.dumps({"id": n}) for n in range(*numbers)]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_what_is_listed_is_enough(guarded, rights, job, topic_name, tmp_path, delivery):
    topology, config, needed = job(tmp_path, delivery, until="latest")
    for right in needed:
        rights.give(right)
    produce(guarded.bootstrap, topic_name, records(100))
    assert topology.run(config).finished
    assert sorted(json.loads(record.value)["id"] for record in consume_all(guarded.bootstrap, f"{topic_name}-out")) == list(range(100))


@pytest.mark.parametrize(
    ("delivery", "lacking"),
    [(delivery, i) for delivery, n in zip(DELIVERIES, (6, 3), strict=True) for i in range(n)],
)
def test_what_is_missing_is_named(guarded, rights, job, topic_name, tmp_path, delivery, lacking):
    """The resource, its name, the operation."""
    topology, config, needed = job(tmp_path, delivery, until="latest")
    assert len(needed) == {"exactly_once": 6, "at_least_once": 3}[delivery]
    for right in needed:
        if right != needed[lacking]:
            rights.give(right)
    produce(guarded.bootstrap, topic_name, records(100))
    right = needed[lacking]
    with pytest.raises(ConnectorError) as told:
        topology.run(config)
    said = str(told.value)
    assert f"the {right.kind} {right.name!r}" in said, said
    assert any(operation in said for operation in (*right.operations, "DESCRIBE")), said
    assert told.value.context.get("recoverable") is not True


@pytest.mark.parametrize("kind", ["source", "sink", "transactional id"])
def test_what_is_taken_away_while_the_job_runs_is_named(guarded, rights, job, topic_name, tmp_path, kind):
    topology, config, needed = job(tmp_path, "exactly_once")
    for right in needed:
        rights.give(right)
    produce(guarded.bootstrap, topic_name, records(10))
    run = topology.start(config)
    until = time.monotonic() + 30
    while not run.metrics()["checkpoints"]["completed"] or len(consume_all(guarded.bootstrap, f"{topic_name}-out")) < 10:
        assert time.monotonic() < until
        time.sleep(0.1)
    gone = {"source": needed[0], "sink": needed[2], "transactional id": needed[3]}[kind]
    rights.take(gone)
    produce(guarded.bootstrap, topic_name, records(10, 20))
    with pytest.raises(ConnectorError) as told:
        assert run.wait(60), "it does not end"
    assert f"the {gone.kind} {gone.name!r}" in str(told.value), str(told.value)
    rights.give(gone)


def test_a_timeout_that_the_brokers_do_not_allow_says_what_to_do(broker, source, sink, config):
    topology = Topology(f"job-{source}")
    rows = topology.stream(kafka(source, {"id": int}, until="latest"), name="in")
    rows.to(kafka(sink, partitions=1, options={"transaction.timeout.ms": 2_000_000}), name="out")
    with pytest.raises(ConnectorError, match=r"transaction\.max\.timeout\.ms"):
        topology.run(config())


JOB = """
from streamdsl import Topology, kafka

topology = Topology("{name}")
topology.stream(kafka("{name}", {{"id": int}}), name="in").to(kafka("{name}-out", partitions=1), name="out")
"""


def test_doctor_lists_them_and_says_which_is_missing(guarded, rights, job, topic_name, tmp_path):
    _, config, needed = job(tmp_path, "exactly_once")
    create_topic(guarded.bootstrap, f"{topic_name}-out", 1)
    (tmp_path / "job.py").write_text(JOB.format(name=topic_name))
    (tmp_path / "settings.toml").write_text(
        f'broker = "{guarded.secured}"\n[kafka]\n'
        + "".join(f'"{name}" = "{value}"\n' for name, value in config.kafka.items() if "password" not in name)
    )
    (tmp_path / "state").mkdir(mode=0o700)

    def doctor():
        ran = command("-A", "job.py", "doctor", "--config", "settings.toml", "--state-dir", "state", place=tmp_path,
                      env={"STREAMDSL_KAFKA__SASL_PASSWORD": PASSWORD})  # fmt: skip
        return ran.returncode, ran.stdout

    for right in needed:
        rights.give(right, "WRITE")
    rights.give(Right("topic", f"{topic_name}-out", ("DESCRIBE",)))
    code, said = doctor()
    assert code == 1 and f"WRITE and CREATE on the topic '{topic_name}-out'; WRITE is missing" in said, said
    for right in needed:
        rights.give(right)
    code, said = doctor()
    assert code == 0, said
    for right in needed:
        assert f"permission: {right}" in said, said


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_topic_that_rows_name_and_that_is_not_ours_is_a_matter_of_those_rows(guarded, rights, job, topic_name, tmp_path, delivery):
    """From the start, and from the moment at which the right to write is taken away: it can be seen, and not written."""
    named = Right("topic", create_topic(guarded.bootstrap, f"{topic_name}-named", 1), ("WRITE",))
    foreign = Right("topic", create_topic(guarded.bootstrap, f"{topic_name}-foreign", 1), ("DESCRIBE",))
    _, config, needed = job(tmp_path, delivery)
    for right in (*needed, named, foreign, Right("topic", named.name, ("DESCRIBE",))):
        rights.give(right)
    topology = Topology(topic_name)
    rows = topology.stream(kafka(topic_name, {"id": int, "to": str}), name="in")
    rows.to(kafka(f"{topic_name}-out", partitions=1, delivery=delivery, topic_from="to"), name="out", errors="skip")

    def sent(*numbers):
        topics = (f"{topic_name}-out", named.name, foreign.name)
        produce(guarded.bootstrap, topic_name, [json.dumps({"id": n, "to": topics[n % 3]}) for n in range(*numbers)])

    def wait_for(name, numbers):
        until = time.monotonic() + 60
        while not {json.loads(record.value)["id"] for record in consume_all(guarded.bootstrap, name)} >= set(numbers):
            assert time.monotonic() < until and not run.wait(0.1)

    run = topology.start(config)
    try:
        sent(9)
        wait_for(f"{topic_name}-out", (0, 3, 6))
        wait_for(named.name, (1, 4, 7))
        rights.take(named)
        sent(9, 18)
        wait_for(f"{topic_name}-out", (9, 12, 15))
        run.stop()
        assert run.wait(30)
    finally:
        run.abandon()
    assert len(consume_all(guarded.bootstrap, named.name)) == 3 and not consume_all(guarded.bootstrap, foreign.name)


def test_a_group_that_is_taken_away_is_told_and_ends_nothing(guarded, rights, job, topic_name, tmp_path, caplog):
    topology, config, needed = job(tmp_path, "at_least_once")
    for right in needed:
        rights.give(right)
    group = next(right for right in needed if right.kind == "group")
    run = topology.start(config)
    try:
        until, count = time.monotonic() + 30, 0
        while f"READ on the group '{group.name}'" not in caplog.text:
            assert time.monotonic() < until and not run.wait(0.3)
            produce(guarded.bootstrap, topic_name, records(count, count + 5))
            count += 5
            if count == 10:
                rights.take(group)
        run.stop()
        assert run.wait(30)
    finally:
        run.abandon()
        rights.give(group)
