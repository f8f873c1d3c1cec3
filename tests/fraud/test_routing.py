"""Alerts in PostgreSQL, Redis and a webhook, with the worker killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import oracle
import psycopg
import pytest

from examples.fraud import topology
from streamdsl import ConfigError

ALL = "postgres,redis,webhook"


@pytest.fixture
def environ(database, redis_server, receiver):
    redis_server.client().flushall()
    with psycopg.connect(database.dsn) as connection:
        connection.execute("drop table if exists fraud_alerts")
    return {**os.environ, "FRAUD_POSTGRES": database.dsn, "FRAUD_REDIS": redis_server.url, "FRAUD_WEBHOOK": receiver.url}


def test_an_alert_is_everywhere_once_under_kills(tmp_path, small, expected, environ, database, redis_server, receiver):
    output = tmp_path / "alerts.jsonl"
    asked = ["--with", ALL, "--quiet", "--output", str(output), "--state-dir", str(tmp_path / "state"), "--checkpoint-interval", "50ms"]
    command = [sys.executable, topology.__file__, *asked, "--rate", "4000", "--input", *map(str, small.transactions)]
    for _ in range(3):
        process = subprocess.Popen(command, env=environ)
        seen = len(receiver.requests)
        until = time.monotonic() + 60
        while len(receiver.requests) == seen and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert subprocess.run([word if word != "4000" else "max" for word in command], env=environ, check=False).returncode == 0
    assert oracle.difference(expected, oracle.found(output)) == ""

    wanted = {(one.transaction_id, one.rule): one for one in expected}
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute("select transaction_id, rule, account_number, severity from fraud_alerts").fetchall()
    assert sorted((number, rule) for number, rule, _, _ in rows) == sorted(wanted)
    assert all(wanted[number, rule].severity == severity for number, rule, _, severity in rows)

    last = {}
    for one in expected:
        last[one.account_number] = max(last.get(one.account_number, 0), one.event_time)
    client = redis_server.client()
    assert {key.removeprefix("fraud:account:") for key in client.scan_iter("fraud:account:*")} == set(last)
    for account, time_ms in last.items():
        kept = client.hgetall(f"fraud:account:{account}")
        assert int(kept["event_time"]) == time_ms
        assert int(kept["alerts"]) == sum(one.account_number == account for one in expected)

    critical = {key for key, one in wanted.items() if one.severity == "critical"}
    keys = {}
    for body, headers in receiver.requests:
        keys.setdefault((body["transaction_id"], body["rule"]), set()).add(headers["Idempotency-Key"])
    assert set(keys) == critical
    assert all(len(each) == 1 for each in keys.values()), json.dumps({str(key): sorted(each) for key, each in keys.items()})


def test_a_place_without_an_address_is_refused(monkeypatch):
    monkeypatch.delenv("FRAUD_WEBHOOK", raising=False)
    with pytest.raises(ConfigError, match="FRAUD_WEBHOOK is not set"):
        topology.build(parts=["webhook"])


def test_no_password_is_shown(monkeypatch):
    monkeypatch.setenv("FRAUD_POSTGRES", "postgresql://bank:hunter2secret@db/bank")
    assert "hunter2secret" not in repr(topology.build(parts=["postgres"]).explain())


def test_critical_alerts_have_a_topic_of_their_own():
    made = topology.build(parts=["critical"])
    assert set(made.sinks()) == {"alerts", "critical-alerts"}
    with pytest.raises(SystemExit):
        topology.arguments(["--with", "critical"])
