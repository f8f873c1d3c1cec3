"""How fast is the fraud job between two Kafka topics, beside what a bare consumer reaches, Kafka Streams and Quix Streams?

    python benchmarks/kafka.py [--records N] [--jobs NAME …] [--repeat R] [--interval MS] [--latency-seconds S] [--json]

A broker of its own is started on this machine (see `tests/kafka`), and takes N transactions of the example's sample: JSON keyed by
account, in 3 partitions. Then each job reads the same topic, in a process of its own, the same three rules each, exactly once with a
commit every second; the alerts that a fresh read_committed consumer finds are compared with the oracle of the tests.
`yardstick` is confluent-kafka alone, which reads the topic in batches and touches each value: `ratio` is a job's rate by its rate;
`yardstick-c` is the same in C, against the same librdkafka. `ours-follows` is our job over the backlog without being told where it
ends. The two yardsticks and our jobs then read a topic of `--many` partitions. With
`--repeat` the jobs take turns, and the median counts; the broker uses the same cores, so look at the ratio rather than at the rate.

Then latency, at a fixed rate: from the moment a transaction is handed to the producer to the moment its alert is there for a read_committed
consumer; at least once, and exactly once with a commit every 100 ms and every second. The yardstick forwards one in 80 as it is: the
journeys through the broker, which are in every latency. With `--tick 10` the transactions come every 10 ms, as from a producer that
waits for more: each job then reads fewer and larger batches, and takes less of a core. At last our job has nothing to read, in topics
of `--idle` partitions.

`kafka-streams` needs Maven and Java 17, `quix` an environment with Quix Streams, which the first run makes in the user's cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fraud import commit, machine
from benchmarks.kafka_jobs import latency, quix
from benchmarks.kafka_jobs.transactions import Stream
from benchmarks.kafka_jobs.work import Work, cpu_s
from benchmarks.kafka_streams import run as kafka_streams
from tests.kafka import distribution, leash
from tests.kafka.broker import Broker
from tests.kafka.topics import consume_all, create_topic, produce

ROOT: Final = Path(__file__).resolve().parent.parent
PARTITIONS: Final = 3
YARDSTICK: Final = "yardstick"
#: Jobs that read alone; the others find alerts.
BARE: Final = (YARDSTICK, "yardstick-c")
#: Jobs of which latency says something of its own.
PACED: Final = (YARDSTICK, "ours", "kafka-streams", "quix")
#: Jobs that read the topic of many partitions.
MANY: Final = (YARDSTICK, "yardstick-c", "ours", "ours-follows")
#: The guarantee and the ms between commits.
LATENCIES: Final = (("at_least_once", 1000), ("exactly_once", 100), ("exactly_once", 1000))
#: As a broker in earnest: with the compiler and the collector that its JVM has by default, and Kafka's patience with a busy one.
IN_EARNEST: Final[dict[str, Any]] = {"heap": "1g", "jvm": ("-XX:+UseG1GC",), "options": {"broker.session.timeout.ms": "9000"}}
TIMEOUT_S: Final = 1800.0
#: By then a job has started, and knows that all partitions are idle.
IDLE_AFTER_S: Final = 15.0


class JobFailed(RuntimeError):
    """A job ended with another code than 0, or with other alerts than the oracle's."""


def module(name: str, python: Callable[[], str] = lambda: sys.executable) -> Callable[[Work], list[str]]:
    """Return how to run a module of `kafka_jobs`."""
    return lambda work: [python(), "-m", f"benchmarks.kafka_jobs.{name}", *work.arguments()]


JOBS: Final[dict[str, Callable[[Work], list[str]]]] = {
    YARDSTICK: module("yardstick"),
    "yardstick-c": module("yardstick_c"),
    "ours": module("ours"),
    "ours-follows": module("ours"),
    "kafka-streams": kafka_streams.command,
    "quix": module("quix", quix.python),
}


@dataclass
class Bench:
    """The broker, the transactions, and what was asked for."""

    broker: str
    stream: Stream
    asked: argparse.Namespace
    turns: int = 0

    @contextmanager
    def running(
        self, job: str, records: int, guarantee: str, interval_ms: int, topic: str
    ) -> Iterator[tuple[Work, subprocess.Popen[bytes]]]:
        """Start a job that writes to a topic of its own; whatever happens, it does not outlive this."""
        self.turns += 1
        alerts = create_topic(self.broker, f"alerts-{self.turns}-{job}", self.asked.partitions)
        with tempfile.TemporaryDirectory() as state:
            work = Work(self.broker, topic, alerts, records, guarantee, interval_ms, self.asked.parallelism, state, job == "ours-follows")
            process = leash.start(JOBS[job](work), subprocess.PIPE, stderr=None, cwd=ROOT)
            try:
                yield work, process
            finally:
                process.kill()
                process.wait()

    def throughput(self, job: str, topic: str, expected: Counter[tuple[int, str]]) -> dict[str, Any]:
        """Run a job over the topic; return its figures.

        Raises
        ------
        JobFailed
            If it fails, or finds other alerts than the oracle.
        """
        say(f"{job}: {self.asked.records:,} transactions")
        with self.running(job, self.asked.records, "exactly_once", self.asked.interval, topic) as (work, process):
            before = cpu_of_ended_children()
            out, _ = process.communicate(timeout=TIMEOUT_S)
            cpu_s = cpu_of_ended_children() - before
        if process.returncode:
            raise JobFailed(f"{job} failed (exit code {process.returncode}); what it says is above")
        figures: dict[str, Any] = json.loads(out.splitlines()[-1])
        # Of its whole life, the start too: on a machine that others use, it says more than the clock.
        figures["records_per_cpu_s"] = round(figures["records"] / cpu_s)
        if job not in BARE:
            rows = (json.loads(record.value or b"") for record in consume_all(self.broker, work.alerts))
            found = Counter((row["transaction_id"], row["rule"]) for row in rows)
            if found != expected:
                missing, more = (expected - found).total(), (found - expected).total()
                raise JobFailed(
                    f"{job} found {found.total()} alerts; {missing} of the oracle's {expected.total()} are missing, {more} are too many"
                )
            figures["alerts"] = found.total()
        return figures

    def latency(self, job: str, guarantee: str, interval_ms: int) -> dict[str, Any]:
        """Run a job on transactions as they come; return its latencies."""
        say(f"{job}: latency, {guarantee}, a commit every {interval_ms} ms")
        topic = create_topic(self.broker, f"paced-{self.turns}-{job}", self.asked.partitions)
        with self.running(job, 0, guarantee, interval_ms, topic) as (work, process):
            sent = (self.stream, self.asked.rate, self.asked.tick / 1000, self.asked.latency_seconds)
            figures = latency.measure(self.broker, topic, work.alerts, *sent, process.pid)
            if process.poll() is not None:
                raise JobFailed(f"{job} ended before it was told to; what it says is above")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT_S)
        return figures

    def idle(self, job: str, partitions: int) -> dict[str, Any]:
        """Run a job on a topic in which nothing comes any more; return what it takes of a core."""
        say(f"{job}: idle, {partitions} partitions")
        topic = fill(self.broker, self.stream, 2 * partitions, partitions, "quiet")["topic"]
        with self.running(job, 0, "exactly_once", self.asked.interval, topic) as (_, process):
            time.sleep(IDLE_AFTER_S)
            used_s, began = cpu_s(process.pid), time.perf_counter()
            time.sleep(self.asked.idle_seconds)
            percent = 100 * (cpu_s(process.pid) - used_s) / (time.perf_counter() - began)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT_S)
        return {"cpu_percent": round(percent, 1)}


def cpu_of_ended_children() -> float:
    """Return the CPU seconds that processes took which this one started, and which are gone."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say(text: str) -> None:
    """Tell a person what goes on; figures go to the other stream."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def fill(broker: str, stream: Stream, records: int, partitions: int, name: str = "bank-transactions") -> dict[str, Any]:
    """Produce the transactions; return how fast that was."""
    say(f"producing {records:,} transactions into {partitions} partitions")
    topic = create_topic(broker, f"{name}-{partitions}", partitions)
    began = time.perf_counter()
    options = {"delivery.report.only.error": True, "linger.ms": 50, "batch.size": 1_000_000, "queue.buffering.max.messages": 1_000_000}
    given = ((account, value) for account, value in stream.records(records))
    produce(broker, topic, given, **options)
    return {"topic": topic, "records_per_s": round(records / (time.perf_counter() - began))}


def summary(runs: list[dict[str, Any]], yardstick: float | None) -> dict[str, Any]:
    """Return the run in the middle, and its ratio to the yardstick."""
    middle = sorted(runs, key=lambda run: run["records_per_s"])[len(runs) // 2]
    rates = {"runs": [run["records_per_s"] for run in runs]} if len(runs) > 1 else {}
    return middle | rates | ({"ratio": round(middle["records_per_s"] / yardstick, 3)} if yardstick else {})


def benchmark(asked: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return all figures, and what failed."""
    stream, failures = Stream(), list[str]()
    figures: dict[str, Any] = {"throughput": {}, "many partitions": {}, "latency": {}, "idle": {}}
    with Broker(**IN_EARNEST) as broker:
        runs: dict[str, list[dict[str, Any]]] = {job: [] for job in asked.jobs}
        bench = Bench(broker.bootstrap, stream, asked)
        if asked.records:
            filled = fill(bench.broker, stream, asked.records, asked.partitions)
            figures["produced_records_per_s"] = filled["records_per_s"]
            say("the oracle")
            expected = stream.expected(asked.records)
            for job in [job for _ in range(asked.repeat) for job in asked.jobs]:
                try:
                    runs[job].append(bench.throughput(job, filled["topic"], expected))
                except JobFailed as failure:
                    failures.append(str(failure))
        reference = statistics.median_high([run["records_per_s"] for run in runs.get(YARDSTICK, [])] or [0])
        if asked.records and asked.many:
            topic = fill(bench.broker, stream, asked.records, asked.many)["topic"]
            for job in [job for job in asked.jobs if job in MANY]:
                try:
                    figures["many partitions"][job] = bench.throughput(job, topic, expected)
                except JobFailed as failure:
                    failures.append(f"{asked.many} partitions: {failure}")
        figures["throughput"] = {job: summary(measured, reference) for job, measured in runs.items() if measured}
        for job in [job for job in asked.jobs if job in PACED] if asked.latency_seconds else []:
            for guarantee, interval_ms in LATENCIES[:1] if job == YARDSTICK else LATENCIES:
                try:
                    figures["latency"][f"{job} {guarantee} {interval_ms}ms"] = bench.latency(job, guarantee, interval_ms)
                except (JobFailed, TimeoutError) as failure:
                    failures.append(f"{job}, latency, {guarantee}, {interval_ms} ms: {failure}")
        for partitions in asked.idle if asked.idle_seconds and "ours" in asked.jobs else []:
            figures["idle"][f"ours {partitions} partitions"] = bench.idle("ours", partitions)
    return figures, failures


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--records", type=int, default=5_000_000, help="transactions in the topic; 0: no throughput (default: 5,000,000)")
    add("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS), metavar="NAME", help=f"of {', '.join(JOBS)} (default: all)")
    add("--repeat", type=int, default=1, metavar="R", help="runs of each job, by turns")
    add("--interval", type=int, default=1000, metavar="MS", help="between checkpoints, or commits (default: 1000)")
    add("--parallelism", type=int, default=1, metavar="N", help="tasks, or threads, of a job that has them")
    add("--partitions", type=int, default=PARTITIONS, metavar="N", help=f"of each topic (default: {PARTITIONS})")
    add("--rate", type=int, default=6_000, help="transactions per second for the latency (default: 6000)")
    add("--tick", type=float, default=1.0, metavar="MS", help="between two sendings of what is due by then (default: 1)")
    add("--latency-seconds", type=float, default=30.0, metavar="S", help="so long each latency is measured; 0: not at all")
    add("--many", type=int, default=100, metavar="N", help="partitions of a second topic; 0: there is none (default: 100)")
    add("--idle", type=int, nargs="*", default=[3, 100, 1000], metavar="N", help="partitions of topics in which nothing comes")
    add("--idle-seconds", type=float, default=20.0, metavar="S", help="so long an idle job is watched; 0: not at all")
    add("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark and print its figures; 1 if a job failed."""
    asked = arguments()
    # Before minutes of measuring, not after them.
    if "kafka-streams" in asked.jobs:
        kafka_streams.build()
    if "quix" in asked.jobs:
        quix.python()
    figures, failures = benchmark(asked)
    versions = {"kafka": distribution.version(), "kafka-streams": kafka_streams.version(), "quix": quix.VERSION}
    told = {name: getattr(asked, name) for name in ("records", "repeat", "interval", "parallelism", "partitions", "rate", "tick")}
    figures |= {"asked": told, "versions": versions, "machine": machine(), "commit": commit(), "failures": failures}
    if asked.json:
        print(json.dumps(figures))
    else:
        for group in ("throughput", "many partitions", "latency", "idle"):
            print(group)
            for name, measured in figures[group].items():
                print(f"{name:32}", *(f"{key} {value}" for key, value in measured.items()), sep="  ")
        print(f"{figures['machine']}; {figures['commit']}; {versions}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
