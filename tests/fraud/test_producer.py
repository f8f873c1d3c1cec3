"""The producer without a broker: what it takes, what it sends and in which order, and what it says when something fails."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from examples.fraud import data, producer
from examples.fraud.records import Transaction

confluent_kafka = pytest.importorskip("confluent_kafka")

ROOT = Path(__file__).resolve().parents[2]


class Client:
    """A producer that keeps what it is given and reports when it is polled."""

    def __init__(self, options, *, fail_at=None, room=50):
        self.options, self.fail_at, self.room = options, fail_at, room
        self.records, self.waiting = [], []

    def produce(self, topic, value, key, on_delivery):
        if len(self.waiting) >= self.room:
            raise BufferError
        self.records.append((topic, key, json.loads(value)))
        failed = len(self.records) == self.fail_at
        self.waiting.append((on_delivery, confluent_kafka.KafkaError(confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE) if failed else None))

    def poll(self, seconds):
        if len(self.waiting) >= self.room or seconds:
            self.flush(seconds)

    def flush(self, seconds):
        reports, self.waiting = self.waiting, []
        for report, error in reports:
            report(error, None)
        return 0


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Let the producer run against a made-up client; returns where the last one will be, and its options."""
    clients = []
    more = {}

    def client(options):
        clients.append(Client(options, **more))
        return clients[-1]

    monkeypatch.setattr(confluent_kafka, "Producer", client)
    monkeypatch.setattr(producer, "prepare", lambda options, topic: more.pop("partitions", 3))
    monkeypatch.setattr(data, "default_directory", lambda: tmp_path / "none")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield clients, more
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def sample(tmp_path):
    return data.generate(tmp_path / "data", transactions=2_000, accounts=200, seed=5)


def send(sample, *options):
    return producer.main(["--input", *map(str, sample.transactions), "--rate", "max", *options])


def test_every_transaction_is_sent_once_keyed_by_its_account_in_the_order_of_time(made, sample, capsys):
    clients, _ = made
    assert send(sample) == 0
    (client,) = clients
    rows = [value for _, _, value in client.records]
    assert sorted(row["transaction_id"] for row in rows) == list(range(2_000))
    assert all(topic == "bank-transactions" and key == value["account_number"].encode() for topic, key, value in client.records)
    # No account overtakes itself, and neither country runs ahead of the other by more than the files' own disorder.
    for country in ("CL", "PE"):
        ids = [row["transaction_id"] for row in rows if row["country"] == country]
        assert ids == sorted(ids)
    times = [row["event_time"] for row in rows]
    assert max(before - now for before, now in zip(_highest(times), times, strict=True)) <= 2_000
    assert "2,000 transactions in" in capsys.readouterr().err
    assert client.options["partitioner"] == "murmur2_random" and client.options["enable.idempotence"] is True


def _highest(times):
    highest = times[0]
    for time in times:
        highest = max(highest, time)
        yield highest


def test_values_have_the_types_of_a_transaction(made, sample):
    clients, _ = made
    send(sample, "--records", "500")
    for _, _, value in clients[0].records:
        assert list(value) == list(Transaction.__dataclass_fields__)
        assert type(value["transaction_id"]) is type(value["event_time"]) is int and type(value["amount"]) is float
        assert value["category"] is None or value["category"]


def test_so_many_records_and_no_more(made, sample):
    clients, _ = made
    assert send(sample, "--records", "7", "--topic", "other") == 0
    assert len(clients[0].records) == 7 and clients[0].records[0][0] == "other"


def test_a_record_that_is_not_delivered_is_an_error(made, sample, capsys):
    clients, more = made
    more["fail_at"] = 120
    assert send(sample) == 1
    said = capsys.readouterr().err
    assert "a record could not be delivered" in said and "of " in said
    assert len(clients[0].records) < 2_000  # it does not go on


def test_another_number_of_partitions_is_said(made, sample, capsys):
    _, more = made
    more["partitions"] = 6
    assert send(sample, "--records", "1") == 0
    assert "has 6 partitions, not 3: it is left as it is" in capsys.readouterr().err


def test_each_file_is_held_to_the_rate():
    pace = producer.Pace(100.0, 2)
    for _ in range(50):
        pace.sent(0)
    assert 0.4 < pace.remaining(0) <= 0.5
    assert pace.remaining(1) <= 0
    assert producer.Pace(None, 1).remaining(0) == 0


@pytest.mark.parametrize(
    "options", [["--rate", "0"], ["--rate", "-1"], ["--rate", "inf"], ["--rate", "nan"], ["--rate", "x"], ["--records", "0"], ["x"]]
)
def test_what_is_asked_for_wrongly_is_refused(options, capsys):
    with pytest.raises(SystemExit) as left:
        producer.main(options)
    assert left.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_defaults_are_those_of_the_demo():
    asked = producer.arguments([])
    assert (asked.broker, asked.topic, asked.rate, asked.input) == ("localhost:19092", "bank-transactions", 3000.0, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("event_time,account_number,amount\n5,a,1.0\nsoon,a,1.0\n", "line 3: invalid literal for int"),
        ("account_number,amount\na,1.0\n", "line 2: 'event_time'"),
        ("event_time,amount\n5,1.0\n", "line 2: 'account_number'"),
        ("event_time,account_number\n5,a,more\n", "line 2: no account, or more values than columns"),
    ],
)
def test_a_bad_line_is_named(made, tmp_path, capsys, text, said):
    (tmp_path / "bad.csv").write_text(text)
    assert producer.main(["--input", str(tmp_path / "bad.csv"), "--rate", "max"]) == 1
    assert f"{tmp_path / 'bad.csv'}, {said}" in capsys.readouterr().err


def test_a_file_that_is_missing_is_named(made, tmp_path, capsys):
    assert producer.main(["--input", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err


def test_a_broker_that_does_not_answer_is_named(sample, capsys, monkeypatch):
    monkeypatch.setattr(producer, "_PATIENCE_S", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert send(sample, "--broker", address) == 1
    said = capsys.readouterr().err
    assert f"the broker {address} does not answer" in said and "docker compose up -d" in said


def test_a_terminal_gets_a_bar_and_others_get_lines():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    sender = type("Sender", (), {"sent": 500, "delivered": 480})()
    for out, expected in (
        (Terminal(), "\r[███████████████               ]  50.0%  500 sent, 480 delivered"),
        (io.StringIO(), " 50.0%  500 sent, 480 delivered"),
    ):
        producer.Progress(1_000, out).show(sender, last=True)
        assert out.getvalue().startswith(expected) and out.getvalue().endswith("\n")


#: Sends to a client that is made up, slowly, until somebody stops it.
STOPPED = """
    import confluent_kafka
    from examples.fraud import producer
    from tests.fraud.test_producer import Client

    confluent_kafka.Producer = Client
    producer.prepare = lambda options, topic: 3
    producer._PLAIN_S = 0.1
    raise SystemExit(producer.main(["--input", {path!r}, "--rate", "200"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_everything_delivered(number, sample):
    code = "\n".join(line.strip() for line in STOPPED.format(path=str(sample.transactions[0])).splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "stopped; all that was sent is delivered" in said and "Traceback" not in said


def test_it_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/fraud/producer.py"), "--help"], cwd="/", capture_output=True, text=True, check=True
    )
    assert "keyed by account" in done.stdout
