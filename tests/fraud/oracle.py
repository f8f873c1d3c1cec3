"""The three rules once more, in plain Python from the specification: shares no code with the library or the example.

``python tests/fraud/oracle.py FILE…`` prints the alerts as JSON lines.
"""

from __future__ import annotations

import csv
import json
import math
import pathlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

PLACES = {
    "Santiago": (-33.4489, -70.6693),
    "Valparaiso": (-33.0472, -71.6127),
    "Concepcion": (-36.827, -73.0503),
    "La Serena": (-29.9027, -71.2519),
    "Antofagasta": (-23.6509, -70.3975),
    "Temuco": (-38.7359, -72.5904),
    "Rancagua": (-34.1708, -70.7444),
    "Talca": (-35.4264, -71.6554),
    "Arica": (-18.4783, -70.3126),
    "Iquique": (-20.2307, -70.1357),
    "Puerto Montt": (-41.4693, -72.9424),
    "Punta Arenas": (-53.1638, -70.9171),
    "Lima": (-12.0464, -77.0428),
    "Arequipa": (-16.409, -71.5375),
    "Trujillo": (-8.1116, -79.0288),
    "Chiclayo": (-6.7714, -79.8409),
    "Piura": (-5.1945, -80.6328),
    "Cusco": (-13.532, -71.9675),
    "Iquitos": (-3.7491, -73.2538),
    "Tacna": (-18.0066, -70.2463),
}
MINUTE_MS = 60_000


class Alert(NamedTuple):
    """What must be the same in every run."""

    transaction_id: int
    account_number: str
    rule: str
    event_time: int
    severity: str


class Account:
    """What the rules know of an account."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.last_city: str | None = None
        self.last_time = 0


def km_between(a: str, b: str) -> float | None:
    if a not in PLACES or b not in PLACES:
        return None
    (lat1, lon1), (lat2, lon2) = PLACES[a], PLACES[b]
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    h = math.sin((phi2 - phi1) / 2) ** 2
    h += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(h))


def judge(account: Account, time: int, amount: float, city: str) -> Iterator[tuple[str, str]]:
    """Yield (rule, severity) for a transaction that is not yet in `account`."""
    if sum(1 for earlier in account.times if 0 <= time - earlier < MINUTE_MS) >= 2:
        yield "VELOCITY", "high"
    if account.count >= 5:
        deviation = math.sqrt(account.squares / account.count)
        off = abs(amount - account.mean)
        if deviation > 0 and off > 3 * deviation:
            yield "AMOUNT_ANOMALY", "critical" if off > 4 * deviation else "high"
    if account.last_city is not None and account.last_city != city:
        km = km_between(account.last_city, city)
        seconds = max(abs(time - account.last_time) / 1000, 1.0)
        if km is not None and km > 50 and km / (seconds / 3600) > 900:
            yield "GEO_IMPOSSIBLE", "critical"


def remember(account: Account, time: int, amount: float, city: str) -> None:
    newest = max(account.times, default=time)
    account.times = [t for t in account.times if t > max(newest, time) - 2 * MINUTE_MS]
    account.times.append(time)
    account.count += 1
    delta = amount - account.mean
    account.mean += delta / account.count
    account.squares += delta * (amount - account.mean)
    account.last_city, account.last_time = city, time


def alerts_of(rows: Iterable[dict[str, Any]]) -> Iterator[Alert]:
    """Yield the alerts of transactions; those of an account stand in their order of arrival."""
    accounts: dict[str, Account] = {}
    for row in rows:
        number, time = row["account_number"], int(row["event_time"])
        amount, city = float(row["amount"]), row["city"]
        account = accounts.setdefault(number, Account())
        for rule, severity in judge(account, time, amount, city):
            yield Alert(int(row["transaction_id"]), number, rule, time, severity)
        remember(account, time, amount, city)


def rows_of(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the transactions of a CSV or JSON lines file."""
    with path.open(newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            yield from csv.DictReader(file)
        else:
            for line in file:
                yield json.loads(line)


def expected(paths: Iterable[pathlib.Path]) -> Counter[Alert]:
    """Return the alerts of files; an account lives in one of them."""
    return Counter(alert for path in paths for alert in alerts_of(rows_of(path)))


def found(output: pathlib.Path) -> Counter[Alert]:
    """Return the alerts in an output file of JSON lines."""
    with output.open(encoding="utf-8") as file:
        rows = (json.loads(line) for line in file)
        return Counter(Alert(*(row[name] for name in Alert._fields)) for row in rows)


def difference(want: Counter[Alert], have: Counter[Alert]) -> str:
    """Return what is lost and what is too much, "" if nothing."""
    lost, extra = want - have, have - want
    if not lost and not extra:
        return ""
    few = [f"lost {alert}" for alert in list(lost)[:5]] + [f"too much {alert}" for alert in list(extra)[:5]]
    return f"{lost.total()} lost, {extra.total()} too much\n" + "\n".join(few)


if __name__ == "__main__":
    for alert in expected(map(pathlib.Path, sys.argv[1:])).elements():
        print(json.dumps(alert._asdict()))
