"""Fraud detection on bank transactions: ``python examples/fraud/topology.py --help``.

The topology reads and writes Kafka. The script runs it on files, with nothing else around it, or with --broker on Kafka.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Config, StreamError, Topology, col, files, format, kafka, lit, rolling

from . import data
from .alerts_topic import AlertsTopic
from .cities import CITIES
from .command_line import Asked, Rules, arguments
from .more_rules import dormant, new_category, new_channel, structuring, time_of_day
from .records import Transaction
from .routing import route
from .rules import AmountAnomaly, ImpossibleTravel, Velocity, alerts, amount_anomaly, impossible_travel, velocity
from .screen import Screen, ScreenSink
from .thresholds import Thresholds

if TYPE_CHECKING:
    from streamdsl.launch import Run

    from .model.scorer import Scorer

TRANSACTIONS: Final = "bank-transactions"
ALERTS: Final = "fraud-alerts"
PARTITIONS: Final = 3

THREE: Final = ("VELOCITY", "AMOUNT_ANOMALY", "GEO_IMPOSSIBLE")

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


def _run(asked: Asked) -> int:
    return _run_on_kafka(asked) if asked.broker else _run_on_files(asked)


def _config(asked: Asked) -> Config:
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


def _run_on_files(asked: Asked) -> int:
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


def _run_on_kafka(asked: Asked) -> int:
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
