"""The five rules on habits once more, in plain Python from their description: shares no code with the library or the example."""

from __future__ import annotations

import cmath
import datetime
import math
import pathlib
import zoneinfo
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import oracle

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ZONE = {"CL": zoneinfo.ZoneInfo("America/Santiago"), "PE": zoneinfo.ZoneInfo("America/Lima")}
THRESHOLD = {"CLP": 5_000_000, "PEN": 20_000}


def hour_of(row: dict[str, Any]) -> float:
    local = datetime.datetime.fromtimestamp(row["time"] / 1000, ZONE[row["country"]])
    return local.hour + local.minute / 60


def time_of_day(row: dict[str, Any], earlier: list[dict[str, Any]]) -> bool:
    hour = hour_of(row)
    if len(earlier) < 20 or 7 <= hour < 22:
        return False
    mean = sum(cmath.rect(1, 2 * math.pi * hour_of(one) / 24) for one in earlier) / len(earlier)
    spread = math.sqrt(-2 * math.log(abs(mean)))
    off = abs(cmath.phase(cmath.rect(1, 2 * math.pi * hour / 24) / mean))
    return spread > 0 and off > 3 * spread


def new_category(row: dict[str, Any], earlier: list[dict[str, Any]]) -> bool:
    lately = [one for one in earlier if row["time"] - 90 * DAY < one["time"] <= row["time"]]
    if len(lately) < 20 or not row["category"] or row["category"] in {one["category"] for one in lately}:
        return False
    amounts = sorted(one["amount"] for one in lately)
    return row["amount"] > amounts[math.floor(0.95 * (len(amounts) - 1) + 0.5)]


def firsts(row: dict[str, Any], earlier: list[dict[str, Any]]) -> tuple[bool, bool]:
    return tuple(row[name] not in {one[name] for one in earlier} for name in ("channel", "city"))


def new_channel(row: dict[str, Any], earlier: list[dict[str, Any]]) -> bool:
    if len(earlier) < 5 or not any(firsts(row, earlier)):
        return False
    all_ = [*earlier, row]
    near = [firsts(one, all_[:i]) for i, one in enumerate(all_) if row["time"] - 10 * MINUTE < one["time"] <= row["time"]]
    return any(channel for channel, _ in near) and any(city for _, city in near)


def dormant(row: dict[str, Any], earlier: list[dict[str, Any]]) -> bool:
    all_ = [*earlier, row]
    hour = [i for i, one in enumerate(all_) if row["time"] - HOUR < one["time"] <= row["time"]]
    return len(hour) >= 3 and any(i and all_[i]["time"] - all_[i - 1]["time"] >= 60 * DAY for i in hour)


def structuring(row: dict[str, Any], earlier: list[dict[str, Any]]) -> bool:
    def below(one: dict[str, Any]) -> bool:
        threshold = THRESHOLD[one["currency"]]
        return one["transaction_type"] == "transfer" and 0.8 * threshold <= one["amount"] <= threshold

    return below(row) and sum(below(one) for one in earlier if row["time"] - DAY < one["time"] <= row["time"]) >= 2


RULES = {
    "TIME_OF_DAY": time_of_day,
    "NEW_CATEGORY": new_category,
    "NEW_CHANNEL": new_channel,
    "DORMANT": dormant,
    "STRUCTURING": structuring,
}


def expected(paths: Iterable[pathlib.Path]) -> Iterator[tuple[int, str]]:
    """Yield the transactions and rules of all alerts on habits."""
    for path in paths:
        accounts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for text in oracle.rows_of(path):
            row = {**text, "time": int(text["event_time"]), "amount": float(text["amount"])}
            earlier = accounts[row["account_number"]]
            for name, rule in RULES.items():
                if rule(row, earlier):
                    yield int(row["transaction_id"]), name
            earlier.append(row)
