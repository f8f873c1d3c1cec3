"""Run a query of Nexmark on files: ``python examples/nexmark/run.py --query q5 --input DIR``.

DIR has person, auction and bid as ``.parquet`` or ``.jsonl``; ``--generate N`` makes them first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "examples.nexmark"

import pyarrow as pa
import pyarrow.parquet as pq

from streamdsl import Config, StreamError, files

from .events import SCHEMAS
from .generator import generate
from .queries import QUERIES

__all__ = ["final_rows", "main", "run"]


def run(query: str, sources: Mapping[str, Any], config: Config, *, disorder: Any = 0) -> pa.Table:
    """Run a query to the end of its sources and return its final rows."""
    topology, result = QUERIES[query].topology(query, disorder)
    changes = result.collect(config, bind={name: sources[name] for name in topology.sources()})
    return final_rows(query, changes)


def final_rows(query: str, rows: pa.Table) -> pa.Table:
    """Return the last row of each key that was not withdrawn; all rows where none changes another."""
    keys, columns = QUERIES[query].keys, list(QUERIES[query].columns)
    if not keys:
        return rows.select(columns)
    last: dict[Any, int] = {}
    withdrawn = [op == "withdraw" for op in rows["op"].to_pylist()] if "op" in rows.column_names else [False] * rows.num_rows
    for row, key in enumerate(zip(*(rows[name].to_pylist() for name in keys), strict=True)):
        if withdrawn[row]:
            last.pop(key, None)
        else:
            last[key] = row
    return rows.take(pa.array(sorted(last.values()), pa.int64())).select(columns)


def _files(directory: Path) -> dict[str, Any]:
    found = {}
    for name, schema in SCHEMAS.items():
        paths = [path for path in (directory / f"{name}.parquet", directory / f"{name}.jsonl") if path.exists()]
        if not paths:
            raise SystemExit(f"error: there is no {name}.parquet and no {name}.jsonl in {directory}; --generate N makes some")
        found[name] = files(paths[0], schema=schema)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run a query as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="A query of Nexmark on files.")
    add = parser.add_argument
    add("--query", choices=QUERIES, required=True)
    add("--input", type=Path, required=True, metavar="DIR", help="has person, auction and bid as .parquet or .jsonl")
    add("--output", type=Path, metavar="FILE.parquet", help="the final rows (default: the first ten are printed)")
    add("--parallelism", type=int, default=1, metavar="N")
    add("--disorder", default="0s", metavar="D", help="how far events may be out of order (default: 0s)")
    add("--state-dir", metavar="DIR")
    add("--generate", type=int, metavar="N", help="make N events in the input directory first")
    asked = parser.parse_args(argv)
    if asked.generate is not None:
        asked.input.mkdir(parents=True, exist_ok=True)
        for name, table in generate(asked.generate):
            pq.write_table(table, asked.input / f"{name}.parquet")
    begun = time.perf_counter()
    try:
        config = Config(parallelism=asked.parallelism, state_dir=asked.state_dir)
        rows = run(asked.query, _files(asked.input), config, disorder=asked.disorder)
    except StreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{asked.query}: {rows.num_rows} rows in {time.perf_counter() - begun:.2f} s")
    if asked.output is not None:
        pq.write_table(rows, asked.output)
    else:
        for row in rows.slice(0, 10).to_pylist():
            print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
