"""The library of Delta Lake: how a table is opened, what its errors mean, and which types it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pyarrow as pa

from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.schema import Field
from streamdsl.secret import Secret

# The one place that imports the library, for the one who has not installed it.
try:
    from deltalake import CommitProperties, DeltaTable, Transaction
    from deltalake.exceptions import DeltaError, TableNotFoundError
    from deltalake.fs import DeltaStorageHandler
    from deltalake.transaction import AddAction
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("delta(...) needs the package deltalake", remedy="pip install 'streamdsl[delta]'") from missing

__all__ = ["append", "asked", "check_rows", "created", "delta_types", "file_system", "opened", "schema_of"]

T = TypeVar("T")

#: Of a reason, so much is shown.
_SHOWN: Final = 600
_DECORATION: Final = re.compile(r"\x1b\[[0-9;]*m|↳")
#: What a store says where another attempt is of no use, and where it is.
_REFUSED: Final = re.compile(r"\b40[0134] |privileges|NoSuchBucket|AccessDenied")
_PASSING: Final = re.compile(r"error sending request|[Cc]onnection (error|closed|reset|refused)|[Tt]imed? ?out|\b(429|5\d\d) ")
#: While the library opens or removes a file it holds the interpreter: it may not try for long by itself.
_SHORT: Final = {"timeout": "10s", "connect_timeout": "5s", "max_retries": "1", "retry_timeout": "5s"}

_UNSIGNED: Final = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}


def asked(doing: str, request: Callable[[], T], *, passes: bool = False, **context: Any) -> T:
    """Return what a request to a table returns; `passes`: once more it may go well, and does no harm.

    Raises
    ------
    ConnectorError
        It fails: the table or its store does not answer (``context["recoverable"]``), or refuses.
    """
    try:
        return request()
    except Exception as error:
        # The library raises bare exceptions for what its parts tell.
        if not isinstance(error, DeltaError | OSError | pa.ArrowException) and type(error) is not Exception:
            raise
        reason = _reason(error)
        if _REFUSED.search(reason):
            remedy, again = "look at the address, storage_options= and the rights", False
        else:
            again = passes or _PASSING.search(reason) is not None
            remedy = "it is tried again; what was committed stays" if again else "look at the address, storage_options= and the rights"
        raise ConnectorError(f"{doing}: {reason}", remedy=remedy, **context, **({"recoverable": True} if again else {})) from None


def _reason(error: Exception) -> str:
    """Return what is wrong and why, in one line; nothing of the stack of another language."""
    lines = [_DECORATION.sub("", line).strip() for line in str(error).split("stack backtrace")[0].splitlines()]
    told = [line for line in lines if line]
    return (told[0] + "".join(f": {line}" for line in told[1:]))[:_SHOWN] if told else type(error).__name__


def _revealed(options: Mapping[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in options.items()}


def opened(uri: str, options: Mapping[str, Secret], doing: str, version: int | None = None) -> Any:
    """Return a table, None if there is none."""

    def open_table() -> Any:
        try:
            return DeltaTable(uri, version=version, storage_options=_revealed(options) or None)
        except TableNotFoundError:
            return None

    return asked(doing, open_table)


def created(uri: str, options: Mapping[str, Secret], schema: pa.Schema, partition_by: Sequence[str], doing: str) -> Any:
    """Return a new table, or the one that somebody else has just made."""

    def create() -> Any:
        return DeltaTable.create(
            uri, schema, mode="ignore", partition_by=list(partition_by) or None, storage_options=_revealed(options) or None
        )

    return asked(doing, create)


def schema_of(table: Any) -> pa.Schema:
    """Return the columns of a table in Arrow's types."""
    found = pa.schema(table.schema().to_arrow())
    return pa.schema([pa.field(field.name, _plain(field.type), field.nullable) for field in found])


def file_system(uri: str, options: Mapping[str, Secret]) -> Any:
    """Return the file system whose root is the table."""
    from pyarrow import fs

    return fs.PyFileSystem(DeltaStorageHandler(uri, {**(_SHORT if "://" in uri else {}), **_revealed(options)} or None))


def append(table: Any, files: Sequence[Mapping[str, Any]], app: str, version: int) -> None:
    """Add files to a table, in one commit that has `version` for the application `app`."""
    actions = [
        AddAction(file["path"], file["size"], file["values"], file["at_ms"], True, f'{{"numRecords": {file["rows"]}}}') for file in files
    ]
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        table.metadata().partition_columns or None,
        commit_properties=CommitProperties(
            custom_metadata={"streamdsl.checkpoint": str(version)}, app_transactions=[Transaction(app, version)]
        ),
    )


def delta_types(fields: Sequence[Field], what: str) -> pa.Schema:
    """Return the schema that rows have in a table.

    Raises
    ------
    TopologyError
        A column has a type that Delta Lake does not have.
    """
    made = []
    for field in fields:
        type_ = _delta_type(field.type)
        if type_ is None:
            raise TopologyError(
                f"{what}: Delta Lake has no type for column {field.name!r}, {field.type}",
                remedy=f"cast it before the sink, to text or a whole number: with_columns({field.name}=col({field.name!r}).cast(...))",
            )
        made.append(pa.field(field.name, type_))
    return pa.schema(made)


def check_rows(table: Any, rows: pa.Schema, doing: str) -> None:
    """Refuse a table that does not take rows of these columns.

    Raises
    ------
    ConnectorError
        Names the column.
    """
    found = schema_of(table)
    for field in rows:
        if field.name not in found.names:
            raise ConnectorError(f"{doing}: it has no column {field.name!r}", remedy="add it to the table, or leave it out before the sink")
        if found.field(field.name).type != field.type:
            raise ConnectorError(
                f"{doing}: its column {field.name!r} is {found.field(field.name).type}, and the stream's {field.type}",
                remedy="cast it before the sink",
            )
    needed = [field.name for field in found if not field.nullable and field.name not in rows.names]
    if needed:
        raise ConnectorError(
            f"{doing}: its column {needed[0]!r} may not be null, and the stream does not have it", remedy="add it before the sink"
        )


def _plain(type_: pa.DataType) -> pa.DataType:
    """Return a type as the sink has it: views and large ones are ways to hold the same."""
    return _delta_type(type_) or type_


def _delta_type(type_: pa.DataType) -> pa.DataType | None:
    kind = pa.types
    if type_ in _UNSIGNED:
        return _UNSIGNED[type_]
    if kind.is_timestamp(type_):
        # Of nanoseconds only whole microseconds fit: rows with others are refused one by one.
        return pa.timestamp("us", "UTC" if type_.tz else None)
    if kind.is_float16(type_):
        return pa.float32()
    if kind.is_large_string(type_) or kind.is_string(type_) or type_ == pa.string_view():
        return pa.string()
    if kind.is_large_binary(type_) or kind.is_binary(type_) or type_ == pa.binary_view():
        return pa.binary()
    if kind.is_list(type_) or kind.is_large_list(type_):
        item = _delta_type(type_.value_type)
        return None if item is None else pa.list_(item)
    if kind.is_struct(type_):
        fields = [(field.name, _delta_type(field.type)) for field in type_]
        return None if any(found is None for _, found in fields) else pa.struct(fields)
    if kind.is_map(type_):
        key, item = _delta_type(type_.key_type), _delta_type(type_.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    same = kind.is_boolean(type_) or kind.is_signed_integer(type_) or kind.is_floating(type_) or kind.is_date32(type_)
    return type_ if same or kind.is_decimal128(type_) else None
