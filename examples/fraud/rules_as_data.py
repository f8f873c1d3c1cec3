"""Thresholds that come from a topic, and others that run in their shadow.

    streamdsl -A examples.fraud.rules_as_data:topology worker --broker localhost:19092

The compacted topic `fraud-rules` has a row for each rule: what is an alert now, and what somebody would like to try. A new row takes
effect in all tasks, without a restart. Where live and shadow differ, the difference is written and counted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Expr, Topology, col, count, expanding, greatest, haversine_km, kafka, lit, rolling, when

from .records import Transaction
from .rules import where

if TYPE_CHECKING:
    from streamdsl import Stream

RULES: Final = "fraud-rules"
DIFFERENCES: Final = "fraud-rules-differences"
COUNTS: Final = "fraud-rules-counts"
#: Below these nothing is measured: no threshold can be lower.
LEAST: Final = {"VELOCITY": 2.0, "AMOUNT_ANOMALY": 2.0, "GEO_IMPOSSIBLE": 300.0}


@dataclass
class Rule:
    """A rule's thresholds; without one in the shadow nothing is compared."""

    rule: str
    live: float
    shadow: float | None = None


def build(rate: float | None = None) -> Topology:
    """Return the topology; its sources are "transactions" and "rules", its sinks "alerts", "differences" and "counts"."""
    topology = Topology("fraud-rules-as-data")
    source = kafka("bank-transactions", Transaction, partitions=3, rate=rate)
    transactions = topology.stream(source, timestamp="event_time", disorder="5s", name="transactions")
    # Every task has all of it, and waits until it has read what is there.
    rules = topology.table(kafka(RULES, Rule), key="rule", broadcast=True, bootstrap=True, name="rules")
    judged = measured(transactions).join(rules, on="rule")
    live, shadow = col("measure") >= col("live"), col("measure") >= col("shadow")
    judged.filter(live).drop("live", "shadow").to(kafka("fraud-alerts", partitions=3, key="account_number"), name="alerts")
    differing = judged.filter(col("shadow").is_not_null() & (live != shadow))
    differing = differing.with_columns(change=when(live).then("lost").otherwise("gained"))
    differing.to(kafka(DIFFERENCES, partitions=3, key="account_number"), name="differences")
    counts = differing.key_by("rule", "change").aggregate(alerts=count(), name="counted")
    counts.to(kafka(COUNTS, key=["rule", "change"]), name="counts")
    return topology


def measured(transactions: Stream) -> Stream:
    """Return what each rule measures of a transaction, in the unit of its threshold."""
    accounts = transactions.key_by("account_number")
    earlier, amount, city = expanding(exclude_current=True), col("amount"), col("city")
    frames = accounts.with_columns(
        recent=count().over(rolling("60s")),
        n=count().over(earlier),
        mean=amount.mean().over(earlier),
        deviation=amount.std(ddof=0).over(earlier),
        previous_city=city.lag(),
        previous_time=col("event_time").lag(),
    )
    km = haversine_km(*where(col("previous_city")), *where(city))
    hours = greatest((col("event_time") - col("previous_time")).abs() / 1000, 1.0) / 3600
    sigmas = when((col("n") >= 5) & (col("deviation") > 0)).then((amount - col("mean")).abs() / col("deviation"))
    measures: dict[str, Expr] = {
        "VELOCITY": col("recent").cast("float64"),
        "AMOUNT_ANOMALY": sigmas,
        "GEO_IMPOSSIBLE": when(km > 50).then(km / hours),
    }
    first, *others = (
        frames.select("transaction_id", "account_number", "event_time", rule=lit(rule), measure=measure).filter(
            col("measure") >= LEAST[rule]
        )
        for rule, measure in measures.items()
    )
    return first.merge(*others)


topology = build()
