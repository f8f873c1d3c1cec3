"""What the model sees of a transaction: the frames of the rules, as numbers."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    __package__ = "examples.fraud.model"

from streamdsl import Expr, arctan2, col, count, expanding, haversine_km, rolling, when

from ..more_rules import THRESHOLDS, first, hour_of_day
from ..rules import where

if TYPE_CHECKING:
    from streamdsl import KeyedStream, Stream

_RADIANS: Final = 2 * math.pi / 24
_BEFORE: Final = expanding(exclude_current=True)
_HABIT: Final = rolling("90d", exclude_current=True)

#: The columns of the model, in its order. `UNKNOWN` where there is nothing to compare with.
UNKNOWN: Final = -1.0
FEATURES: Final = (
    "n",
    "sigmas",
    "to_mean",
    "to_high",
    "to_highest",
    "in_minute",
    "in_hour",
    "pause_days",
    "woken",
    "km",
    "kmh",
    "hour",
    "hours_off",
    "hour_spread",
    "new_category",
    "new_channel",
    "new_city",
    "new_channels_near",
    "new_cities_near",
    "below_threshold",
    "to_threshold",
)


def with_features(accounts: KeyedStream) -> Stream:
    """Add the columns of the model."""
    amount, time, angle = col("amount"), col("event_time"), col("local_hour") * _RADIANS
    known = accounts.with_columns(local_hour=hour_of_day()).with_columns(
        n=count().over(_BEFORE),
        mean=amount.mean().over(_BEFORE),
        deviation=amount.std(ddof=0).over(_BEFORE),
        highest=amount.max().over(_BEFORE),
        high=amount.quantile(0.95).over(_HABIT),
        in_minute=count().over(rolling("60s")),
        in_hour=count().over(rolling("1h")),
        pause_days=(time - time.lag()) / 86_400_000,
        previous_city=col("city").lag(),
        east=angle.cos().mean().over(_BEFORE),
        north=angle.sin().mean().over(_BEFORE),
        new_category=number(col("category").is_not_null() & first("category", rolling("90d"), _HABIT)),
        new_channel=number(first("channel", expanding(), _BEFORE)),
        new_city=number(first("city", expanding(), _BEFORE)),
        below_threshold=_below(),
    )
    length = (col("east") * col("east") + col("north") * col("north")).sqrt()
    known = known.with_columns(
        km=haversine_km(*where(col("previous_city")), *where(col("city"))),
        middle=arctan2(col("north"), col("east")),
        hour_spread=(-2 * length.log()).sqrt() / _RADIANS,
        woken=number(col("pause_days") >= 60),
    )
    apart = (angle - col("middle")).abs() % (2 * math.pi)
    told = known.with_columns(
        sigmas=when(col("deviation") > 0).then((amount - col("mean")).abs() / col("deviation")),
        to_mean=amount / col("mean"),
        to_high=amount / col("high"),
        to_highest=amount / col("highest"),
        kmh=col("km") / when(col("pause_days") * 86_400 > 1).then(col("pause_days") * 24).otherwise(1 / 3600),
        hour=col("local_hour"),
        hours_off=when(apart > math.pi).then(2 * math.pi - apart).otherwise(apart) / _RADIANS,
        to_threshold=amount / col("currency").replace_strict(THRESHOLDS, default=None),
        woken=col("woken").sum().over(rolling("1h")),
        new_channels_near=col("new_channel").sum().over(rolling("10m")),
        new_cities_near=col("new_city").sum().over(rolling("10m")),
        below_threshold=col("below_threshold").sum().over(rolling("24h")),
    )
    return told.with_columns(**{name: _known(col(name).cast("float64")) for name in FEATURES})


def _known(value: Expr) -> Expr:
    return when(value.is_finite()).then(value).otherwise(UNKNOWN)


def number(flag: Expr) -> Expr:
    """Return a truth as 1 or 0."""
    return flag.cast("int64")


def _below() -> Expr:
    threshold = col("currency").replace_strict(THRESHOLDS, default=None)
    near = (col("amount") >= 0.8 * threshold) & (col("amount") <= threshold)
    return number((col("transaction_type") == "transfer") & near)
