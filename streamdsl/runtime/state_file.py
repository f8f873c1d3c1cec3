"""A table into a file, in the format that its name says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows
from streamdsl.errors import ConfigError, StateError
from streamdsl.runtime.state_text import json_row

__all__ = ["write_table"]

_SUFFIXES: Final = (".parquet", ".arrow", ".csv", ".jsonl")


def write_table(table: pa.Table, name: str) -> None:
    """Write a table; the file appears whole or not at all.

    Raises
    ------
    ConfigError
        The name says no format.
    StateError
        The file cannot be written.
    """
    path = Path(name)
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"--to {name}: that names no format", remedy=f"end the name with one of {', '.join(_SUFFIXES)}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write(table, part, path.suffix)
        os.replace(part, path)
    except (OSError, pa.ArrowException) as error:
        part.unlink(missing_ok=True)
        raise StateError(f"{name} cannot be written: {error}", remedy="check that its directory exists and has room") from error


def _write(table: pa.Table, path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    else:
        path.write_text("".join(json_row(row) + "\n" for row in python_rows(table)))
