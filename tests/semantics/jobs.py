"""Small topologies driven as an outside reader of the documents would drive them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamdsl import Topology, memory
from streamdsl.schema import type_of
from streamdsl.testing import TopologyTestDriver

SCHEMA = {"k": str | None, "t": int | None, "n": int | None, "x": float | None, "s": str | None, "b": bool | None}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def row(k: str | None = "a", t: int = 0, **values: Any) -> dict[str, Any]:
    """Return a row of SCHEMA; what is not named is null."""
    return {**dict.fromkeys(SCHEMA), "k": k, "t": t, **values}


def nullable(schema: Any) -> Any:
    """Return a mapping as a schema whose columns may all be null: what a null means is asked everywhere."""
    return (
        {name: pa.field(name, type_of(type_)) for name, type_ in schema.items()}
        if isinstance(schema, dict) and schema is not SCHEMA
        else schema
    )


def driver(
    build: Callable[[Any], Any],
    *,
    schema: Any = SCHEMA,
    tags: Sequence[str] = (),
    parallelism: int = 1,
    partitions: int = 1,
    timestamp: str | None = "t",
    seed: int | None = None,
    **stream: Any,
) -> TopologyTestDriver:
    """Return a driver of: "in" → `build` → "out", and each of `tags` to a sink of its name."""
    topology = Topology("job")
    made = build(topology.stream(memory("in", schema=nullable(schema)), timestamp=timestamp, **stream))
    made.to(memory("out"))
    for tag in tags:
        made.output(tag).to(memory(tag))
    return TopologyTestDriver(topology, parallelism=parallelism, partitions=partitions, seed=seed)


def evaluated(schema: Any, rows: Iterable[Mapping[str, Any]], **columns: Any) -> list[dict[str, Any]]:
    """Return the columns computed of the rows, by a whole run."""
    topology = Topology("job")
    return topology.stream(memory("in", schema=nullable(schema), rows=list(rows))).select(**columns).collect().to_pylist()


def ms(moment: datetime.datetime) -> int:
    """Return a timestamp as ms since the epoch."""
    return (moment - EPOCH) // datetime.timedelta(milliseconds=1)


def at(milliseconds: int) -> datetime.datetime:
    """Return ms since the epoch as a timestamp."""
    return EPOCH + datetime.timedelta(milliseconds=milliseconds)


def figures(driver: TopologyTestDriver, name: str) -> int:
    """Return a metric, added up over all operators."""
    return sum(found.get(name, 0) for found in driver.metrics()["operators"].values())


def crash(driver: TopologyTestDriver, parallelism: int | None = None) -> None:
    """Take a checkpoint, crash and restore."""
    driver.checkpoint()
    driver.crash_and_restore(parallelism=parallelism)
