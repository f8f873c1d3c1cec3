"""Fraud detection on bank transactions: ``python examples/fraud/topology.py --help``.

The topology reads and writes Kafka. The script runs it on files, with nothing else around it, or with --broker on Kafka.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Config, StreamError, Topology, col, files, format, kafka, lit, rolling

from . import data
from .alerts_topic import AlertsTopic
from .cities import CITIES
from .more_rules import dormant, new_category, new_channel, structuring, time_of_day
from .records import Transaction
from .routing import PLACES, route
from .rules import AmountAnomaly, ImpossibleTravel, Velocity, alerts, amount_anomaly, impossible_travel, velocity
from .screen import Screen, ScreenSink
from .thresholds import Thresholds

if TYPE_CHECKING:
    from streamdsl.launch import Run

    from .model.scorer import Scorer

Rules = Literal["declared", "processors", "all"]

TRANSACTIONS: Final = "bank-transactions"
ALERTS: Final = "fraud-alerts"
PARTITIONS: Final = 3

THREE: Final = ("VELOCITY", "AMOUNT_ANOMALY", "GEO_IMPOSSIBLE")

#: What `--with` takes.
PARTS: Final = ("model", "customers", "customer-changes", "statistics", *PLACES)

#: A rule's alert needs this score of the model; a transaction with that one is an alert without a rule.
DOUBT: Final = 0.1
SURE: Final = 0.5


def build(
    rules: Rules = "declared",
    rate: float | None = None,
    scorer: Scorer | None = None,
    parts: Collection[str] = (),
    at: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> Topology:
    """Return the topology; files take the place of the topics by the names "transactions" and "alerts".

    With a `scorer`, a model has its say: what it is sure of is an alert, and what it doubts is none. `parts` are those of `--with`.
    """
    topology = Topology("fraud-detection")
    transactions = topology.stream(
        kafka(TRANSACTIONS, Transaction, partitions=PARTITIONS, rate=rate), timestamp="event_time", disorder="5s", name="transactions"
    ).with_columns(topic=col("_topic"), partition=col("_partition"), offset=col("_offset"))
    accounts = transactions.counter("unknown_city", where=~col("city").is_in(CITIES)).key_by("account_number")
    if "statistics" in parts:
        from . import activity

        activity.write(activity.statistics(transactions), parts)
    if scorer is not None:
        from .model.scorer import scored

        transactions = scored(accounts, scorer)
        accounts = transactions.key_by("account_number")
    if rules != "processors":
        too_many = accounts.window(rolling("60s")).process(velocity(limit=at.velocity), name="velocity")
        too_much = accounts.process(amount_anomaly(sigmas=at.sigmas, warmup=at.warmup), name="amount-anomaly")
        too_far = accounts.process(impossible_travel(max_kmh=at.kmh), name="impossible-travel")
    else:
        too_many = accounts.process(Velocity(limit=at.velocity), name="velocity")
        too_much = accounts.process(AmountAnomaly(sigmas=at.sigmas, warmup=at.warmup), name="amount-anomaly")
        too_far = accounts.process(ImpossibleTravel(max_kmh=at.kmh), name="impossible-travel")
    found = too_many.merge(too_much, too_far)
    if rules == "all":
        found = found.merge(
            accounts.process(time_of_day(), name="time-of-day"),
            accounts.process(new_category(), name="new-category"),
            accounts.process(new_channel(), name="new-channel"),
            accounts.process(dormant(), name="dormant"),
            accounts.process(structuring(), name="structuring"),
        )
    if "customers" in parts or "customer-changes" in parts:
        from .customers import as_of, looked_up, over_limit

        known = looked_up(transactions) if "customers" in parts else as_of(transactions)
        found = found.merge(known.process(over_limit(), name="over-limit"))
    if scorer is not None:
        sure = alerts(accounts.filter(col("score") >= SURE), "MODEL", lit("high"), format("Scored {:.3f}", col("score")))
        found = found.filter(col("score") >= DOUBT).merge(sure)
    # By rule: in the worker's table, on the live page and in Grafana.
    for rule in rules_of(rules, scorer is not None, parts):
        found = found.counter(rule, where=col("rule") == rule)
    route(found, parts).to(kafka(ALERTS, partitions=PARTITIONS, key="account_number", timestamps="arrival"), name="alerts")
    return topology


def rules_of(rules: Rules, model: bool, parts: Collection[str]) -> list[str]:
    """Return the rules that may raise alerts."""
    more = ("TIME_OF_DAY", "NEW_CATEGORY", "NEW_CHANNEL", "DORMANT", "STRUCTURING") if rules == "all" else ()
    return [*THREE, *more, *(["OVER_LIMIT"] if {"customers", "customer-changes"} & set(parts) else []), *(["MODEL"] if model else [])]


topology = build()


def arguments(argv: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog=prog, description="Fraud detection on bank transactions.")
    add = parser.add_argument
    add("--input", nargs="+", metavar="FILE", help="CSV, JSON lines, Parquet or Arrow (default: sample data)")
    add("--output", metavar="FILE", help="alerts as JSON lines")
    add("--rate", type=_rate, default=None, metavar="N|max", help="records read per second, in all (default: max)")
    add("--broker", metavar="HOST:PORT", help=f"read the Kafka topic {TRANSACTIONS} and write {ALERTS}")
    add("--parallelism", type=int, default=1, metavar="N")
    add("--checkpoint-interval", default="5s", metavar="D", help="for instance 500ms (default: 5s)")
    add("--state-dir", metavar="DIR", help="go on where a run with this directory was (default: a fresh run)")
    add("--state-memory", default="256MiB", metavar="BYTES")
    add(
        "--rules",
        choices=("declared", "processors", "all"),
        default="declared",
        help="the three rules as verbs or in Python; or all eight, on another sample",
    )
    add("--with", dest="parts", type=parts, default=(), metavar="PART,…", help=f"what needs more than the library: {', '.join(PARTS)}")
    add("--customers", metavar="FILE", help="change events, as customers.py --changes makes them; with --with customer-changes")
    add("--statistics", metavar="FILE", help="of accounts and cities, as JSON lines; with --with statistics")
    add("--ui", nargs="?", type=int, const=8081, metavar="PORT", help="serve the live page (default port: 8081)")
    add("--quiet", action="store_true", help="the totals only")
    asked = parser.parse_args(argv)
    if "critical" in asked.parts and not asked.broker:
        parser.error("--with critical parts the topic of alerts: it needs --broker")
    if asked.broker and (asked.input or asked.output or asked.statistics or asked.customers):
        parser.error("--broker reads and writes topics: leave --input, --output, --statistics and --customers out")
    if not asked.broker and ("statistics" in asked.parts) != bool(asked.statistics):
        parser.error("--with statistics needs --broker, or --statistics FILE; and --statistics needs --with statistics")
    if not asked.broker and ("customer-changes" in asked.parts) != bool(asked.customers):
        parser.error("--with customer-changes needs --broker, or --customers FILE; and --customers needs --with customer-changes")
    if {"customers", "customer-changes"} <= set(asked.parts):
        parser.error("--with customers and --with customer-changes are the same rule in two ways: take one")
    return asked


def parts(text: str) -> tuple[str, ...]:
    """Return what a list with commas names.

    Raises
    ------
    argparse.ArgumentTypeError
        There is no such part.
    """
    named = tuple(text.split(","))
    if strange := set(named) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(strange))}; there are {', '.join(PARTS)}")
    return named


def _rate(text: str) -> float | None:
    if text == "max":
        return None
    rate = float(text)
    if not rate > 0:
        raise argparse.ArgumentTypeError("a rate is above 0, or max")
    return rate


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the example; return the exit code."""
    asked = arguments(argv, prog)
    # A stop takes a checkpoint and leaves, however it was asked for.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(asked)
    except StreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Before there was a run, or for the second time.
        print("left at once; what was committed stays", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _run(asked: argparse.Namespace) -> int:
    return _run_on_kafka(asked) if asked.broker else _run_on_files(asked)


def _config(asked: argparse.Namespace) -> Config:
    return Config(
        parallelism=asked.parallelism,
        checkpoint_interval=asked.checkpoint_interval,
        state_dir=asked.state_dir,
        state_memory=_bytes(asked.state_memory),
        broker=asked.broker,
    )


def with_parts(rules: Rules, parts: Collection[str], rate: float | None = None) -> Topology:
    """Return the topology with what `--with` names."""
    scorer = None
    if "model" in parts:
        from .model.scorer import Scorer

        scorer = Scorer()
    return build(rules, rate, scorer, parts)


@contextlib.contextmanager
def _page(run: Run, port: int | None) -> Iterator[None]:
    """Serve the live page while the run is on, where that was asked for."""
    if port is None:
        yield
        return
    with run.ui(port=port) as page:
        print(f"live page: {page.address}", flush=True)
        yield


def _run_on_files(asked: argparse.Namespace) -> int:
    sample = None if asked.input else data.sample(kind="habits" if asked.rules == "all" else "bursts")
    source = files(sample.transactions if sample else asked.input, schema=Transaction, rate=asked.rate)
    output = files(asked.output, format="json") if asked.output else None
    sink = ScreenSink(output, remember=sample is not None)
    bind: dict[str, Any] = {"transactions": source, "alerts": sink}
    if asked.statistics:
        bind["statistics"] = files(asked.statistics, format="json")
    if asked.customers:
        from .customers import Customer

        bind["customers"] = files(asked.customers, Customer, format="debezium-json")
    run = with_parts(asked.rules, asked.parts).start(_config(asked), bind=bind)
    screen = Screen(run, sink.board, quiet=asked.quiet)
    if run.already_finished:
        print(f"the run in {asked.state_dir} had finished: nothing to do")
        return 0
    with _page(run, asked.ui):
        finished = screen.follow()
    screen.totals()
    if sample and finished:
        screen.score(data.read_truth(sample.truth), Path(asked.output) if asked.output else None)
    return 0


def _run_on_kafka(asked: argparse.Namespace) -> int:
    """Run until somebody stops it. The screen shows the alerts that others see: those that are committed."""
    run = with_parts(asked.rules, asked.parts, asked.rate).start(_config(asked))
    with AlertsTopic(asked.broker, ALERTS) as alerts:
        screen = Screen(run, alerts.board, quiet=asked.quiet)
        print(f"{TRANSACTIONS} → {ALERTS} at {asked.broker}; Ctrl-C stops with a last checkpoint", flush=True)
        screen.follow()
        screen.totals()
    return 0


def _bytes(text: str) -> Any:
    return int(text) if text.isdecimal() else text


if __name__ == "__main__":
    sys.exit(main())
