"""Customers and their limits: who they are, the rule on limits, and a table of them in PostgreSQL.

``python examples/fraud/customers.py`` makes the customers of the sample, and with ``--load`` puts them into PostgreSQL (`FRAUD_POSTGRES`).
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import col, format, lit, operator, postgres

from . import data, habits
from .addresses import address
from .rules import alerts

if TYPE_CHECKING:
    from streamdsl import Stream

TABLE: Final = "customers"


@dataclass
class Customer:
    """A customer; `opened_at` in ms since 1970, the limit in the account's currency."""

    account_number: str
    segment: str
    home_city: str
    transaction_limit: float
    opened_at: int


def customers(accounts: int = habits.ACCOUNTS, seed: int = data.SEED) -> list[Customer]:
    """Return the customers of the sample with habits."""
    chance = random.Random(seed)
    people = habits.people(accounts, random.Random(seed))
    segments = ("basic", "plus", "premium")
    made = []
    for person in people:
        segment = chance.choices(segments, (6, 3, 1))[0]
        limit = person.usual * (1 + person.spread) * {"basic": 2.5, "plus": 4.0, "premium": 8.0}[segment]
        opened = habits.BEGIN_MS - chance.randrange(30, 3_000) * 86_400_000
        made.append(Customer(person.number, segment, person.home, round(limit, 2), opened))
    return made


@operator
def over_limit(transactions: Stream) -> Stream:
    """An amount above what the customer may move at once."""
    amount, limit = col("amount"), col("transaction_limit")
    detail = format("{:.2f} {} is above the limit of {:.2f} of a {} customer", amount, col("currency"), limit, col("segment"))
    return alerts(transactions.filter(amount > limit), "OVER_LIMIT", lit("high"), detail)


def looked_up(transactions: Stream, environ: Mapping[str, str] = os.environ) -> Stream:
    """Return the transactions with what PostgreSQL says of their customers; those of unknown ones are left out."""
    table = postgres(address("FRAUD_POSTGRES", environ), TABLE, Customer, key="account_number")
    return transactions.join_lookup(table, on="account_number", capacity=100, cache_size=100_000, cache_ttl="1m", on_miss="drop")


def write(made: Sequence[Customer], path: Path) -> None:
    """Write customers as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Customer)])
        writer.writerows(map(astuple, made))


def load(made: Sequence[Customer], environ: Mapping[str, str] = os.environ) -> None:
    """Put customers into the table in PostgreSQL, which is made anew."""
    import psycopg

    columns = "account_number text primary key, segment text not null, home_city text not null"
    with psycopg.connect(address("FRAUD_POSTGRES", environ).reveal()) as connection, connection.cursor() as cursor:
        cursor.execute(f"drop table if exists {TABLE}")
        cursor.execute(f"create table {TABLE} ({columns}, transaction_limit float8 not null, opened_at int8 not null)")
        with cursor.copy(f"copy {TABLE} from stdin") as copy:
            for customer in made:
                copy.write_row(astuple(customer))


def main(argv: Sequence[str] | None = None) -> int:
    """Write or load the customers."""
    parser = argparse.ArgumentParser(description="Make the customers of the fraud example's sample.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="as CSV")
    parser.add_argument("--load", action="store_true", help=f"into the table {TABLE} of PostgreSQL, which is made anew")
    parser.add_argument("--seed", type=int, default=data.SEED, metavar="N", help="of the sample")
    asked = parser.parse_args(argv)
    made = customers(seed=asked.seed)
    if asked.output:
        write(made, asked.output)
    if asked.load:
        load(made)
    print(f"{len(made):,} customers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
