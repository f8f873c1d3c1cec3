"""The transactions of the example's sample, again and again: each round has its own numbers and stands later in time."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from examples.fraud import data
from tests.fraud import oracle

#: Between two rounds: longer than any rule looks back.
PAUSE_MS: Final = 120_000


class Transaction(NamedTuple):
    """One transaction, in the pieces of its JSON: what changes from round to round stands between them."""

    account: str
    number: int
    time_ms: int
    amount: float
    city: str
    middle: bytes
    end: bytes


def sample() -> list[Transaction]:
    """Return the sample in the order in which its transactions arrive."""
    rows = []
    for path in data.sample().transactions:
        with path.open(newline="", encoding="utf-8") as file:
            rows += [_transaction(row) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: row.number)


def _transaction(row: dict[str, str]) -> Transaction:
    number, time_ms, amount = int(row["transaction_id"]), int(row["event_time"]), float(row["amount"])
    rest = {name: row[name] for name in ("currency", "transaction_type", "city", "country", "channel")}
    tail = json.dumps({"amount": amount, **rest, "category": row["category"] or None}, separators=(",", ":"), ensure_ascii=False)
    middle = f',"account_number":"{row["account_number"]}","event_time":'
    return Transaction(row["account_number"], number, time_ms, amount, row["city"], middle.encode(), b"," + tail[1:].encode())


class Stream:
    """So many transactions of a topic: JSON keyed by account."""

    def __init__(self) -> None:
        self.sample = sample()
        times = [row.time_ms for row in self.sample]
        self.span_ms = max(times) - min(times) + PAUSE_MS

    def _rounds(self) -> Iterator[tuple[Transaction, int, int]]:
        """Yield each transaction with its number and its time, without an end."""
        n, first = 0, 0
        while True:
            shift = n * self.span_ms
            for row in self.sample:
                yield row, first + row.number, row.time_ms + shift
            n, first = n + 1, first + len(self.sample)

    def records(self, count: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield (account, JSON)."""
        for row, number, time_ms in islice(self._rounds(), count):
            yield row.account, b'{"transaction_id":%d%b%d%b' % (number, row.middle, time_ms, row.end)

    def expected(self, count: int) -> Counter[tuple[int, str]]:
        """Return the alerts, as (transaction, rule), of the first `count`: by the tests' oracle."""
        accounts: dict[str, oracle.Account] = {}
        alerts: Counter[tuple[int, str]] = Counter()
        for row, number, time_ms in islice(self._rounds(), count):
            account = accounts.setdefault(row.account, oracle.Account())
            alerts.update((number, rule) for rule, _ in oracle.judge(account, time_ms, row.amount, row.city))
            oracle.remember(account, time_ms, row.amount, row.city)
        return alerts
