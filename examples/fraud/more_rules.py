"""Five more rules, each declared in verbs: ``--rules all``.

They look at habits: the hours, the categories, the channels and the pauses of an account.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import Expr, arctan2, col, count, expanding, format, lit, operator, rolling, when

from .rules import alerts

if TYPE_CHECKING:
    from streamdsl import KeyedStream, Stream
    from streamdsl.windows import Frame

#: Transfers at or above it are reported: 80 to 100 % of it looks like somebody who knows.
THRESHOLDS: Final = {"CLP": 5_000_000.0, "PEN": 20_000.0}
#: Where an account's clock is.
_ZONES: Final = {"CL": "America/Santiago", "PE": "America/Lima"}
_RADIANS: Final = 2 * math.pi / 24


def hour_of_day() -> Expr:
    """Return the local hour with its fraction, 0 to 24."""
    time = col("event_time").cast("timestamp").dt
    there = (
        when(col("country") == "PE")
        .then(_hour(time.convert_time_zone(_ZONES["PE"])))
        .otherwise(_hour(time.convert_time_zone(_ZONES["CL"])))
    )
    return there


def _hour(time: Expr) -> Expr:
    return time.dt.hour() + time.dt.minute() / 60


@operator
def time_of_day(transactions: KeyedStream, *, spreads: float = 3, warmup: int = 20) -> Stream:
    """At night, far from the hours that the account keeps: hours lie on a circle, so do their mean and spread."""
    earlier = expanding(exclude_current=True)
    angle, hour = col("hour") * _RADIANS, col("hour")
    known = transactions.with_columns(hour=hour_of_day()).with_columns(
        n=count().over(earlier), east=angle.cos().mean().over(earlier), north=angle.sin().mean().over(earlier)
    )
    length = (col("east") * col("east") + col("north") * col("north")).sqrt()
    usual = known.filter((col("n") >= warmup) & ((hour < 7) | (hour >= 22))).with_columns(
        middle=arctan2(col("north"), col("east")), spread=(-2 * length.log()).sqrt()
    )
    apart = (angle - col("middle")).abs() % (2 * math.pi)
    off = when(apart > math.pi).then(2 * math.pi - apart).otherwise(apart)
    found = usual.with_columns(off=off).filter((col("spread") > 0) & (col("off") > spreads * col("spread")))
    mean = (col("middle") / _RADIANS + 24) % 24
    detail = format("At {:.1f} h, usually {:.1f} h ± {:.1f} h", hour, mean, col("spread") / _RADIANS)
    return alerts(
        found, "TIME_OF_DAY", lit("high"), detail, mean=mean, deviation=col("spread") / _RADIANS, sigmas=col("off") / col("spread")
    )


def first(column: str, through: Frame, before: Frame) -> Expr:
    """Return whether the value is new: with it there are more different ones than without."""
    return col(column).n_unique().over(through) > col(column).n_unique().over(before)


@operator
def new_category(transactions: KeyedStream, *, days: int = 90, part: float = 0.95, warmup: int = 20) -> Stream:
    """A category that the account has not used for so long, with an amount above nearly all of that time."""
    before = rolling(f"{days}d", exclude_current=True)
    amounts = transactions.with_columns(
        n=count().over(before), high=col("amount").quantile(part).over(before), fresh=first("category", rolling(f"{days}d"), before)
    )
    found = amounts.filter((col("n") >= warmup) & col("category").is_not_null() & col("fresh") & (col("amount") > col("high")))
    detail = format("First {} in {} days, {:.2f} {}", col("category"), lit(days), col("amount"), col("currency"))
    return alerts(found, "NEW_CATEGORY", lit("high"), detail)


@operator
def new_channel(transactions: KeyedStream, *, within: str = "10m", warmup: int = 5) -> Stream:
    """The first use of a channel together with the first visit to a city."""
    before = expanding(exclude_current=True)
    seen = transactions.with_columns(
        n=count().over(before), in_channel=first("channel", expanding(), before), in_city=first("city", expanding(), before)
    )
    both = seen.with_columns(
        channels=col("in_channel").cast("int64").sum().over(rolling(within)),
        cities=col("in_city").cast("int64").sum().over(rolling(within)),
    )
    fresh = col("in_channel") | col("in_city")
    found = both.filter((col("n") >= warmup) & fresh & (col("channels") > 0) & (col("cities") > 0))
    return alerts(found, "NEW_CHANNEL", lit("high"), format("First {} and first visit to {} together", col("channel"), col("city")))


@operator
def dormant(transactions: KeyedStream, *, days: int = 60, transactions_in_an_hour: int = 3) -> Stream:
    """An account that slept, and then does several transactions within an hour."""
    gap = (col("event_time") - col("event_time").lag()) / 86_400_000
    woken = transactions.with_columns(pause=gap).with_columns(woken=(col("pause") >= days).cast("int64"))
    hour = woken.with_columns(recent=count().over(rolling("1h")), awake=col("woken").sum().over(rolling("1h")))
    found = hour.filter((col("awake") > 0) & (col("recent") >= transactions_in_an_hour))
    detail = format("{} transactions in an hour after {} days without", col("recent"), lit(days))
    return alerts(found, "DORMANT", lit("high"), detail, recent=col("recent"))


@operator
def structuring(transactions: KeyedStream, *, transfers: int = 3, least: float = 0.8) -> Stream:
    """Several transfers in a day, each a little below what is reported."""
    threshold = col("currency").replace_strict(THRESHOLDS, default=None)
    below = transactions.filter(
        (col("transaction_type") == "transfer") & (col("amount") >= least * threshold) & (col("amount") <= threshold)
    )
    found = below.key_by("account_number").with_columns(recent=count().over(rolling("24h"))).filter(col("recent") >= transfers)
    detail = format("{} transfers in 24 h, each just below {:.0f} {}", col("recent"), threshold, col("currency"))
    return alerts(found, "STRUCTURING", lit("critical"), detail, recent=col("recent"))
