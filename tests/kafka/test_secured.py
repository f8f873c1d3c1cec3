"""A broker with TLS and passwords: the job runs over it, what is wrong is named, and the password is nowhere."""

from __future__ import annotations

import shutil
import signal
import time
import urllib.request

import pytest

from examples.fraud import data, topology
from streamdsl import Config, ConnectorError, Topology, kafka, memory
from tests.cli.jobs import ROOT, command, worker
from tests.fraud import oracle
from tests.kafka import crash
from tests.kafka.broker import NoKafka
from tests.kafka.conftest import without
from tests.kafka.secured import USER, Authority, SecuredBroker
from tests.kafka.test_three_processes import figure, until
from tests.kafka.topics import consume_all

PASSWORD = "canary-5b0d93e1"
WRONG = "wrong-canary-77aa1c"
RECORDS = 3_000
TARGET = ("-A", f"{ROOT}/examples/fraud/topology.py")


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    try:
        broker = SecuredBroker(tmp_path_factory.mktemp("secured"), PASSWORD)
    except NoKafka as missing:
        without(str(missing))
    with broker:
        yield broker


@pytest.fixture
def settings(secured, tmp_path):
    """Write the file of settings; the password is not in it."""
    file = tmp_path / "settings.toml"

    def write(authority: Authority = secured.authority) -> str:
        file.write_text(
            f"""
            broker = "{secured.secured}"
            checkpoint_interval = "200ms"
            [kafka]
            security.protocol = "SASL_SSL"
            sasl.mechanisms = "SCRAM-SHA-256"
            sasl.username = "{USER}"
            ssl.ca.location = "{authority.certificate}"
            """
        )
        return str(file)

    return write


def secret(password: str) -> dict[str, str]:
    return {"STREAMDSL_KAFKA__SASL_PASSWORD": password}


def nowhere(place, *texts: str) -> None:
    """Neither password is in the texts, nor in any file of the job."""
    for canary in (PASSWORD, WRONG):
        assert not [text for text in texts if canary in text]
        assert not [path for path in place.rglob("*") if path.is_file() and canary.encode() in path.read_bytes()]


def test_the_fraud_rules_over_it(secured, settings, tmp_path):
    sample = data.generate(tmp_path / "data", RECORDS, RECORDS // 10, 11)
    crash.fill(secured.bootstrap, sample, topology.TRANSACTIONS)
    asked = ("worker", "-l", "DEBUG", "--config", settings(), "--metrics-port", 0)
    with worker(*TARGET, *asked, place=tmp_path, env=secret(PASSWORD)) as running:
        address = running.until("metrics ").split()[1].removesuffix("/metrics,")
        until(lambda: figure(address, "streamdsl_source_records_total") == RECORDS)
        served = [urllib.request.urlopen(f"{address}/{page}", timeout=30).read().decode() for page in ("metrics", "health")]
        running.process.send_signal(signal.SIGTERM)
        code, said = running.ended()
    assert code == 0, said
    found = tmp_path / "alerts.jsonl"
    found.write_bytes(b"".join(record.value + b"\n" for record in consume_all(secured.bootstrap, topology.ALERTS)))
    assert oracle.difference(oracle.expected(sample.transactions), oracle.found(found)) == ""
    here = {"place": tmp_path, "env": secret(PASSWORD)}
    looked = [command(*TARGET, "doctor", "--config", settings(), **here), command(*TARGET, "explain", **here)]
    assert [ran.returncode for ran in looked] == [0, 0], looked
    assert f"broker {secured.secured} answers" in looked[0].stdout and "bank-transactions (source" in looked[0].stdout
    nowhere(tmp_path, said, *served, *[ran.stdout + ran.stderr for ran in looked])


@pytest.mark.parametrize("wrong", ["password", "authority"])
@pytest.mark.parametrize("asked", ["worker", "doctor"])
def test_what_is_refused_is_said_once_and_named(settings, tmp_path, wrong, asked):
    if wrong == "password":
        file, password, setting, cause = settings(), WRONG, "sasl.password", "SASL authentication error"
    else:
        file, password, setting, cause = settings(Authority(tmp_path / "other")), PASSWORD, "ssl.ca.location", "certificate verify failed"
    began = time.monotonic()
    ran = command(*TARGET, asked, "--config", file, place=tmp_path, env=secret(password))
    assert time.monotonic() - began < 30, "what does not change is not waited for"
    said = ran.stdout + ran.stderr
    assert ran.returncode == 1, said
    assert setting in said and cause in said, said
    assert said.count(cause) == 1, said
    assert "Traceback" not in said
    nowhere(tmp_path, said)


def test_in_a_program(secured, tmp_path):
    options = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-256",
        "sasl.username": USER,
        "sasl.password": WRONG,
        "ssl.ca.location": str(secured.authority.certificate),
    }
    sink = kafka("program", partitions=1, broker=secured.secured, options=options)
    config = Config(kafka=options, broker=secured.secured, state_dir=tmp_path / "state")
    job = Topology("program")
    job.stream(memory("in", {"id": "int64"}, [{"id": 1}])).to(sink)
    with pytest.raises(ConnectorError, match=r"sasl\.password") as told:
        job.run(config)
    assert told.value.context.get("recoverable") is not True
    nowhere(tmp_path, repr(sink), repr(config), str(config), job.explain(), repr(told.value), str(told.value), str(sink.shown()))
    options["sasl.password"] = PASSWORD
    right = kafka("program", partitions=1, broker=secured.secured, options=options)
    assert job.run(Config(state_dir=tmp_path / "state"), bind={"program": right}).finished
    assert [record.value for record in consume_all(secured.bootstrap, "program")] == [b'{"id":1}']
