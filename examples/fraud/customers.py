"""Customers and their limits: who they are, the rule on limits, a table of them in PostgreSQL, and the changes of that table.

``python examples/fraud/customers.py`` makes the customers of the sample. With ``--load`` it puts them into PostgreSQL
(`FRAUD_POSTGRES`); with ``--changes FILE`` or ``--send BROKER`` it writes them as the change events that Debezium makes of that table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.fraud"

from streamdsl import col, format, kafka, lit, operator, postgres

from . import data, habits
from .addresses import address
from .rules import alerts

if TYPE_CHECKING:
    from streamdsl import Stream

TABLE: Final = "customers"
CHANGES: Final = "fraud-customers"


@dataclass
class Customer:
    """A customer; times in ms since 1970, the limit in the account's currency. `changed_at`: since when the row is as it is."""

    account_number: str
    segment: str
    home_city: str
    transaction_limit: float
    opened_at: int
    changed_at: int


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
        made.append(Customer(person.number, segment, person.home, round(limit, 2), opened, opened))
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


def as_of(transactions: Stream) -> Stream:
    """Return the transactions with what their customer was at the time; those of unknown ones are left out.

    The table comes from change events, and nobody is asked. Nothing waits: a change that arrives after its transaction is too late
    for it.
    """
    table = transactions.topology.table(
        kafka(CHANGES, Customer, partitions=3, format="debezium-json"),
        key="account_number",
        timestamp="changed_at",
        versioned="30d",
        bootstrap=True,
        name="customers",
    )
    return transactions.join(table, on="account_number")


def event(op: str, before: Customer | None, after: Customer | None) -> dict[str, object]:
    """Return a change event as Debezium writes it: "r" a row that it found, "c" a new one, "u" a changed one, "d" one that is gone."""
    at = max(row.changed_at for row in (before, after) if row is not None)
    source = {"connector": "postgresql", "name": "bank", "db": "bank", "schema": "public", "table": TABLE, "ts_ms": at}
    rows = {"before": None if before is None else asdict(before), "after": None if after is None else asdict(after)}
    return {**rows, "source": source, "op": op, "ts_ms": at}


def write_changes(events: Iterable[Mapping[str, object]], path: Path) -> None:
    """Write change events as JSON lines."""
    path.write_text("".join(json.dumps(one) + "\n" for one in events), encoding="utf-8")


def send_changes(events: Iterable[Mapping[str, object]], broker: str) -> None:
    """Send change events to their topic, with the keys that Debezium gives them.

    Raises
    ------
    KafkaException
        One was not delivered.
    """
    from confluent_kafka import KafkaError, KafkaException, Message, Producer

    def check(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)

    producer = Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    for one in events:
        row: Any = one["after"] or one["before"]
        key = json.dumps({"account_number": row["account_number"]})
        producer.produce(CHANGES, value=json.dumps(one), key=key, on_delivery=check)
        producer.poll(0)
    producer.flush()


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
    times = "transaction_limit float8 not null, opened_at int8 not null, changed_at int8 not null"
    with psycopg.connect(address("FRAUD_POSTGRES", environ).reveal()) as connection, connection.cursor() as cursor:
        cursor.execute(f"drop table if exists {TABLE}")
        cursor.execute(f"create table {TABLE} ({columns}, {times})")
        with cursor.copy(f"copy {TABLE} from stdin") as copy:
            for customer in made:
                copy.write_row(astuple(customer))


def main(argv: Sequence[str] | None = None) -> int:
    """Write or load the customers."""
    parser = argparse.ArgumentParser(description="Make the customers of the fraud example's sample.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="as CSV")
    parser.add_argument("--load", action="store_true", help=f"into the table {TABLE} of PostgreSQL, which is made anew")
    parser.add_argument("--changes", type=Path, metavar="FILE", help="as change events, JSON lines")
    parser.add_argument("--send", metavar="BROKER", help=f"as change events, into the topic {CHANGES}, which exists")
    parser.add_argument("--seed", type=int, default=data.SEED, metavar="N", help="of the sample")
    asked = parser.parse_args(argv)
    made = customers(seed=asked.seed)
    if asked.output:
        write(made, asked.output)
    if asked.load:
        load(made)
    events = (event("r", None, customer) for customer in made)
    if asked.changes:
        write_changes(events, asked.changes)
    elif asked.send:
        send_changes(events, asked.send)
    print(f"{len(made):,} customers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
