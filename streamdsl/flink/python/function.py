"""Python functions of a topology, as a job of Flink names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from streamdsl.schema import Schema

__all__ = ["MODULE", "PythonFunction", "PythonValues", "function_name"]

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


@dataclass(frozen=True, eq=False)
class PythonValues:
    """A function between the values of a topic, which Flink has as bytes, and rows.

    Attributes
    ----------
    name : str
        Its name in the SQL, and in the project's module.
    step : str
        The source or sink, for errors.
    topic : Kafka
        What the topology says of the topic: the registry and the class of its messages.
    columns : Schema
        Columns of the rows.
    way : "row" | "rows" | "value"
        A value becomes one row, as a scalar function gives it; or the rows of a table function; or a row becomes a value.
    skips : bool
        Whether bad values give no row.
    of_table : bool
        Whether null is a tombstone, which gives no row.
    time : str, optional
        The column with the event time: a row without one is a bad record.
    """

    name: str
    step: str
    topic: Any
    columns: Schema
    way: Literal["row", "rows", "value"]
    skips: bool = False
    of_table: bool = False
    time: str | None = None


def function_name(step: str, number: int) -> str:
    """Return a name of Python and of Flink, which knows no capitals."""
    plain = re.sub(r"\W+", "_", step, flags=re.ASCII).strip("_").lower()
    return f"{plain}_{number}"
