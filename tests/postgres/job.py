"""A job that a test kills: running sums by account from a file to a table, and its rows to another."""

from __future__ import annotations

import sys

from streamdsl import Config, Topology, col, count, files, postgres


def topology(source: str, dsn: str, table: str, rate: float | None = None) -> Topology:
    topology = Topology("sums")
    rows = topology.stream(files(source, schema={"id": int, "account": str, "amount": int}, rate=rate), name="rows")
    sums = rows.key_by("account").aggregate(n=count(), total=col("amount").sum())
    sums.to(postgres(dsn, f"{table}_sums"), name="sums")
    rows.to(postgres(dsn, f"{table}_rows"), name="copies")
    return topology


if __name__ == "__main__":
    source, dsn, table, state, rate = sys.argv[1:]
    topology(source, dsn, table, float(rate)).run(Config(state_dir=state, checkpoint_interval="50ms"))
