"""A table of a job, looked into while it runs or afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import islice
from typing import Any

import pyarrow as pa

from streamdsl.errors import DataError
from streamdsl.physical.kinds import kind_of
from streamdsl.physical.node import PhysicalWindowAggregate
from streamdsl.runtime.state_rows import RowReader, key_bytes
from streamdsl.runtime.state_source import RowSource
from streamdsl.schema import Schema

__all__ = ["StateTable"]

#: Rows that are gathered for a column at a time.
_ROWS = 10_000


class StateTable:
    """The keyed state of one operator, as rows. `Run.table` returns it; nothing is changed through it.

    Attributes
    ----------
    name : str
        Of the operator that keeps the state.
    as_of : str
        What the rows are consistent with: ``"checkpoint 7"``, all of them as of that checkpoint, whatever is asked when; or
        ``"live"``, each as it is when it is read.
    keys : tuple of str
        Columns of the key.

    Examples
    --------
    >>> import tempfile
    >>> from streamdsl import Config, Topology, col, memory
    >>> topology = Topology("bank")
    >>> rows = [{"account": "a", "amount": 5}, {"account": "b", "amount": 7}, {"account": "a", "amount": 1}]
    >>> moves = topology.stream(memory("moves", {"account": str, "amount": int}, rows), name="moves")
    >>> balances = moves.key_by("account").aggregate(balance=col("amount").sum(), name="balances")
    >>> balances.to(memory("out"))
    >>> directory = tempfile.TemporaryDirectory()
    >>> run = topology.run(Config(state_dir=directory.name + "/bank"))
    >>> table = run.table("balances")
    >>> table.get("a")
    {'account': 'a', 'balance': 6}
    >>> table.get("c") is None, list(table.scan(prefix="b"))
    (True, [{'account': 'b', 'balance': 7}])
    >>> table.to_arrow().num_rows
    2
    >>> print(table.key_schema), table.schema.names
    account: string not null
    (None, ['account', 'balance'])
    >>> table.close()
    >>> directory.cleanup()
    """

    def __init__(self, reader: RowReader, source: RowSource) -> None:
        self.name, self.as_of, self.keys = reader.name, source.as_of, reader.key_schema.names
        self._reader, self._source = reader, source

    def __repr__(self) -> str:
        return f"<StateTable {self.name!r} by {', '.join(self.keys) or 'everything'}, as of {self.as_of}>"

    def _repr_html_(self) -> str:
        """Show the first rows, in a notebook."""
        rows = list(self.scan(limit=10))
        columns = list(dict.fromkeys(name for row in rows for name in row)) or list(self.keys)
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(str(row.get(name)))}</td>" for name in columns) + "</tr>" for row in rows)
        return (
            f"<table><caption>{escape(self.name)}, as of {self.as_of}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    @property
    def key_schema(self) -> Schema:
        """Columns of the key with their types."""
        return self._reader.key_schema

    @property
    def schema(self) -> pa.Schema | None:
        """Columns of the rows; None for the states of a `Processor`, whose columns follow from what they hold."""
        return self._reader.schema

    def get(self, key: Any = ()) -> Any:
        """Return the row of a key as a dict, None where there is none; of a window operator the list of its open windows.

        Parameters
        ----------
        key : value, tuple or mapping
            The key's column, or a tuple of its columns in their order.

        Raises
        ------
        DataError
            The key does not fit the columns of the key.
        StateError
            The state cannot be read any more.
        """
        encoded = key_bytes(self.name, self._reader.key_schema, key)
        found = [] if encoded is None else [row for _, row in self._source.get(self._reader, encoded)]
        if isinstance(self._reader.spec, PhysicalWindowAggregate):
            return found
        return found[0] if found else None

    def scan(self, prefix: Any = None, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts, in no order.

        Parameters
        ----------
        prefix : str or tuple, optional
            How keys begin: the start of a text key; of a key of several columns the first of them, the last of which may be the
            start of a text.
        limit : int, optional
            So many rows at most.
        """
        return islice(self._rows(prefix), limit)

    def _rows(self, prefix: Any) -> Iterator[dict[str, Any]]:
        begins, stored = self._prefix(prefix)
        for key, row in self._source.scan(self._reader, stored):
            if _matches(key if isinstance(key, tuple) else (key,), begins):
                yield row

    def _prefix(self, prefix: Any) -> tuple[tuple[Any, ...], bytes]:
        """Return what the columns of a key begin with, and its stored bytes, where these tell it."""
        if prefix is None:
            return (), b""
        begins = prefix if isinstance(prefix, tuple) else (prefix,)
        fields = self._reader.key_schema.fields
        if len(begins) > len(fields):
            raise DataError(f"{prefix!r} has more columns than the key of {self.name!r}: {', '.join(self.keys)}")
        plain = len(fields) == 1 and kind_of(fields[0].type) == "str"
        if plain and isinstance(prefix, (str, bytes)):
            return begins, prefix if isinstance(prefix, bytes) else prefix.encode("utf-8", "surrogateescape")
        return begins, b""

    def to_arrow(self, prefix: Any = None) -> pa.Table:
        """Return the rows as a `pyarrow.Table`. Arguments as `scan`."""
        schema = self._reader.schema
        rows = self.scan(prefix)
        if schema is None:
            found = list(rows)
            return pa.Table.from_pylist(found) if found else self._reader.key_schema.to_arrow().empty_table()
        batches = []
        while chunk := list(islice(rows, _ROWS)):
            batches.append(pa.RecordBatch.from_pylist(chunk, schema=schema))
        return pa.Table.from_batches(batches, schema=schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the rows to whatever takes Arrow: ``polars.DataFrame(table)``, ``pandas``, DuckDB."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Let go of the operator that reads; the table cannot be read afterwards."""
        self._reader.close()


def _matches(key: tuple[Any, ...], begins: tuple[Any, ...]) -> bool:
    for place, wanted in enumerate(begins):
        part, last = key[place], place == len(begins) - 1
        text = (isinstance(wanted, str) and isinstance(part, str)) or (isinstance(wanted, bytes) and isinstance(part, bytes))
        if not (part[: len(wanted)] == wanted if last and text else part == wanted):
            return False
    return True
