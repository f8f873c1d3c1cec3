"""The example's topology, as it is, between the two topics."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, Final

from benchmarks.kafka_jobs.work import Work, report
from examples.fraud.records import Transaction
from examples.fraud.topology import topology
from streamdsl import Config, kafka

#: Until all partitions are known to be idle, behind the last record: then all alerts are there.
SETTLE_S: Final = 10.0


def read(run: Any) -> int:
    """Return how many records were read."""
    return sum(sum(task.get("splits", {}).values()) for task in run.metrics()["tasks"])


def ours(work: Work) -> None:
    """Run the job to the end of the topic, or until SIGTERM.

    The clock runs from its start to its last commit, or to the last record where it follows.
    """
    until = "latest" if work.records and not work.follows else None
    source = kafka(work.transactions, schema=Transaction, broker=work.broker, start="earliest", until=until)
    sink = kafka(work.alerts, broker=work.broker, delivery=work.guarantee, key="account_number", timestamps="arrival")
    # The runs of a benchmark are no continuation of one another.
    config = Config(
        parallelism=work.parallelism,
        state_dir=work.directory,
        checkpoint_interval=f"{work.interval_ms}ms",
        accept_duplicates_from=0,
    )
    asked_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.set())
    began = time.perf_counter()
    run = topology.start(config, bind={"transactions": source, "alerts": sink})
    seconds = 0.0
    while not run.wait(0.05):
        if work.follows and not seconds and read(run) >= work.records:
            seconds = time.perf_counter() - began
        if asked_to_end.is_set() or (seconds and time.perf_counter() - began > seconds + SETTLE_S):
            run.stop()
            run.wait()
            break
    seconds = seconds or time.perf_counter() - began
    checkpoints = run.metrics()["checkpoints"]["completed"]
    report(work.records, seconds, checkpoints=checkpoints)


if __name__ == "__main__":
    ours(Work.told())
