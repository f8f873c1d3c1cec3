"""Small topologies over one column of any type."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from streamdsl import Topology, memory
from streamdsl.testing import TopologyTestDriver


def computed(schema: pa.Schema, rows: list[dict[str, Any]], **columns: Any) -> pa.Table:
    """Return the computed columns of the rows."""
    stream = Topology("job").stream(memory("in", schema=schema, rows=rows))
    return stream.select(**columns).collect()


def value_of(schema: pa.Schema, row: dict[str, Any], expression: Any) -> Any:
    """Return the value of one expression for one row."""
    return computed(schema, [row], out=expression).column("out").to_pylist()[0]


def driver_of(schema: pa.Schema, build: Any, **options: Any) -> TopologyTestDriver:
    """Return the driver of a job from `in` to `out`."""
    topology = Topology("job")
    build(topology.stream(memory("in", schema=schema), watermarks="external")).to(memory("out"))
    return TopologyTestDriver(topology, **options)
