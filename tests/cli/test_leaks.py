"""A canary in the place of every secret: nothing that a command writes, serves or leaves behind has it."""

from __future__ import annotations

import signal
import socket
import textwrap
import urllib.request
from pathlib import Path

import pytest

from .jobs import ROOT, command, worker, write_job

CANARY = "canary-7c1e94"
SECRETS = {
    "STREAMDSL_KAFKA__SASL_PASSWORD": CANARY,
    "STREAMDSL_KAFKA__SSL_KEY_PASSWORD": CANARY,
    "STREAMDSL_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": CANARY,
}
#: So that a client is really made with the password.
SASL = {**SECRETS, "STREAMDSL_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT", "STREAMDSL_KAFKA__SASL_MECHANISMS": "PLAIN",
        "STREAMDSL_KAFKA__SASL_USERNAME": "user"}  # fmt: skip

ON_KAFKA = """
    from streamdsl import Topology, kafka
    topology = Topology("on-kafka")
    topology.stream(kafka("in", {"k": str}), name="in").to(kafka("out", partitions=1), name="out")
"""


def closed_port() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{closed.getsockname()[1]}"


def without_canary(place: Path, *texts: str) -> None:
    for text in texts:
        assert CANARY not in text
    for path in place.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


@pytest.fixture
def place(tmp_path):
    write_job(tmp_path)
    (tmp_path / "on_kafka.py").write_text(textwrap.dedent(ON_KAFKA))
    return tmp_path


def test_a_worker_that_runs_and_stops(place):
    with worker(
        "-A", "counting", "worker", "-l", "DEBUG", "--checkpoint-interval", "50ms", "--metrics-port", 0, place=place, env=SASL
    ) as running:
        address = running.until("metrics ").split()[1].removesuffix("/metrics,")
        served = [urllib.request.urlopen(f"{address}/{page}", timeout=30).read().decode() for page in ("metrics", "health")]
        seen = Path(f"/proc/{running.process.pid}/cmdline").read_text()
        running.process.send_signal(signal.SIGTERM)
        code, said = running.ended()
    assert code == 0 and "sasl.password=***" in said
    without_canary(place, said, seen, *served)


def test_a_worker_that_fails(place):
    (place / "in.csv").write_text("k,v,at\na,1,no time\n")
    ran = command("-A", "counting", "worker", "-l", "DEBUG", place=place, env=SASL)
    assert ran.returncode == 1 and "Traceback" in ran.stderr
    without_canary(place, ran.stdout, ran.stderr)


def test_a_worker_that_waits_for_its_broker_and_is_told_to_leave(place):
    with worker("-A", "on_kafka", "worker", "-l", "DEBUG", "--broker", closed_port(), place=place, env=SASL) as running:
        running.until("does not answer")
        running.process.send_signal(signal.SIGINT)
        code, said = running.ended()
    assert code == 130 and "Traceback" not in said
    without_canary(place, said)


@pytest.mark.parametrize("arguments", [["doctor"], ["-A", "on_kafka", "doctor"], ["-A", "on_kafka", "topics"]])
def test_commands_whose_broker_does_not_answer(place, here, monkeypatch, arguments):
    monkeypatch.setattr("streamdsl.cli.doctor._TIMEOUT_S", 0.5)
    monkeypatch.setattr("streamdsl.cli.kafka._TIMEOUT_S", 0.5)
    for name, value in SASL.items():
        monkeypatch.setenv(name, value)
    code, out, err = here(*arguments, "--broker", closed_port())
    assert code == 1 and "does not answer" in out + err
    without_canary(place, out, err)


@pytest.mark.parametrize(
    "text",
    [
        f'[kafka]\n"sasl.password" = "{CANARY}"\n"security.protocol" = "NONSENSE"\n',
        f'[kafka]\n"sasl.password" = "{CANARY}"\n"no.such.option" = "{CANARY}"\n',
        f'unknown = 1\n[kafka]\n"sasl.password" = "{CANARY}"\n',
        f'[kafka]\n"sasl.password" = "{CANARY}"\n"sasl.username" = ["{CANARY}"]\n',
        f'[kafka]\n"sasl.password" = "{CANARY}\n',
        f'broker = "user:{CANARY}@host:9092"\n',
        f'kafka = "{CANARY}"\n',
    ],
)
def test_configurations_that_are_refused(tmp_path, here, text):
    (tmp_path / "c.toml").write_text(text)
    (tmp_path / "c.toml").chmod(0o600)
    code, out, err = (
        here("doctor", "--config", "c.toml", "--broker", closed_port()) if "broker" not in text else here("doctor", "--config", "c.toml")
    )
    assert code in (1, 2)
    assert CANARY not in out + err


def test_explain_and_graph_of_a_topology_with_a_password(tmp_path, here):
    (tmp_path / "secretive.py").write_text(
        textwrap.dedent(ON_KAFKA).replace(
            "partitions=1", f'partitions=1, options={{"sasl.password": "{CANARY}", "ssl.key.password": "{CANARY}"}}'
        )
    )
    for arguments in (["explain"], ["graph"], ["graph", "--format", "dot"]):
        code, out, err = here("-A", "secretive", *arguments)
        assert code == 0 and CANARY not in out + err
    assert str(ROOT) not in out
