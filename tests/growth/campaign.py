"""Kills the grown fraud job, its broker, PostgreSQL and Redis, and compares what is in each place with the oracles.

``python -m tests.growth.campaign --kills 100 --server-kills 10 --seed 7``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fraud")]

import oracle  # noqa: E402
import oracle_habits  # noqa: E402
import psycopg  # noqa: E402

from examples.fraud import data  # noqa: E402
from examples.fraud.routing import CRITICAL_ALERTS  # noqa: E402
from examples.fraud.topology import ALERTS, TRANSACTIONS  # noqa: E402
from tests.kafka.broker import Broker  # noqa: E402
from tests.kafka.crash import fill  # noqa: E402
from tests.kafka.topics import consume_all, wait_until_settled  # noqa: E402
from tests.postgres.server import Server as Postgres  # noqa: E402
from tests.redis.server import Server as Redis  # noqa: E402

#: A worker lives so long behind its first checkpoint; a server is away for so long.
LIFE_S, AWAY_S = (0.0, 1.0), (0.2, 1.5)
CRITICAL_RULES = ("GEO_IMPOSSIBLE", "STRUCTURING")


class Receiver:
    """A webhook: what it got, by idempotency key."""

    def __init__(self) -> None:
        self.keys: dict[tuple[int, str], set[str]] = {}
        kept, lock = self.keys, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    kept.setdefault((body["transaction_id"], body["rule"]), set()).add(self.headers["Idempotency-Key"])
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                """A worker that is killed breaks its connections."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Campaign:
    """One sample, one job, and its servers, which `places` holds by name."""

    def __init__(self, place: Path, transactions: int, seed: int, rate: int) -> None:
        self.place, self.rate, self.chance = place, rate, random.Random(seed)
        self.sample = data.generate(place / "data", transactions, max(40, transactions // 40), seed, kind="habits")
        # PostgreSQL runs as another user.
        place.chmod(0o755)
        (place / "postgres").mkdir()
        self.broker, self.postgres, self.redis, self.receiver = Broker(), Postgres(place / "postgres"), Redis(place / "redis"), Receiver()
        self.servers: dict[str, Any] = {"broker": self.broker, "postgres": self.postgres, "redis": self.redis}
        self.killed: Counter[str] = Counter()
        self.failed: list[str] = []  # workers that ended by themselves, and not well
        self.late = 0  # kills that found the job at its end

    def run(self, kills: int, server_kills: int) -> list[str]:
        """Kill so often, run to the end, and return what is wrong."""
        for server in self.servers.values():
            server.start()
        try:
            fill(self.broker.bootstrap, self.sample, TRANSACTIONS)
            left = [*["worker"] * kills, *(name for name in self.servers for _ in range(server_kills))]
            self.chance.shuffle(left)
            while left:
                left = self._life(left)
            self.rate = 10**7
            process = self._start()
            if process.wait(600):
                return [*self.failed, f"the last run ended with exit code {process.returncode}\n{self._log()}"]
            return [*self.failed, *self.wrong()]
        finally:
            self.receiver.close()
            self.redis.kill()
            self.postgres.kill()
            self.broker.close()

    def _life(self, left: list[str]) -> list[str]:
        """Run a worker, kill what comes next, until it was the worker; return what is left to be killed."""
        process = self._start()
        try:
            while left:
                self._wait_for_a_checkpoint(process)
                time.sleep(self.chance.uniform(*LIFE_S))
                name, left = left[0], left[1:]
                self.killed[name] += 1
                if process.poll() is not None:
                    self.late += 1
                    if process.returncode:
                        self.failed.append(f"a worker ended by itself, exit code {process.returncode}\n{self._log()}")
                    break
                if name == "worker":
                    break
                self.servers[name].kill()
                time.sleep(self.chance.uniform(*AWAY_S))
                self.servers[name].start()
            return left
        finally:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        environ = {"FRAUD_POSTGRES": self.postgres.dsn, "FRAUD_REDIS": self.redis.url, "FRAUD_WEBHOOK": self.receiver.url}
        command = [sys.executable, "-m", "tests.growth.job", self.broker.bootstrap, str(self.place / "state"), str(self.rate)]
        with (self.place / "log.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=log, stderr=log)

    def _wait_for_a_checkpoint(self, process: subprocess.Popen[bytes]) -> None:
        before, until = self._checkpoints(), time.monotonic() + 120
        while self._checkpoints() == before and process.poll() is None:
            if time.monotonic() > until:
                raise RuntimeError(f"no checkpoint in two minutes\n{self._log()}")
            time.sleep(0.02)

    def _checkpoints(self) -> set[str]:
        return {path.name for path in (self.place / "state").glob("checkpoints/*")} if (self.place / "state").exists() else set()

    def _log(self) -> str:
        return (self.place / "log.txt").read_text()[-3_000:]

    def wrong(self) -> list[str]:
        """Compare each place with the oracles."""
        three = [(one.transaction_id, one.rule, one.account_number, one.event_time, one.severity) for one in self._three()]
        accounts = {int(row["transaction_id"]): row for path in self.sample.transactions for row in oracle.rows_of(path)}
        five = [
            (number, rule, accounts[number]["account_number"], int(accounts[number]["event_time"]), _severity(rule))
            for number, rule in oracle_habits.expected(self.sample.transactions)
        ]
        expected = Counter([*three, *five])
        checks: list[Callable[[Counter[Any]], str]] = [self._in_kafka, self._in_postgres, self._in_redis, self._in_webhook]
        return [problem for check in checks if (problem := check(expected))]

    def _three(self) -> list[Any]:
        return list(oracle.expected(self.sample.transactions).elements())

    def _in_kafka(self, expected: Counter[Any]) -> str:
        found: Counter[Any] = Counter()
        for topic in (ALERTS, CRITICAL_ALERTS):
            wait_until_settled(self.broker.bootstrap, topic)
            for record in consume_all(self.broker.bootstrap, topic):
                row = json.loads(record.value)
                if (row["severity"] == "critical") != (topic == CRITICAL_ALERTS):
                    return f"{topic} has an alert of severity {row['severity']}"
                found[_alert(row)] += 1
        return _difference("Kafka", expected, found)

    def _in_postgres(self, expected: Counter[Any]) -> str:
        with psycopg.connect(self.postgres.dsn) as connection:
            rows = connection.execute("select transaction_id, rule, account_number, event_time, severity from fraud_alerts").fetchall()
        return _difference("PostgreSQL", expected, Counter(rows))

    def _in_redis(self, expected: Counter[Any]) -> str:
        client = self.redis.client()
        found = Counter(
            (key.removeprefix("fraud:account:"), int(kept["event_time"]), int(kept["alerts"]))
            for key in client.scan_iter("fraud:account:*")
            for kept in [client.hgetall(key)]
        )
        number: Counter[str] = Counter(account for _, _, account, _, _ in expected.elements())
        last: dict[str, int] = {}
        for _, _, account, time_ms, _ in expected:
            last[account] = max(last.get(account, time_ms), time_ms)
        return _difference("Redis", Counter((account, time_ms, number[account]) for account, time_ms in last.items()), found)

    def _in_webhook(self, expected: Counter[Any]) -> str:
        critical = Counter((number, rule) for number, rule, _, _, severity in expected if severity == "critical")
        twice = [alert for alert, keys in self.receiver.keys.items() if len(keys) > 1]
        return _difference("the webhook", critical, Counter(list(self.receiver.keys))) or (f"several keys for {twice[:3]}" if twice else "")


def _severity(rule: str) -> str:
    return "critical" if rule in CRITICAL_RULES else "high"


def _alert(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("transaction_id", "rule", "account_number", "event_time", "severity"))


def _difference(place: str, expected: Counter[Any], found: Counter[Any]) -> str:
    missing, more = expected - found, found - expected
    if not missing and not more:
        return ""
    return f"{place}: {missing.total()} missing {list(missing)[:3]}, {more.total()} more {list(more)[:3]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--server-kills", type=int, default=10, help="of each server")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=500, help="transactions per second and partition")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="growth-") as place:
        campaign = Campaign(Path(place), asked.transactions, seed, asked.rate)
        problems = campaign.run(asked.kills, asked.server_kills)
    late = f" ({campaign.late} of them when the job had ended: lower --rate)" if campaign.late else ""
    print(f"seed {seed}: {dict(campaign.killed)} killed{late}, {time.monotonic() - began:.0f} s; {len(problems)} violations")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
