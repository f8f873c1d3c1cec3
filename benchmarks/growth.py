"""What does each addition to the fraud example cost? Rules, the model, statistics, customers, PostgreSQL, Redis, a webhook.

    python benchmarks/growth.py [--transactions N] [--json]

Every job reads the same files and runs in a process of its own; its CPU seconds are that process's, the servers' are beside it on the
same cores. The model alone scores batches that are in memory. A part whose server is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fraud import commit, machine
from examples.fraud import customers, data, topology
from tests.postgres import server as postgres
from tests.redis import server as redis

JOBS = {
    "three rules": ["--rules", "declared"],
    "all rules": ["--rules", "all"],
    "all rules, model": ["--rules", "all", "--with", "model"],
    "all rules, statistics": ["--rules", "all", "--statistics", "{place}/statistics.jsonl", "--with", "statistics"],
    "all rules, customers": ["--rules", "all", "--customers", "{place}/customers.jsonl", "--with", "customer-changes"],
    "all rules, PostgreSQL": ["--rules", "all", "--with", "postgres"],
    "all rules, Redis": ["--rules", "all", "--with", "redis"],
    "all rules, webhook": ["--rules", "all", "--with", "webhook"],
    "everything": ["--rules", "all", "--with", "model,postgres,redis,webhook"],
}


class Hook(BaseHTTPRequestHandler):
    """Takes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer 204."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def servers(place: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the addresses of what could be started, and what could not."""
    with contextlib.ExitStack() as closing:
        addresses, missing = {}, []
        try:
            database = postgres.Server(place)
            database.start()
            closing.callback(database.stop)
            addresses["FRAUD_POSTGRES"] = database.dsn
        except postgres.NoServer as error:
            missing.append(f"postgres: {error}")
        try:
            store = redis.Server()
            store.start()
            closing.callback(store.kill)
            addresses["FRAUD_REDIS"] = store.url
        except redis.NoServer as error:
            missing.append(f"redis: {error}")
        hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        closing.callback(hook.shutdown)
        addresses["FRAUD_WEBHOOK"] = f"http://127.0.0.1:{hook.server_port}/"
        yield addresses, missing


def job(arguments: list[str], sample: data.Sample, environ: Mapping[str, str]) -> dict[str, float]:
    """Run the example and return its seconds."""
    place = sample.transactions[0].parent
    arguments = [argument.format(place=place) for argument in arguments]
    command = [sys.executable, topology.__file__, "--quiet", *arguments, "--input", *map(str, sample.transactions)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env={**os.environ, **environ}, check=True, stdout=subprocess.DEVNULL)
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    return {"seconds": took, "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def model_alone(sample: data.Sample) -> dict[str, float]:
    """Score the features of a sample, batch by batch, in this thread."""
    from examples.fraud.model.features import FEATURES, with_features
    from examples.fraud.model.scorer import Scorer
    from examples.fraud.records import Transaction
    from streamdsl import Topology, files

    features = Topology("features")
    stream = features.stream(files(sample.transactions, schema=Transaction), timestamp="event_time", disorder="5s", name="transactions")
    rows = with_features(stream.key_by("account_number")).select(*FEATURES).collect()
    scorer, batches = Scorer(), pa.table(rows).combine_chunks().to_batches(4096)
    cpu, began = time.thread_time(), time.monotonic()
    for batch in batches:
        scorer.scores(batch)
    return {"seconds": time.monotonic() - began, "cpu_seconds": time.thread_time() - cpu}


def main() -> int:
    """Print a line for each addition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transactions", type=int, default=data.TRANSACTIONS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "commit": commit(), "transactions": asked.transactions, "jobs": {}}
    # Not in the folder of one user: PostgreSQL runs as another one.
    with tempfile.TemporaryDirectory(prefix="streamdsl-growth-") as place:
        Path(place).chmod(0o755)
        sample = data.generate(Path(place) / "data", asked.transactions, max(40, asked.transactions // 40), asked.seed, kind="habits")
        people = customers.customers(max(40, asked.transactions // 40), asked.seed)
        customers.write_changes((customers.event("r", None, one) for one in people), Path(place) / "data" / "customers.jsonl")
        (Path(place) / "postgres").mkdir()
        with servers(Path(place) / "postgres") as (addresses, found["left_out"]):
            gone = [line.partition(":")[0] for line in found["left_out"]]
            for name, arguments in JOBS.items():
                if not any(part in arguments[-1] for part in gone):
                    found["jobs"][name] = job(arguments, sample, addresses)
        found["jobs"]["the model alone"] = model_alone(sample)
    for figures in found["jobs"].values():
        figures["transactions_per_second"] = asked.transactions / figures["seconds"]
        figures["transactions_per_cpu_second"] = asked.transactions / figures["cpu_seconds"]
    if asked.json:
        print(json.dumps(found))
        return 0
    print(f"{found['machine']}; {found['commit']}", *found["left_out"], sep="\n")
    for name, figures in found["jobs"].items():
        print(f"{name:24} {figures['transactions_per_second']:>12,.0f}/s {figures['transactions_per_cpu_second']:>12,.0f} per CPU second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
