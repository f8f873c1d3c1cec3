"""What accounts and cities do: statistics of an hour, of a day, and of a session.

`--with statistics` writes them to a topic of their own, and with `postgres` to a table as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import col, count, hopping, kafka, lit, postgres, session, tumbling

from .addresses import address

if TYPE_CHECKING:
    from streamdsl import Stream

STATISTICS: Final = "fraud-statistics"
TABLE: Final = "fraud_statistics"

#: Each hour; the last 24 hours, every hour; and what lies less than half an hour apart.
WINDOWS: Final = {"hour": tumbling("1h"), "day": hopping("24h", "1h"), "session": session("30m")}
SUBJECTS: Final = {"account": "account_number", "city": "city"}


def statistics(transactions: Stream) -> Stream:
    """Return a row for each window of each account and each city.

    Its columns: `subject` ("account", "city"), `name` of it, `period` ("hour", "day", "session"), `window_start`, `window_end`, the
    number of `transactions`, the `total`, `mean` and `largest` amount in the currency of the account or city.
    """
    amount = col("amount")
    found = []
    for subject, column in SUBJECTS.items():
        keyed = transactions.key_by(column)
        for period, window in WINDOWS.items():
            rows = keyed.window(window).aggregate(
                transactions=count(), total=amount.sum(), mean=amount.mean(), largest=amount.max(), name=f"{subject}-{period}"
            )
            figures = {name: col(name) for name in ("window_start", "window_end", "transactions", "total", "mean", "largest")}
            found.append(rows.select(subject=lit(subject), name=col(column), period=lit(period), **figures))
    return found[0].merge(*found[1:])


def write(found: Stream, parts: Collection[str], environ: Mapping[str, str] = os.environ) -> None:
    """Send statistics to their topic, and to PostgreSQL if that is among the parts: a row that comes again replaces itself."""
    found.to(kafka(STATISTICS, partitions=3, key="name", timestamps="arrival"), name="statistics")
    if "postgres" in parts:
        key = ["subject", "name", "period", "window_start"]
        table = postgres(address("FRAUD_POSTGRES", environ), TABLE, key=key, delivery="at_least_once", create=True)
        found.to(table, name="statistics-table")
