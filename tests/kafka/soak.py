"""A job from Kafka to Kafka for a long time: what it holds of the machine levels out.

``python -m tests.kafka.soak --seconds 3600``. A producer writes 5,000 records a second. A worker in a process of its
own counts by key in frames and windows, exactly once, with a checkpoint every 200 ms. Its resident memory,
descriptors, threads and state directory are sampled;
after a warm-up a straight line through each must not rise by more than `BOUNDS` in an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.kafka.broker import Broker
from tests.kafka.topics import create_topic

KEYS: Final = 10_000
PARTITIONS: Final = 3
SAMPLES: Final = 600
#: So much of the run is for filling what is filled once, at least half a minute.
WARM_UP: Final = 0.25
JOB: Final = """
from streamdsl import Topology, col, count, kafka, rolling, tumbling

topology = Topology("soak")
rows = topology.stream(kafka("soak-in", {"k": str, "v": int}), name="in").key_by("k")
rows.with_columns(recent=count().over(rolling("60s"))).filter(col("recent") % 10 == 0).to(kafka("soak-frames", partitions=3), name="frames")
rows.window(tumbling("10s")).aggregate(n=count(), total=col("v").sum()).to(kafka("soak-windows", partitions=3), name="windows")
"""


@dataclass(frozen=True)
class Bound:
    """What a figure may rise by in an hour; less than `noise` over the whole run is no rise."""

    unit: str
    an_hour: float
    noise: float


BOUNDS: Final = {
    "resident memory": Bound("MiB", 16.0, 12.0),
    "descriptors": Bound("", 2.0, 16.0),
    "threads": Bound("", 1.0, 2.0),
    "state directory": Bound("MiB", 16.0, 96.0),
}


def sampled(pid: int, state: Path) -> dict[str, float]:
    """Return the figures of now."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident memory": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
        "state directory": size_of(state) / (1 << 20),
    }


def size_of(place: Path) -> int:
    """Return the bytes of all files; one that goes meanwhile counts nothing, one with several names once."""
    found: dict[int, int] = {}
    for directory, _, names in os.walk(place):
        for name in names:
            try:
                status = os.stat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much a straight line through the points rises in a second."""
    middle_t, middle_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - middle_t) ** 2 for t in times)
    return sum((t - middle_t) * (v - middle_v) for t, v in zip(times, values, strict=True)) / spread if spread else 0.0


class Writing(threading.Thread):
    """Writes records at a rate until it is told to stop."""

    def __init__(self, bootstrap: str, rate: int) -> None:
        super().__init__(daemon=True)
        self.rate, self.sent, self.refused, self.stopped = rate, 0, 0, threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True, "partitioner": "murmur2_random"}
        )

    def run(self) -> None:
        due, last = 0.0, time.monotonic()
        while not self.stopped.wait(0.005):
            now = time.monotonic()
            due, last = due + (now - last) * self.rate, now
            while self.sent < due:
                value = json.dumps({"k": f"k{self.sent % KEYS}", "v": self.sent}).encode()
                self._producer.produce("soak-in", value, f"k{self.sent % KEYS}", on_delivery=self._told)
                self.sent += 1
            self._producer.poll(0)
        self._producer.flush(60)

    def _told(self, error: object, message: object) -> None:
        self.refused += error is not None


def behind(bootstrap: str) -> int:
    """Return how many records the job has not committed: by the positions of its group."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "soak", "enable.auto.commit": False})
    try:
        committed = consumer.committed([TopicPartition("soak-in", number) for number in range(PARTITIONS)], timeout=30)
        return sum(consumer.get_watermark_offsets(at, timeout=30)[1] - max(at.offset, 0) for at in committed)
    finally:
        consumer.close()


def watched(worker: subprocess.Popen[bytes], state: Path, seconds: float) -> tuple[list[float], list[dict[str, float]]]:
    """Sample until the time is over; a worker that ends by itself is an error."""
    times, found = list[float](), list[dict[str, float]]()
    began = said = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        if worker.poll() is not None:
            raise SystemExit(f"the worker ended with code {worker.returncode} after {now - began:.0f} s")
        times.append(now - began)
        found.append(sampled(worker.pid, state))
        if now - said >= 60:
            said = now
            print(f"{now - began:6.0f} s ", ", ".join(f"{name} {value:.0f}" for name, value in found[-1].items()), flush=True)
        time.sleep(max(0.5, seconds / SAMPLES))
    return times, found


def judged(times: list[float], found: list[dict[str, float]], seconds: float) -> int:
    """Print the slopes; return how many are too steep."""
    warm = max(30.0, WARM_UP * seconds)
    kept = [i for i, at in enumerate(times) if at >= warm]
    if len(kept) < 10:
        raise SystemExit(f"too short: nothing is left behind a warm-up of {warm:.0f} s")
    wrong = 0
    for name, bound in BOUNDS.items():
        values = [found[i][name] for i in kept]
        a_second = slope([times[i] for i in kept], values)
        rise = a_second * (times[kept[-1]] - times[kept[0]])
        steep = a_second * 3600 > bound.an_hour and rise > bound.noise
        wrong += steep
        print(
            f"{name:16} {a_second * 3600:+8.2f} {bound.unit}/h (bound {bound.an_hour:g}), "
            f"over the run {rise:+.2f} (noise {bound.noise:g}); "
            f"least {min(values):.1f}, last {values[-1]:.1f}, most {max(values):.1f}{'  TOO STEEP' if steep else ''}"
        )
    return wrong


def main() -> int:
    """Run it; 1 if a slope is too steep, or the worker falls behind or fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=int, default=5_000, help="records per second")
    asked = parser.parse_args()
    kept = {"retention_bytes": str(32 << 20), "segment_bytes": str(8 << 20)}
    with tempfile.TemporaryDirectory(prefix="streamdsl-soak-") as place, Broker(heap="512m") as broker:
        (Path(place) / "job.py").write_text(JOB)
        create_topic(broker.bootstrap, "soak-in", PARTITIONS, **kept)
        for topic in ("soak-frames", "soak-windows"):
            create_topic(broker.bootstrap, topic, PARTITIONS, **kept)
        command = [sys.executable, "-m", "streamdsl", "-A", "job.py", "worker", "--broker", broker.bootstrap, "-l", "WARNING"]
        command += ["--state-dir", "state", "--checkpoint-interval", "200ms"]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        writing = Writing(broker.bootstrap, asked.rate)
        with subprocess.Popen(command, cwd=place, env=environ) as worker:
            try:
                writing.start()
                times, found = watched(worker, Path(place) / "state", asked.seconds)
                writing.stopped.set()
                writing.join()
                time.sleep(5)
                lag = behind(broker.bootstrap)
                worker.send_signal(signal.SIGTERM)
                code = worker.wait(30)
            finally:
                worker.kill()
    print(f"{writing.sent:,} records in {asked.seconds:.0f} s, {writing.refused} refused; {lag} not committed at the end; exit code {code}")
    wrong = judged(times, found, asked.seconds)
    return 1 if wrong or code or lag > asked.rate or writing.refused else 0


if __name__ == "__main__":
    sys.exit(main())
