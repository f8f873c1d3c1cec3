"""Where alerts go beside their topic: PostgreSQL, Redis, a webhook, and a topic of their own for critical ones.

The environment says where they are: `FRAUD_POSTGRES`, `FRAUD_REDIS`, `FRAUD_WEBHOOK`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import col, count, http, kafka, postgres, redis, row

from .addresses import address

if TYPE_CHECKING:
    from streamdsl import Expr, Stream

CRITICAL_ALERTS: Final = "fraud-alerts-critical"


def route(found: Stream, places: Collection[str], environ: Mapping[str, str] = os.environ) -> Stream:
    """Send alerts to the places that are named; return those that go to the common topic.

    Raises
    ------
    ConfigError
        There is no address of a place.
    """
    for place in places:
        if place in _PLACES:
            _PLACES[place](found, environ)
    if "critical" not in places:
        return found
    parted = found.branch(critical=_critical(), default="others")
    parted["critical"].to(kafka(CRITICAL_ALERTS, partitions=3, key="account_number", timestamps="arrival"), name="critical-alerts")
    return parted["others"]


def _to_postgres(found: Stream, environ: Mapping[str, str]) -> None:
    """Each alert is a row: one that comes again after a crash replaces itself."""
    rows = found.select("transaction_id", "rule", "account_number", "event_time", "severity", "detail")
    table = postgres(
        address("FRAUD_POSTGRES", environ), "fraud_alerts", key=["transaction_id", "rule"], delivery="at_least_once", create=True
    )
    rows.to(table, name="alerts-table")


def _to_redis(found: Stream, environ: Mapping[str, str]) -> None:
    """The last alert of each account, and how many there were, for a month."""
    accounts = found.select("account_number", "transaction_id", "rule", "event_time", "severity", "detail").key_by("account_number")
    last = accounts.aggregate(alerts=count(), last=row().max_by("event_time"), name="last-alerts")
    fields = {name: col("last").struct.field(name) for name in ("transaction_id", "rule", "event_time", "severity", "detail")}
    last.select("alerts", **fields).to(redis(address("FRAUD_REDIS", environ), "fraud:account:{account_number}", ttl="30d"), name="accounts")


def _to_webhook(found: Stream, environ: Mapping[str, str]) -> None:
    """Critical alerts, at least once: the idempotency key says which it has had."""
    hook = http(address("FRAUD_WEBHOOK", environ), key=["transaction_id", "rule"], name="webhook")
    found.filter(_critical()).to(hook, name="webhook")


_PLACES: Final[Mapping[str, Callable[[Stream, Mapping[str, str]], None]]] = {
    "postgres": _to_postgres,
    "redis": _to_redis,
    "webhook": _to_webhook,
}
#: What `--with` takes.
PLACES: Final = ("critical", *_PLACES)


def _critical() -> Expr:
    return col("severity") == "critical"
