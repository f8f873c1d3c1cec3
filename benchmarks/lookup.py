"""How many rows a second are looked up in PostgreSQL on the same machine, where each statement takes some milliseconds.

`python benchmarks/lookup.py --records 100000 --delay-ms 5 --capacity 100 --json` starts a server of its own. Beside it stands the
same look-up without `get_many`: one statement for each row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg

from benchmarks.fraud import commit, machine
from streamdsl import Config, Topology, memory, postgres
from streamdsl.connectors.base import Lookup
from streamdsl.connectors.postgres.lookup import PostgresLookup
from tests.postgres.server import Server

CUSTOMERS = 1_000


class OneByOne(Lookup):
    """A look-up that is asked for one key at a time."""

    def __init__(self, inner: PostgresLookup) -> None:
        self.name, self.schema, self._inner = inner.name, inner.schema, inner
        self.open, self.close = inner.open, inner.close  # type: ignore[method-assign]

    def copy(self) -> OneByOne:
        """Return one with connections of its own."""
        return OneByOne(self._inner.copy())

    async def get(self, key: Any) -> Any:
        """Ask for one row."""
        return await self._inner.get(key)


def prepare(dsn: str, delay_ms: float) -> None:
    """Make the table, and a view of it whose statements take `delay_ms` longer."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (customer bigint PRIMARY KEY, segment text, credit double precision)")
        connection.execute(f"INSERT INTO customers SELECT i, 's' || i % 5, i FROM generate_series(0, {CUSTOMERS - 1}) AS i")
        slept = f"WITH s AS MATERIALIZED (SELECT pg_sleep({delay_ms / 1000}))"
        connection.execute(f"CREATE VIEW slow_customers AS {slept} SELECT c.* FROM s CROSS JOIN customers c")


def measure(lookup: Any, records: int, capacity: int, ordered: bool) -> dict[str, Any]:
    """Look up in one task; return the figures."""
    rows = [{"id": i, "customer": i * 7 % CUSTOMERS} for i in range(records)]
    topology = Topology("lookup")
    out = memory("out")
    stream = topology.stream(memory("orders", schema={"id": int, "customer": int}, rows=rows))
    stream.join_lookup(lookup, on="customer", capacity=capacity, ordered=ordered, on_miss="fail").to(out, name="out")
    began, cpu = time.perf_counter(), time.process_time()
    run = topology.run(Config(parallelism=1))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert out.table().num_rows == records
    latency = run.metrics()["latency_ms"]
    return {
        "records_per_s": round(records / seconds),
        "cpu_us_per_record": round(1e6 * cpu / records, 1),
        "latency_ms": {name: round(value, 1) for name, value in latency.items()},
    }


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=5.0)
    parser.add_argument("--capacity", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "commit": commit(), **vars(options)}
    with tempfile.TemporaryDirectory(prefix="streamdsl-postgres-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            prepare(server.dsn, options.delay_ms)
            schema = {"customer": int, "segment": str, "credit": float}
            table = postgres(server.dsn, "slow_customers", schema)
            few = max(options.records // 20, 1)
            figures["ordered"] = measure(table, options.records, options.capacity, True)
            figures["unordered"] = measure(table, options.records, options.capacity, False)
            figures["one_by_one"] = measure(OneByOne(table.lookup(("customer",))), few, options.capacity, True)
        finally:
            server.stop()
    if options.json:
        print(json.dumps(figures))
        return
    for name in ("ordered", "unordered", "one_by_one"):
        print(f"{name:12} {figures[name]['records_per_s']:>9,} records/s  {figures[name]}")


if __name__ == "__main__":
    main()
