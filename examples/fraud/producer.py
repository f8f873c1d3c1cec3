"""Sends the sample transactions to Kafka: ``python examples/fraud/producer.py --help``.

Exit code 0: all are delivered; 1: some are not, or the broker does not answer; 130: stopped by Ctrl-C, and what was sent is delivered.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import heapq
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from . import data
from .records import Transaction

TOPIC: Final = "bank-transactions"
PARTITIONS: Final = 3
BROKER: Final = "localhost:19092"

_INTS: Final = frozenset(field.name for field in dataclasses.fields(Transaction) if field.type == "int")
_FLOATS: Final = frozenset(field.name for field in dataclasses.fields(Transaction) if field.type == "float")
#: What a broker is given to answer, and the last records to be acknowledged.
_PATIENCE_S: Final = 10.0
_FLUSH_S: Final = 60.0
#: How often the figures are shown, on a terminal and elsewhere.
_LIVE_S: Final = 0.2
_PLAIN_S: Final = 5.0
#: Ahead of its time by less than this, a record is sent at once: sleeping takes longer.
_LEAST_SLEEP_S: Final = 0.002


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Send bank transactions to Kafka, keyed by account.")
    add = parser.add_argument
    add("--broker", default=BROKER, metavar="HOST:PORT", help=f"default: {BROKER}")
    add("--topic", default=TOPIC, help=f"made with {PARTITIONS} partitions if it is missing (default: {TOPIC})")
    add("--input", nargs="+", type=Path, metavar="FILE", help="CSV files, one a country (default: the sample)")
    add("--rate", type=_rate, default=3000.0, metavar="N|max", help="records per second and file (default: 3000)")
    add("--records", type=_count, metavar="N", help="stop after so many (default: all)")
    return parser.parse_args(argv)


def _rate(text: str) -> float | None:
    if text == "max":
        return None
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError("a rate is above 0, or max")
    return rate


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


# ---------------------------------------------------------------------------------------------------- what is sent


def transactions(path: Path, number: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (event time, `number`, transaction) for each line of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                if not row["account_number"] or None in row:
                    raise ValueError("no account, or more values than columns")
                yield int(row["event_time"]), number, {name: _value(name, text) for name, text in row.items()}
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {line}: {error}") from error


def _value(name: str, text: str) -> Any:
    if name in _INTS:
        return int(text)
    if name in _FLOATS:
        return float(text)
    return text or None


def side_by_side(paths: Sequence[Path]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the files' transactions as they happened: who reads a partition sees both countries, neither far ahead of the other."""
    return heapq.merge(*(transactions(path, number) for number, path in enumerate(paths)), key=lambda sent: sent[0])


class Pace:
    """Holds each file to `rate` records a second; None: nothing is held."""

    def __init__(self, rate: float | None, files: int) -> None:
        self._rate = rate
        self._sent = [0] * files
        self._began = time.monotonic()

    def remaining(self, number: int) -> float:
        """Return how long it is until the next record of file `number` is due, in seconds."""
        return 0.0 if self._rate is None else self._began + self._sent[number] / self._rate - time.monotonic()

    def sent(self, number: int) -> None:
        """Note that it was sent."""
        self._sent[number] += 1


# ---------------------------------------------------------------------------------------------------- the topic


class BrokerError(Exception):
    """The broker does not answer, or refuses; the text says what to do."""


def prepare(options: dict[str, Any], topic: str) -> int:
    """Make the topic if it is missing and return how many partitions it has; one that is there stays as it is."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({**options, "log_level": 0})
    try:
        known = admin.list_topics(timeout=_PATIENCE_S).topics.get(topic)
        if known is not None and known.partitions:
            return len(known.partitions)
        admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)])[topic].result(_PATIENCE_S)
    except KafkaException as error:
        raise BrokerError(
            f"the broker {options['bootstrap.servers']} does not answer: {error.args[0].str()}\n"
            "  is it running? `docker compose up -d` starts one at localhost:19092; --broker names another"
        ) from error
    print(f"made the topic {topic} with {PARTITIONS} partitions", file=sys.stderr)
    return PARTITIONS


class Sender:
    """A producer whose every delivery report is looked at."""

    def __init__(self, options: dict[str, Any], topic: str) -> None:
        from confluent_kafka import Producer

        self._topic = topic
        self._producer = Producer(
            {
                **options,
                # The same partition for a key as Java's clients and streamdsl choose.
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "log_level": 3,
            }
        )
        self.sent = self.delivered = 0
        self.failed: str | None = None

    def send(self, transaction: dict[str, Any]) -> None:
        """Send one; waits while too many are under way."""
        value = json.dumps(transaction, ensure_ascii=False, separators=(",", ":")).encode()
        key = transaction["account_number"].encode()
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._report)
                break
            except BufferError:
                self._producer.poll(0.1)
                if self.failed:
                    return
        self.sent += 1
        self._producer.poll(0)

    def poll(self, seconds: float) -> None:
        """Take in reports for so long."""
        self._producer.poll(seconds)

    def flush(self) -> None:
        """Wait for the reports that are still missing."""
        left = self._producer.flush(_FLUSH_S)
        if left:
            self.failed = self.failed or f"{left} records were not acknowledged within {_FLUSH_S:.0f} s"

    def _report(self, error: Any, message: Any) -> None:
        if error is None:
            self.delivered += 1
        else:
            self.failed = self.failed or f"a record could not be delivered: {error.str()}"


# ---------------------------------------------------------------------------------------------------- what is shown


class Progress:
    """A bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, total: int, out: TextIO) -> None:
        self._total, self._out = total, out
        self._live = out.isatty()
        self._began = self._shown = time.monotonic()
        self._before = 0

    def show(self, sender: Sender, *, last: bool = False) -> None:
        """Show how far it is, if it is time to."""
        now = time.monotonic()
        if not last and now - self._shown < (_LIVE_S if self._live else _PLAIN_S):
            return
        rate = (sender.sent - self._before) / max(now - self._shown, 1e-9)
        self._shown, self._before = now, sender.sent
        part = min(sender.sent / max(self._total, 1), 1.0)
        bar = f"[{'█' * int(30 * part):30}] " if self._live else ""
        figures = f"{part:6.1%}  {sender.sent:,} sent, {sender.delivered:,} delivered" + ("" if last else f", {rate:,.0f}/s")
        self._out.write(f"\r{bar}{figures}\x1b[K" if self._live else f"{figures}\n")
        if self._live and last:
            self._out.write("\n")
        self._out.flush()

    def totals(self, sender: Sender) -> None:
        """Show the figures of the whole."""
        took = time.monotonic() - self._began
        self._out.write(f"{sender.delivered:,} transactions in {took:.2f} s ({sender.delivered / max(took, 1e-9):,.0f}/s)\n")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return max(sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1, 0)


class _Stop:
    """Ctrl-C and SIGTERM end the sending, not the process."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


# ---------------------------------------------------------------------------------------------------- the whole


def main(argv: Sequence[str] | None = None) -> int:
    """Send; return the exit code."""
    asked = arguments(argv)
    try:
        return _run(asked)
    except ImportError as error:
        print(f"error: {error}\n  pip install 'streamdsl[kafka]'", file=sys.stderr)
        return 2
    except (BrokerError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("left at once: not all that was sent is known to be delivered", file=sys.stderr)
        return 130


def _run(asked: argparse.Namespace) -> int:
    paths = asked.input or data.sample().transactions
    total = min(sum(map(_lines, paths)), asked.records or sys.maxsize)
    options = {"bootstrap.servers": asked.broker, "client.id": "fraud-producer"}
    partitions = prepare(options, asked.topic)
    if partitions != PARTITIONS:
        print(f"the topic {asked.topic} has {partitions} partitions, not {PARTITIONS}: it is left as it is", file=sys.stderr)
    stop = _Stop()
    sender, progress, pace = Sender(options, asked.topic), Progress(total, sys.stderr), Pace(asked.rate, len(paths))
    for _, number, transaction in side_by_side(paths):
        if stop.asked or sender.failed or sender.sent == total:
            break
        while (wait := pace.remaining(number)) > _LEAST_SLEEP_S and not stop.asked:
            sender.poll(min(wait, _LIVE_S))
            progress.show(sender)
        sender.send(transaction)
        pace.sent(number)
        progress.show(sender)
    sender.flush()
    progress.show(sender, last=True)
    progress.totals(sender)
    if sender.failed:
        raise BrokerError(
            f"{sender.failed}\n  {sender.delivered:,} of {sender.sent:,} records sent are delivered; start again when it is mended"
        )
    if stop.asked:
        print("stopped; all that was sent is delivered", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
