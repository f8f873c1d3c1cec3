"""The three rules, twice: declared in a few verbs, which run natively, and as Python processors, as a cross-check.

Each looks at the earlier transactions of the same account, in the order they arrived.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Expr, Processor, col, count, expanding, format, greatest, haversine_km, lit, operator, when

from .cities import CITIES, LATITUDE, LONGITUDE
from .data import distance_km
from .records import Alert

if TYPE_CHECKING:
    from streamdsl import KeyedStream, Stream


@operator
def velocity(transactions: KeyedStream, *, limit: int = 3) -> Stream:
    """Many transactions within the window."""
    found = transactions.with_columns(recent=count()).filter(col("recent") >= limit)
    return _alerts(found, "VELOCITY", lit("high"), format("{} transactions in 60s", col("recent")), recent=col("recent"))


@operator
def amount_anomaly(transactions: KeyedStream, *, sigmas: float = 3, warmup: int = 5) -> Stream:
    """An amount far from what the account usually moves."""
    amount, mean, deviation = col("amount"), col("mean"), col("deviation")
    earlier = expanding(exclude_current=True)
    found = transactions.with_columns(
        n=count().over(earlier), mean=amount.mean().over(earlier), deviation=amount.std().over(earlier)
    ).filter((col("n") >= warmup) & (deviation > 0) & ((amount - mean).abs() > sigmas * deviation))
    off = (amount - mean).abs() / deviation
    severity = when((amount - mean).abs() > 4 * deviation).then("critical").otherwise("high")
    detail = format("Amount {:.2f} {} is {:.1f}σ from mean {:.2f}", amount, col("currency"), off, mean)
    return _alerts(found, "AMOUNT_ANOMALY", severity, detail, mean=mean, deviation=deviation, sigmas=off)


@operator
def impossible_travel(transactions: KeyedStream, *, max_kmh: float = 900, min_km: float = 50) -> Stream:
    """Two cities in a row that nobody reaches so fast. A city without coordinates raises no alert."""
    city, before = col("city"), col("previous_city")
    moved = transactions.with_columns(previous_city=city.lag(), previous_time=col("event_time").lag())
    moved = moved.filter(city != before).with_columns(
        distance_km=haversine_km(before.replace(LATITUDE), before.replace(LONGITUDE), city.replace(LATITUDE), city.replace(LONGITUDE)),
        seconds=greatest((col("event_time") - col("previous_time")).abs() / 1000, 1.0),
    )
    km, seconds = col("distance_km"), col("seconds")
    found = moved.filter((km > min_km) & (km / (seconds / 3600) > max_kmh))
    detail = format("{} → {} in {:.1f}min ({:.0f}km)", before, city, seconds / 60, km)
    return _alerts(found, "GEO_IMPOSSIBLE", lit("critical"), detail, previous_city=before, distance_km=km)


_MINUTE_MS = 60_000
_EXPLAINED = {
    "recent": int,
    "mean": float,
    "deviation": float,
    "sigmas": float,
    "previous_city": str,
    "distance_km": float,
}


def _alerts(found: Stream, rule: str, severity: Expr, detail: Expr, **explained: Expr) -> Stream:
    """Return the columns of `Alert`; what the rule does not explain is null."""
    columns: dict[str, Any] = {
        "transaction_id": col("transaction_id"),
        "account_number": col("account_number"),
        "rule": lit(rule),
        "event_time": col("event_time"),
        "severity": severity,
        "detail": detail,
        **{name: explained.get(name, lit(None).cast(type_)) for name, type_ in _EXPLAINED.items()},
        **{name: col(name) for name in ("topic", "partition", "offset")},
    }
    return found.select(**columns)


def _alert(row: Any, rule: str, severity: str, detail: str, **explained: Any) -> dict[str, Any]:
    alert: dict[str, Any] = dict.fromkeys(Alert.__dataclass_fields__)
    for name in ("transaction_id", "account_number", "event_time", "topic", "partition", "offset"):
        alert[name] = row[name]
    return {**alert, "rule": rule, "severity": severity, "detail": detail, **explained}


class Velocity(Processor):
    """Many transactions within a minute."""

    output = Alert

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit

    def open(self, ctx: Any) -> None:
        """Keep the times of about a minute."""
        self.times = ctx.state.list("times", int)

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        """Count the earlier ones that are close enough."""
        now, times = row.event_time, self.times.get()
        recent = 1 + sum(1 for earlier in times if 0 <= now - earlier < _MINUTE_MS)
        if recent >= self.limit:
            yield _alert(row, "VELOCITY", "high", f"{recent} transactions in 60s", recent=recent)
        # Times may go back a little: what is forgotten must be out of reach for those, too.
        self.times.set([*(earlier for earlier in times if now - earlier < 2 * _MINUTE_MS), now])


class AmountAnomaly(Processor):
    """An amount far from what the account usually moves; mean and deviation after Welford."""

    output = Alert

    def __init__(self, sigmas: float = 3, warmup: int = 5) -> None:
        self.sigmas = sigmas
        self.warmup = warmup

    def open(self, ctx: Any) -> None:
        """Keep number, mean and sum of squared differences."""
        self.moments = ctx.state.value("moments", tuple[int, float, float])

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        """Compare, then learn."""
        n, mean, squares = self.moments.get((0, 0.0, 0.0))
        deviation = (squares / n) ** 0.5 if n else 0.0
        off = abs(row.amount - mean)
        if n >= self.warmup and deviation > 0 and off > self.sigmas * deviation:
            far = off / deviation
            yield _alert(
                row,
                "AMOUNT_ANOMALY",
                "critical" if off > 4 * deviation else "high",
                f"Amount {row.amount:.2f} {row.currency} is {far:.1f}σ from mean {mean:.2f}",
                mean=mean,
                deviation=deviation,
                sigmas=far,
            )
        delta = row.amount - mean
        mean += delta / (n + 1)
        self.moments.set((n + 1, mean, squares + delta * (row.amount - mean)))


class ImpossibleTravel(Processor):
    """Two cities in a row that nobody reaches so fast."""

    output = Alert

    def __init__(self, max_kmh: float = 900, min_km: float = 50) -> None:
        self.max_kmh = max_kmh
        self.min_km = min_km

    def open(self, ctx: Any) -> None:
        """Keep where and when the last one was."""
        self.last = ctx.state.value("last", tuple[str, int])

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        """Compare with the last one."""
        last = self.last.get()
        self.last.set((row.city, row.event_time))
        if last is None or last[0] == row.city or last[0] not in CITIES or row.city not in CITIES:
            return
        km = distance_km(CITIES[last[0]], CITIES[row.city])
        seconds = max(abs(row.event_time - last[1]) / 1000, 1.0)
        if km > self.min_km and km / (seconds / 3600) > self.max_kmh:
            detail = f"{last[0]} → {row.city} in {seconds / 60:.1f}min ({km:.0f}km)"
            yield _alert(row, "GEO_IMPOSSIBLE", "critical", detail, previous_city=last[0], distance_km=km)
