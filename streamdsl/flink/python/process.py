"""A `Processor` of a topology, as a job of Flink names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamdsl.schema import Schema

__all__ = ["PythonProcess"]


@dataclass(frozen=True, eq=False)
class PythonProcess:
    """A processor that a program of PyFlink puts between two views: a keyed process function.

    Attributes
    ----------
    name : str
        The name of its statement.
    step : str
        The step of the topology, for errors.
    processor : Processor
        Class or instance.
    rows : str
        The view of what it reads, as it goes to Python; behind its columns stands the event time.
    given : Schema
        Columns that it sees.
    keys : tuple of str
    outputs : tuple of (str, str, Schema)
        Each output: its tag (the main one has none), the view that the program makes of it, and its columns.
    """

    name: str
    step: str
    processor: Any
    rows: str
    given: Schema
    keys: tuple[str, ...]
    outputs: tuple[tuple[str, str, Schema], ...]
