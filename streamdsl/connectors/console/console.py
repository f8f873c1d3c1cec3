"""`console()`: rows on standard output, each once per run (a row printed behind a checkpoint is printed again)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows
from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, Sink, SinkWriter
from streamdsl.errors import TopologyError
from streamdsl.schema import Schema

__all__ = ["Console", "console"]


@dataclass(frozen=True, eq=False)
class Console(Sink):
    """Prints rows; made by `console`."""

    name: str = "console"
    format: str = "json"

    gathers = True
    delivery = "at_least_once"

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Print to standard output, as it is now."""
        return ConsoleWriter(sys.stdout, self.format)


class ConsoleWriter(SinkWriter):
    """Prints rows as they come."""

    def __init__(self, stream: TextIO, format: str) -> None:
        self._stream = stream
        self._format = format

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Print rows, one a line."""
        if not rows.num_rows:
            return
        if self._format == "json":
            self._stream.write(json_lines(rows).decode("utf-8"))
            return
        # repr() keeps control characters of a hostile record out of the terminal.
        lines = [" ".join(f"{name}={value!r}" for name, value in row.items()) for row in python_rows(rows)]
        self._stream.write("\n".join(lines) + "\n")

    def flush(self) -> None:
        """Show what was printed."""
        self._stream.flush()

    def snapshot(self, checkpoint_id: int) -> Json:
        """Show what was printed; there is nothing to come back to."""
        self._stream.flush()
        return None

    def close(self) -> None:
        """Leave standard output open: it belongs to the program."""
        self._stream.flush()


def console(format: str = "json", *, name: str = "console") -> Console:
    """Print rows.

    Parameters
    ----------
    format : {"json", "text"}
        One JSON object a line, or ``name=value`` pairs.
    name : str

    Raises
    ------
    TopologyError
        An unknown format.

    Examples
    --------
    >>> topology = Topology("t")
    >>> topology.stream(memory("rows", rows=[{"x": 5, "s": "a b"}])).to(console("text"))
    >>> topology.run().finished
    x=5 s='a b'
    True
    """
    if format not in ("json", "text"):
        raise TopologyError(f"console(format={format!r}) is unknown", remedy='use "json" or "text"')
    return Console(name, format)
