"""A job that a test kills: running sums by account from a file to a table, and its rows to another."""

from __future__ import annotations

import sys

from streamdsl import Config, Topology, col, count, files, postgres
from streamdsl.connectors.base import Source


def read(source: str, rate: float | None = None) -> Source:
    return files(source, schema={"id": int, "account": str, "amount": int}, rate=rate)


def topology(source: str | Source, dsn: str, table: str, rate: float | None = None) -> Topology:
    topology = Topology("sums")
    rows = topology.stream(read(source, rate) if isinstance(source, str) else source, name="rows")
    sums = rows.key_by("account").aggregate(n=count(), total=col("amount").sum())
    sums.to(postgres(dsn, f"{table}_sums"), name="sums")
    rows.to(postgres(dsn, f"{table}_rows"), name="copies")
    return topology


if __name__ == "__main__":
    source, dsn, table, state, rate = sys.argv[1:]
    topology(source, dsn, table, float(rate)).run(Config(state_dir=state, checkpoint_interval="50ms"))
