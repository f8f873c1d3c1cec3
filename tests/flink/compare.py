"""The same topology here and on a Flink: rows as multisets, after the end of the input."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamdsl import Config, Table, Topology, files, memory
from streamdsl.flink.gateway import Gateway
from streamdsl.flink.job import FlinkJob, Statement

__all__ = ["alike", "on_flink", "run_here", "run_on_flink", "tables_here", "tables_on_flink", "written_json"]

#: Java's functions of floats and the C library's differ in the last digits.
_RELATIVE = 1e-9
_A_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
SUITABLE = {"execution.checkpointing.interval": "500 ms"}


def written_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def run_here(topology: Topology, sources: Mapping[str, Path], sinks: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Run a topology here on files, and return the rows of its sinks."""
    outputs = {name: memory(name) for name in sinks}
    known = topology.sources()
    inputs = {name: files(str(path), schema=known[name].schema, format="json") for name, path in sources.items()}
    topology.run(Config(state_backend="memory"), bind={**inputs, **outputs})
    return {name: output.table().to_pylist() for name, output in outputs.items()}


def on_flink(topology: Topology, sources: Mapping[str, Path], outputs: Mapping[str, Path]) -> FlinkJob:
    """Return the job that reads files and writes files."""
    known = topology.sources()
    inputs = {name: files(str(path), schema=known[name].schema, format="json") for name, path in sources.items()}
    return topology.to_flink(bind={**inputs, **{name: files(str(path), format="json") for name, path in outputs.items()}})


def run_on_flink(
    url: str, topology: Topology, sources: Mapping[str, Path], sinks: tuple[str, ...], directory: Path, parallelism: int = 3
) -> dict[str, list[dict[str, Any]]]:
    """Run a topology on Flink on files, and return the rows of its sinks."""
    outputs = {name: directory / f"{name}.rows" for name in sinks}
    with Gateway(url) as gateway:
        gateway.run(Statement("set", "parallelism", f"SET 'parallelism.default' = '{parallelism}'"))
        gateway.wait(gateway.submit(on_flink(topology, sources, outputs)), timeout_s=180)
    return {name: read_json(path) for name, path in outputs.items()}


def read_json(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of all finished files of a directory."""
    found = []
    for path in sorted(directory.rglob("*")) if directory.exists() else []:
        if path.is_file() and not path.name.startswith((".", "_")):
            found += [json.loads(line) for line in path.read_text().split("\n") if line]
    return found


def alike(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
    """Fail unless both have the same rows, in any order."""
    ours, theirs = _ordered(here), _ordered(there)
    missing = [row for row in ours if not _among(row, theirs)]
    extra = [row for row in theirs if not _among(row, ours)]
    assert not missing and not extra, f"only here: {missing[:3]} … only on Flink: {extra[:3]} … ({len(ours)} and {len(theirs)} rows)"
    assert len(ours) == len(theirs)
    assert all(_same(a, b) for a, b in zip(ours, theirs, strict=True)), "rows come another number of times"


def _ordered(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    plain = [tuple((name, _plain(value)) for name, value in sorted(row.items())) for row in rows]
    return sorted(plain, key=_key)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str) and _A_TIME.fullmatch(value):
        return round(datetime.datetime.fromisoformat(value).timestamp() * 1000)
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value


def _key(row: tuple[Any, ...]) -> str:
    return repr([(name, float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value) for name, value in row])


def _among(row: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> bool:
    import bisect

    at = bisect.bisect_left(rows, _key(row), key=_key)
    near = rows[max(at - 2, 0) : at + 3]
    return any(_same(row, other) for other in near) or any(_same(row, other) for other in rows if _rough(row) == _rough(other))


def _rough(row: tuple[Any, ...]) -> list[Any]:
    return [value for _, value in row if not isinstance(value, float)]


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(x[0] == y[0] and _equal(x[1], y[1]) for x, y in zip(a, b, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if (isinstance(a, float) and isinstance(b, float | int)) or (isinstance(b, float) and isinstance(a, int)):
        return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    return table.to_pylist()


def tables_here(topology: Topology, sources: Mapping[str, Path], table: Table) -> list[dict[str, Any]]:
    """Run a topology here, and return the rows that a table of it has in the end."""
    known = topology.sources()
    inputs = {name: files(str(path), schema=known[name].schema, format="json") for name, path in sources.items()}
    changes = table.collect(Config(state_backend="memory"), bind=inputs).to_pylist()
    last: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in changes:
        key = tuple(row[name] for name in table.keys)
        last.pop(key, None)
        if row.pop("op") != "withdraw":
            last[key] = row
    return list(last.values())


def tables_on_flink(url: str, topology: Topology, sources: Mapping[str, Path], table: Table) -> list[dict[str, Any]]:
    """Run what fills the sink of a table on Flink as a query, and return the rows that are there in the end."""
    known = topology.sources()
    inputs = {name: files(str(path), schema=known[name].schema, format="json") for name, path in sources.items()}
    job = topology.to_flink(bind=inputs)
    insert = next(one for one in job.statements if one.kind == "insert")
    query = insert.text.partition("\n")[2]
    with Gateway(url) as gateway:
        for statement in job.statements:
            if statement.kind in ("set", "view", "table"):
                gateway.run(statement)
        return gateway.table(query, table.keys)
