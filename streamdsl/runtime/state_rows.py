"""Stored rows of keyed state back to rows for people: by the operator that has written them, outside of the task that runs it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.flow.convert import to_canonical
from streamdsl._native.state.store import RowLoader, StateStore
from streamdsl.errors import DataError, StateError, StreamError
from streamdsl.physical import node
from streamdsl.physical.kinds import kind_of
from streamdsl.physical.views import READABLE
from streamdsl.runtime.chain import Chain
from streamdsl.runtime.operators import build_operator
from streamdsl.schema import Schema, nearest

__all__ = ["RowReader", "key_bytes", "readable"]

#: Rows that are taken apart at a time.
_ROWS: Final = 1000
_TAGS: Final = {"bool": 1, "i64": 2, "u64": 3, "f64": 4, "str": 5, "dec": 6}
_PACKED: Final = {"i64": ">q", "u64": ">Q", "f64": ">d"}

Stored = tuple[bytes, bytes]


def readable(plan: node.PhysicalPlan) -> dict[str, tuple[node.Stage, int]]:
    """Return where the operators stand whose state can be read, by name."""
    return {
        operator.name: (stage, at) for stage in plan.stages for at, operator in enumerate(stage.operators) if isinstance(operator, READABLE)
    }


def resolved(name: str, known: Iterable[str], what: str = "the topology") -> str:
    """Return the one state that `name` means: an operator's own, a table's, or that of an operator made of verbs."""
    names = sorted(known)
    if name in names:
        return name
    inside = [other for other in names if other == f"table.{name}" or other.startswith(f"{name}.")]
    if len(inside) == 1:
        return inside[0]
    near = nearest(name, names)
    meant = f"; did you mean {near!r}?" if near else ""
    raise StreamError(f"{what} has no table {name!r}", remedy=f"tables: {', '.join(names) or 'none'}{meant}")


def key_bytes(name: str, schema: Schema, key: Any) -> bytes | None:
    """Return a key as it is stored; None: a part of it is null, and so no row can have it.

    Raises
    ------
    DataError
        The key does not fit the columns.
    """
    fields = schema.fields
    parts = (key,) if len(fields) == 1 else tuple(key.values()) if isinstance(key, Mapping) else key
    if len(fields) == 1 and isinstance(key, Mapping) and set(key) == {fields[0].name}:
        parts = tuple(key.values())
    elif len(fields) != 1 and isinstance(key, Mapping):
        parts = tuple(key.get(field.name) for field in fields)
    if not isinstance(parts, (tuple, list)) or len(parts) != len(fields):
        columns = ", ".join(str(field) for field in fields)
        raise DataError(f"{key!r} is not a key of {name!r}", remedy=f"its key has the columns {columns}: give a tuple of {len(fields)}")
    encoded = []
    for field, part in zip(fields, parts, strict=True):
        try:
            array = pa.array([part], type=field.type)
            value = to_canonical(pa.record_batch([array], names=[field.name]), [field.type]).column(0)[0].as_py()
        except (pa.ArrowException, DataError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{part!r} is not a {field.type}, which {field.name!r} in the key of {name!r} is") from error
        if value is None:
            return None
        encoded.append((kind_of(field.type), value))
    if [kind for kind, _ in encoded] == ["str"]:
        return _bytes(encoded[0][1])
    return b"".join(_component(kind, value) for kind, value in encoded)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def _component(kind: str, value: Any) -> bytes:
    """See `key_encode.pyx`."""
    tag = bytes([_TAGS[kind]])
    if kind == "bool":
        return tag + bytes([value])
    if kind == "str":
        data = _bytes(value)
        return tag + struct.pack("=I", len(data)) + data
    if kind == "dec":
        sign, digits, _ = value.as_tuple()
        unscaled = int("".join(map(str, digits)))
        return tag + (-unscaled if sign else unscaled).to_bytes(16, "big", signed=True)
    if kind == "f64":
        value = 0.0 if value == 0 else float("nan") if math.isnan(value) else value
    return tag + struct.pack(_PACKED[kind], value)


class RowReader:
    """Reads the stored rows of one operator.

    Parameters
    ----------
    shards : int
        S of the job.
    operators : sequence of PhysicalOperator
        The lookup, those whose table it shares, and the operator, in their places; others may be missing.
    at : int
        The operator's place.
    """

    def __init__(self, shards: int, operators: Any, at: int) -> None:
        self.spec = operators[at]
        self.name: str = self.spec.name
        self.key_schema: Schema = self.spec.key_schema
        self._chain = Chain(shards, list(range(shards)), lambda: StateStore("reading", shards), Clock())
        self._chain.built.extend(None for _ in operators)
        self._build(operators, self.spec.lookup)
        self._operator = self._build(operators, at)
        self._store = self._chain.store
        described = self._store.describe()["tables"]
        self._table, self._field = next(
            (table, field) for table in described if table["kind"] == "rows" for field in table["fields"] if field["name"] == self.name
        )
        self._width = len(self._table["fields"])

    def _build(self, operators: Any, at: int) -> Any:
        spec = operators[at]
        shares = getattr(spec, "shares", -1)
        if shares >= 0:
            self._build(operators, shares)
        built = self._chain.built[at] = build_operator(spec, self._chain)
        lookup = getattr(spec, "lookup", -1)
        self._chain.add(built, spec.name, self._chain.built[lookup] if lookup >= 0 else None)
        return built

    def close(self) -> None:
        """Let go of the operator."""
        self._operator.close() if hasattr(self._operator, "close") else None
        self._store.close()

    def place(self, description: Mapping[str, Any], where: str) -> tuple[int, int, int] | None:
        """Return the id of the operator's table in a store that describes itself so, its field there, and the fields of a row.

        Raises
        ------
        StateError
            The state has another form than the operator's.
        """
        for table in description["tables"]:
            for field in table["fields"]:
                if table["kind"] == "rows" and field["name"] == self.name:
                    stored, own = (field["layout"], table["key"]), (self._field["layout"], self._table["key"])
                    if stored != own:
                        raise StateError(
                            f"{where} holds the state of {self.name!r} in another form: {' by '.join(stored)}, not {' by '.join(own)}",
                            remedy="name the topology that has written it",
                        )
                    return table["id"], field["id"], len(table["fields"])
        return None

    def rows(self, stored: Iterable[Stored], place: tuple[int, int, int]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield (key, row) of stored rows; of a window operator a row for each open window."""
        table, field, width = place
        loader = RowLoader(self._store, {table: [(self._table["id"], {field: self._field["id"]})]}, {table: width})
        pairs = iter(stored)
        while chunk := list(islice(pairs, _ROWS)):
            loader.load(chunk, lambda: False)
            try:
                shown = self._operator.state()
            finally:
                self._store.close()
            for key, value in shown.items():
                for row in value if isinstance(value, list) else [value]:
                    yield key, self._row(key, row)

    def _row(self, key: Any, value: Any) -> dict[str, Any]:
        names = self.key_schema.names
        parts = dict(zip(names, (key,) if len(names) == 1 else key, strict=True))
        return {**parts, **(value if isinstance(value, dict) else {"time": value})}

    @property
    def schema(self) -> pa.Schema | None:
        """Columns and types of the rows, where they are declared; those of a Processor's states follow from what they hold."""
        spec = self.spec
        if isinstance(spec, node.PhysicalTable | node.PhysicalAggregate | node.PhysicalWindowAggregate):
            return spec.schema.visible().to_arrow()
        keys = list(self.key_schema.to_arrow())
        if isinstance(spec, node.PhysicalReduce) and spec.window is None:
            seen = set(self.key_schema.names)
            return pa.schema([*keys, *[field for field in spec.input_schema.visible().to_arrow() if field.name not in seen]])
        if isinstance(spec, node.PhysicalFrame):
            return pa.schema([*keys, *[pa.field(one.name, one.output_type) for one in spec.aggregates]])
        if isinstance(spec, node.PhysicalDeduplicate):
            return pa.schema([*keys, pa.field("time", pa.int64())])
        return None
