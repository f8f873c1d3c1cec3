"""A Python function of a topology, as a job of Flink names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamdsl.schema import Schema

__all__ = ["MODULE", "PythonFunction"]

#: The module of a project that has the functions.
MODULE = "streamdsl_functions"


@dataclass(frozen=True, eq=False)
class PythonFunction:
    """A function that sees rows: a table function of PyFlink, which makes rows of each.

    Attributes
    ----------
    name : str
        Its name in the SQL, and in the project's module.
    step : str
        The step of the topology, for errors.
    mode : str
        As the verb calls it: map, flat_map, filter, peek, batches or test.
    function : callable
    given : Schema
        Columns that it sees.
    made : Schema
        Columns that come out: those of the new rows; of a test its answer; of filter and peek a column that says nothing.
    skips : bool
        Whether rows on which it fails are left out.
    """

    name: str
    step: str
    mode: str
    function: Callable[..., Any]
    given: Schema
    made: Schema
    skips: bool = False
