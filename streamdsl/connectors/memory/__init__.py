"""Rows in memory as a source, and a sink that collects rows: for tests, notebooks and small tables."""

from streamdsl.connectors.memory.memory import Memory, memory

__all__ = ["Memory", "memory"]
