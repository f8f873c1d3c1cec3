"""A stream of orders, and the statements of a topology by their names."""

from __future__ import annotations

from typing import Any

from streamdsl import Stream, Topology, kafka

__all__ = ["ORDER", "orders", "statements"]

ORDER = {"id": int, "customer": "string", "amount": float, "at": "timestamp"}


def orders(topology: Topology, **options: Any) -> Stream:
    return topology.stream(kafka("orders", ORDER, broker="b:1"), timestamp="at", disorder="5s", name="orders", **options)


def statements(topology: Topology) -> dict[str, str]:
    """The texts of a job by their names, settings and inserts left out."""
    return {one.name: one.text for one in topology.to_flink().statements if one.kind in ("table", "view")}
