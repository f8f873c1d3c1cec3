"""`delta(...)`: a table of Delta Lake as a sink, exactly once, and as a bounded source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

import pyarrow as pa

from streamdsl.connectors.base import Json, Sink, SinkWriter, Source, SplitReader, check_texts
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.schema import Schema
from streamdsl.secret import Secret

__all__ = ["Delta", "delta"]


@dataclass(frozen=True, eq=False, repr=False)
class Delta(Source, Sink):
    """A table of Delta Lake; made by `delta`."""

    uri: str
    name: str
    schema: Schema
    partition_by: tuple[str, ...] = ()
    version: int | None = None
    options: Mapping[str, Secret] = field(default_factory=dict)
    errors: Any = None
    rate: float | None = None
    job: str = ""

    bounded = True
    gathers = True
    upserts = False
    delivery = "exactly_once"
    position_form = "rows of a version of a table"
    packages = ("deltalake",)

    def __repr__(self) -> str:
        return f"Delta({self.uri!r})"

    def configured(self, config: Any, job: str) -> Self:
        """Remember the job: its commits are known by its name."""
        return replace(self, job=job)

    # As a source ------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        """Return the table."""
        return (self.uri,)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Read one version of the table, the one that a checkpoint names."""
        from streamdsl.connectors.delta.reader import TableReader

        return TableReader(self, position, columns)

    # As a sink --------------------------------------------------------------------------------------------------

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse columns that a table cannot have, and partitions by others."""
        from streamdsl.connectors.delta.clients import delta_types

        if self.version is not None:
            raise TopologyError(f"{self!r} has a version, and is a source", remedy="leave version= out: rows are added to the latest")
        rows = delta_types(schema.visible().fields, repr(self))
        for name in self.partition_by:
            kind = rows.field(schema.field(name).name).type
            if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind) or pa.types.is_boolean(kind)):
                raise TopologyError(
                    f"{self!r}: partition_by= names {name!r}, which is {kind}", remedy="partition by text, whole numbers, dates or booleans"
                )
        if self.partition_by and len(self.partition_by) == len(rows):
            raise TopologyError(f"{self!r}: partition_by= names every column", remedy="a file needs one that is not in its place")

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether there is a table, and whether its columns fit."""
        from streamdsl.connectors.delta.clients import check_rows, delta_types, opened, schema_of
        from streamdsl.formats.conform import check_columns

        doing = f"the table {self.uri}"
        table = opened(self.uri, self.options, doing, self.version)
        if table is None:
            if written is None:
                raise ConnectorError(f"{doing}: there is none", remedy="check the address and storage_options=")
            yield f"{doing}: it is not there yet, and will be made"
        elif written is None:
            check_columns(self.uri, schema_of(table).names, self.schema.fields)
            yield f"{doing}: version {table.version()}"
        else:
            check_rows(table, delta_types(written.visible().fields, doing), doing)
            yield f"{doing}: its columns fit"

    def overwrites(self, source: Source) -> str:
        """Return the table if `source` reads it."""
        return self.uri if isinstance(source, Delta) and _same(source.uri, self.uri) else ""

    def collides(self, other: Sink) -> str:
        """Refuse two sinks on the same table: each has its own commits."""
        return self.uri if isinstance(other, Delta) and _same(other.uri, self.uri) else ""

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Go on behind the last checkpoint: what it has and the table has not is committed now."""
        from streamdsl.connectors.delta.writer import DeltaWriter

        self.check(schema, keys)
        return DeltaWriter(self, schema.visible(), state)


def _same(a: str, b: str) -> bool:
    return a.rstrip("/") == b.rstrip("/") or ("://" not in a + b and os.path.realpath(a) == os.path.realpath(b))


def delta(
    uri: str | os.PathLike[str],
    schema: Any = None,
    *,
    partition_by: str | Sequence[str] = (),
    version: int | None = None,
    storage_options: Mapping[str, str | Secret] | None = None,
    errors: Any = None,
    rate: float | None = None,
    name: str | None = None,
) -> Delta:
    """Write rows to a table of Delta Lake, exactly once, or read one version of it.

    Parameters
    ----------
    uri : str or path
        A directory, or ``s3://bucket/table`` and whatever the deltalake package takes.
    schema : schema, optional
        Columns that are read. A sink takes those of the stream.
    partition_by : str or sequence of str
        Columns by whose values a sink makes files of their own, where it makes the table.
    version : int, optional
        Of the table that is read (default: the latest when the job starts for the first time).
    storage_options : mapping, optional
        As of the deltalake package, such as ``AWS_ENDPOINT_URL``; their values are never shown.
    errors : "fail", "skip" or dead_letter(sink)
        What becomes of rows that are read and do not fit the schema.
    rate : float, optional
        Rows a second that are read.
    name : str, optional
        Default: the last part of the uri.

    Examples
    --------
    >>> from streamdsl import delta
    >>> delta("s3://lake/alerts", partition_by="day")
    Delta('s3://lake/alerts')
    """
    if not isinstance(uri, os.PathLike):
        check_texts("delta", 'write delta("s3://bucket/table"), or a directory', uri=uri, name=name)
    text = os.fspath(uri)
    if not isinstance(text, str) or not text.strip("/"):
        raise TopologyError(f"delta({uri!r}) names no table", remedy='write delta("s3://bucket/table"), or a directory')
    parts = urlsplit(text) if "://" in text else None
    if parts is not None and (parts.username or parts.password or parts.query):
        raise TopologyError("delta(...): the uri holds more than a place", remedy="put keys and options into storage_options=")
    if parts is None:
        text = os.path.abspath(os.path.expanduser(text))
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
        raise TopologyError(f"delta(version={version!r}) is no version", remedy="versions are 0, 1, 2, …")
    if rate is not None and not rate > 0:
        raise TopologyError(f"delta(rate={rate!r}): a rate is above 0; None is as fast as possible")
    hidden = {word: value if isinstance(value, Secret) else Secret(value) for word, value in (storage_options or {}).items()}
    return Delta(
        text,
        name or text.rstrip("/").rpartition("/")[2],
        Schema() if schema is None else Schema.of(schema),
        (partition_by,) if isinstance(partition_by, str) else tuple(partition_by),
        version,
        hidden,
        errors,
        rate,
    )
