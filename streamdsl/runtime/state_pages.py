"""Tables over HTTP: ``/tables``, ``/tables/NAME`` and ``/tables/NAME/KEY``, as JSON. What is read only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

from streamdsl.errors import DataError, StateError, StreamError
from streamdsl.runtime.state_table import StateTable
from streamdsl.runtime.state_text import json_row, key_of_texts, prefix_of_texts

__all__ = ["Readable", "table_page"]

#: Rows of one answer, unless it asks for fewer.
_ROWS: Final = 100
_MOST_ROWS: Final = 1000


class Readable(Protocol):
    """What of a `Run` is read."""

    def table(self, name: str, *, live: bool = False) -> StateTable:
        """Return a table."""

    def tables(self) -> tuple[str, ...]:
        """Return their names."""


def table_page(run: Readable, path: str, query: str) -> tuple[int, str]:
    """Return status and JSON text of a page below ``/tables``.

    ``?live=1`` reads from the running tasks; ``?prefix=…&limit=…`` are those of `StateTable.scan`. A key of several columns is
    several parts of the path.
    """
    parts = [unquote(part) for part in path.split("/")[2:]]
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    try:
        if not parts or parts == [""]:
            return 200, json_row({"tables": run.tables()}) + "\n"
        return _table(run, parts, options)
    except StateError as error:
        return _error(503, error)
    except DataError as error:
        return _error(400, error)
    except StreamError as error:
        return _error(404, error)


def _table(run: Readable, parts: list[str], options: Mapping[str, str]) -> tuple[int, str]:
    name, *texts = parts
    table = run.table(name, live=options.get("live", "0") not in ("", "0", "false"))
    try:
        said: dict[str, Any] = {"table": table.name, "as_of": table.as_of, "keys": table.keys}
        if not texts:
            limit = _limit(options.get("limit", str(_ROWS)))
            prefix = [options["prefix"]] if "prefix" in options else []
            rows = list(table.scan(prefix_of_texts(table.key_schema, prefix), limit=limit + 1))
            return 200, json_row({**said, "rows": rows[:limit], "more": len(rows) > limit}) + "\n"
        key = key_of_texts(table.name, table.key_schema, texts)
        row = table.get(key)
        found = row is not None and row != []
        return (200 if found else 404), json_row({**said, "key": key, "row": row}) + "\n"
    finally:
        table.close()


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_ROWS:
        raise DataError(f"limit={text[:20]!r} is not a number from 1 to {_MOST_ROWS}")
    return int(text)


def _error(status: int, error: StreamError) -> tuple[int, str]:
    return status, json_row({"error": error.message, "remedy": error.remedy}) + "\n"
