"""Jobs whose state is looked into."""

from __future__ import annotations

import datetime
import decimal

from streamdsl import Processor, Topology, col, count, memory, rolling, tumbling
from tests import held

ROWS = [{"account": f"a{i % 20}", "n": i % 3, "amount": i, "at": 1_000 * i} for i in range(400)]
SCHEMA = {"account": str, "n": int, "amount": int, "at": int}
BALANCES = {f"a{k}": sum(row["amount"] for row in ROWS if row["account"] == f"a{k}") for k in range(20)}


class Seen(Processor):
    """Counts by key, in states of each kind."""

    output = {"times": int}

    def open(self, ctx):
        self.times = ctx.state.value("times", int)
        self.latest = ctx.state.list("latest", int)

    def process(self, row, ctx):
        self.times.set((self.times.get() or 0) + 1)
        self.latest.append(row.amount)
        yield {"times": self.times.get()}


def bank(rows=ROWS, source=None):
    """Return a job with one operator of each kind that keeps rows by key."""
    topology = Topology("bank")
    moves = topology.stream(source or memory("moves", SCHEMA, rows), timestamp="at", name="moves")
    keyed = moves.key_by("account")
    keyed.aggregate(balance=col("amount").sum(), mean=col("amount").mean(), name="balances").to(memory("sink-balances"))
    moves.key_by("account", "n").aggregate(times=count(), name="pairs").to(memory("sink-pairs"))
    keyed.with_columns(recent=count().over(rolling("100s")), name="recent").to(memory("sink-recent"))
    keyed.window(tumbling("1000s")).aggregate(times=count(), name="windows").to(memory("sink-windows"))
    keyed.deduplicate(within="1s", name="once").to(memory("sink-once"))
    keyed.reduce(lambda a, b: b, name="latest").to(memory("sink-latest"))
    keyed.process(Seen, name="seen").to(memory("sink-seen"))
    moves.key_by().aggregate(all=col("amount").sum(), name="total").to(memory("sink-total"))
    people = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}]
    topology.table(memory("people", {"id": int, "name": str}, people), key="id").to(memory("sink-people"))
    return topology


#: A value of each type that a key can have, and another one.
KEYS = {
    "text": (str, "héllo", ""),
    "whole": (int, -(2**63), 7),
    "float": (float, -0.5, float("inf")),
    "truth": (bool, True, False),
    "bytes": (bytes, b"\x00\xff", b""),
    "day": (datetime.date, datetime.date(1969, 12, 31), datetime.date(2024, 2, 29)),
    "moment": (
        datetime.datetime,
        datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC),
    ),
}
DECIMALS = (decimal.Decimal("-12.34"), decimal.Decimal("0.00"))


class Held(held.Held):
    """Rows in memory whose end comes when the test says so."""

    def __init__(self, rows, name="moves"):
        super().__init__(memory(name, SCHEMA, rows))
