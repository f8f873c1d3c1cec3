"""The three rules, twice: declared in a few verbs, which run natively, and as Python processors, as a cross-check.

Each looks at the earlier transactions of the same account, in the order they arrived.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Expr, Processor, col, count, expanding, format, greatest, haversine_km, lit, operator, when

from .cities import CITIES, LATITUDE, LONGITUDE, distance_km
from .records import Alert

if TYPE_CHECKING:
    from streamdsl import KeyedStream, Stream


@operator
def velocity(transactions: KeyedStream, *, limit: int = 3) -> Stream:
    """Many transactions within the window."""
    found = transactions.with_columns(recent=count()).filter(col("recent") >= limit)
    return alerts(found, "VELOCITY", lit("high"), format("{} transactions in 60s", col("recent")), recent=col("recent"))


@operator
def amount_anomaly(transactions: KeyedStream, *, sigmas: float = 3, warmup: int = 5) -> Stream:
    """An amount far from what the account usually moves."""
    amount, mean, deviation = col("amount"), col("mean"), col("deviation")
    earlier = expanding(exclude_current=True)
    found = transactions.with_columns(
        n=count().over(earlier), mean=amount.mean().over(earlier), deviation=amount.std(ddof=0).over(earlier)
    ).filter((col("n") >= warmup) & (deviation > 0) & ((amount - mean).abs() > sigmas * deviation))
    off = (amount - mean).abs() / deviation
    severity = when((amount - mean).abs() > 4 * deviation).then("critical").otherwise("high")
    detail = format("Amount {:.2f} {} is {:.1f}σ from mean {:.2f}", amount, col("currency"), off, mean)
    return alerts(found, "AMOUNT_ANOMALY", severity, detail, mean=mean, deviation=deviation, sigmas=off)


@operator
def impossible_travel(transactions: KeyedStream, *, max_kmh: float = 900, min_km: float = 50) -> Stream:
    """Two cities in a row that nobody reaches so fast. A city without coordinates raises no alert."""
    city, before = col("city"), col("previous_city")
    moved = transactions.with_columns(previous_city=city.lag(), previous_time=col("event_time").lag())
    moved = moved.filter(city != before).with_columns(
        distance_km=haversine_km(*where(before), *where(city)),
        seconds=greatest((col("event_time") - col("previous_time")).abs() / 1000, 1.0),
    )
    km, seconds = col("distance_km"), col("seconds")
    found = moved.filter((km > min_km) & (km / (seconds / 3600) > max_kmh))
    detail = format("{} → {} in {:.1f}min ({:.0f}km)", before, city, seconds / 60, km)
    return alerts(found, "GEO_IMPOSSIBLE", lit("critical"), detail, previous_city=before, distance_km=km)


def where(city: Expr) -> tuple[Expr, Expr]:
    """Return latitude and longitude of a city; null for one without coordinates."""
    return city.replace_strict(LATITUDE, default=None), city.replace_strict(LONGITUDE, default=None)


_EXPLAINED = {
    "recent": int,
    "mean": float,
    "deviation": float,
    "sigmas": float,
    "previous_city": str,
    "distance_km": float,
}


def alerts(found: Stream, rule: str, severity: Expr, detail: Expr, **explained: Expr) -> Stream:
    """Return the columns of `Alert`; what the rule does not explain is null. A score of the model stays."""
    columns: dict[str, Any] = {
        "transaction_id": col("transaction_id"),
        "account_number": col("account_number"),
        "rule": lit(rule),
        "event_time": col("event_time"),
        "severity": severity,
        "detail": detail,
        **{name: explained.get(name, lit(None).cast(type_)) for name, type_ in _EXPLAINED.items()},
        **{name: col(name) for name in ("topic", "partition", "offset", "score") if name in found.schema.names},
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
        """Keep the times of a minute: what has lived that long is gone for the record that asks."""
        self.times = ctx.state.list("times", int, ttl="60s")

    def process(self, row: Any, ctx: Any) -> dict[str, Any] | None:
        """Count the earlier ones that are close enough."""
        now = row.event_time
        # Times may go back a little: then some of the earlier ones lie ahead.
        recent = 1 + len([earlier for earlier in self.times if earlier <= now])
        self.times.append(now)
        if recent < self.limit:
            return None
        return _alert(row, "VELOCITY", "high", f"{recent} transactions in 60s", recent=recent)


class AmountAnomaly(Processor):
    """An amount far from what the account usually moves; mean and deviation after Welford."""

    output = Alert

    def __init__(self, sigmas: float = 3, warmup: int = 5) -> None:
        self.sigmas = sigmas
        self.warmup = warmup

    def open(self, ctx: Any) -> None:
        """Keep number, sum, and Welford's centre and sum of squared differences from it."""
        self.moments = ctx.state.value("moments", tuple[int, float, float, float])

    def process(self, row: Any, ctx: Any) -> dict[str, Any] | None:
        """Compare, then learn."""
        amount = row.amount
        n, total, centre, squares = self.moments.get((0, 0.0, 0.0, 0.0))
        delta = amount - centre
        learned = centre + delta / (n + 1)
        self.moments.set((n + 1, total + amount, learned, squares + delta * (amount - learned)))
        mean = total / n if n else 0.0
        delta = amount - mean
        deviation = (squares / n) ** 0.5 if n else 0.0
        off = abs(delta)
        if not (n >= self.warmup and deviation > 0 and off > self.sigmas * deviation):
            return None
        far = off / deviation
        severity = "critical" if off > 4 * deviation else "high"
        detail = f"Amount {amount:.2f} {row.currency} is {far:.1f}σ from mean {mean:.2f}"
        return _alert(row, "AMOUNT_ANOMALY", severity, detail, mean=mean, deviation=deviation, sigmas=far)


class ImpossibleTravel(Processor):
    """Two cities in a row that nobody reaches so fast."""

    output = Alert

    def __init__(self, max_kmh: float = 900, min_km: float = 50) -> None:
        self.max_kmh = max_kmh
        self.min_km = min_km

    def open(self, ctx: Any) -> None:
        """Keep where and when the last one was."""
        self.last = ctx.state.value("last", tuple[str, int])

    def process(self, row: Any, ctx: Any) -> dict[str, Any] | None:
        """Compare with the last one."""
        city, now = row.city, row.event_time
        before, then = self.last.get((city, now))
        self.last.set((city, now))
        if city == before or city not in CITIES or before not in CITIES:
            return None
        km = distance_km(CITIES[before], CITIES[city])
        seconds = max(abs(now - then) / 1000, 1.0)
        if not (km > self.min_km and km / (seconds / 3600) > self.max_kmh):
            return None
        detail = f"{before} → {city} in {seconds / 60:.1f}min ({km:.0f}km)"
        return _alert(row, "GEO_IMPOSSIBLE", "critical", detail, previous_city=before, distance_km=km)
