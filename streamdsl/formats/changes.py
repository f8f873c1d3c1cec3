"""Changes of tables to rows: change events of Debezium, and records that take a key's row away."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.serdes.change_events import payload_of, row_of_event
from streamdsl.formats.conform import arrow_schema
from streamdsl.formats.cutter import split_lines
from streamdsl.formats.decode import BadRecord, Decoded, JsonLines, TextDecoder
from streamdsl.schema import Field

__all__ = ["REMOVED", "ChangeEvents", "Removals", "key_row", "row_of_key"]

#: The column that says whether a record takes its key's row away.
REMOVED: Final = "_deleted"
#: What the letters of an event mean: a row is there now (created, updated, read by a snapshot), or it is gone.
_PUT: Final = frozenset("cur")
_OTHERS: Final = {
    "t": "a truncate event: it names no rows; delete them by their keys",
    "m": "a message event: it is about no row",
    "null": "the payload is null (a tombstone), and nothing else says which key it is of",
}


class Removals:
    """Rows that take the row of their key away, out of JSON objects that hold the key.

    Of the other columns only the event time means anything. Where an object has none it is that of the record before. All other
    columns are filled with something of their type: whoever looks at such a row looks at its key.
    """

    def __init__(self, fields: Sequence[Field], keys: Sequence[str], time: str | None, where: str) -> None:
        self._fields = tuple(fields)
        self._keys = tuple(keys)
        self._time = time
        read = [field if field.name in keys else _nullable(field) for field in fields if field.name in keys or field.name == time]
        self._lines = JsonLines(read, where)
        types = [field.type for field in fields if field.name in keys]
        self._text = len(keys) == 1 and all(pa.types.is_string(type_) for type_ in types)
        self._last: pa.Scalar | None = None  # the event time of the last row

    def key_row(self, key: bytes | None) -> bytes | str:
        """Return the key of a tombstone as an object; a text says why it is none."""
        return key_row(key, self._keys, text_column=self._text)

    def row_of(self, key: Any) -> bytes | str:
        """Return the key of a tombstone that was read already as an object; a text says why it is none."""
        return row_of_key(key, self._keys)

    def decode(self, texts: list[bytes]) -> Decoded:
        """Return the rows of objects, one each."""
        found = self._lines.decode_records(texts)
        count = found.rows.num_rows
        names = found.rows.schema.names
        columns = [found.rows.column(one.name) if one.name in names else _filler(one.type, count) for one in self._fields]
        rows = pa.RecordBatch.from_arrays(columns, schema=arrow_schema(self._fields))
        return replace(found, rows=rows)

    def timed(self, rows: pa.RecordBatch, removed: Sequence[bool]) -> pa.RecordBatch:
        """Return rows in which removals without event time have that of the row before. `removed`: which are removals."""
        if self._time is None or self._time not in rows.schema.names or not rows.num_rows:
            return rows
        at = rows.schema.names.index(self._time)
        column = rows.column(at)
        if column.null_count:
            values = column.to_pylist()
            last = None if self._last is None else self._last.as_py()
            for place, value in enumerate(values):
                if value is None and removed[place]:
                    values[place] = _filler(column.type, 1)[0].as_py() if last is None else last
                last = values[place] if values[place] is not None else last
            column = pa.array(values, column.type)
            rows = rows.set_column(at, rows.schema.field(at), column)
        self._last = column[len(column) - 1]
        return rows


class ChangeEvents(TextDecoder):
    """Change events in JSON, bare or in the envelope with their schema, one a record. `fields` are those of the rows, and `REMOVED`."""

    def __init__(self, fields: Sequence[Field], keys: Sequence[str], time: str | None, where: str) -> None:
        super().__init__(fields)
        self._order = [field.name for field in fields]
        own = [field for field in fields if field.name != REMOVED]
        self._rows = JsonLines(own, where)
        self._removals = Removals(own, keys, time, where)

    def decode_block(self, block: bytes) -> Decoded:
        """Return the good rows and the bad records of `block`."""
        return self.decode_records(self.split(block))

    def decode_records(self, records: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None) -> Decoded:
        """Return the rows of events; None is a tombstone, which is of the key that stands beside it in `keys`."""
        bad: dict[int, str] = {}
        puts: dict[int, bytes] = {}
        removals: dict[int, bytes] = {}
        for index, record in enumerate(records):
            what, row = ("null", None) if record is None else row_of_event(record)
            if what in _PUT and isinstance(row, bytes):
                puts[index] = row
            elif what == "d" and isinstance(row, bytes):
                removals[index] = row
            elif what in ("d", "null") and keys is not None:
                key = self._removals.key_row(keys[index])
                if isinstance(key, str):
                    bad[index] = key
                else:
                    removals[index] = key
            elif what == "":
                bad[index] = str(row)
            elif what in _PUT:
                bad[index] = f"an event of op {what!r} without a row after it"
            else:
                bad[index] = _OTHERS.get(what, f"an event of op {what!r} without a row" if what == "d" else f"op {what!r} is unknown")
        return united(
            [b"" if record is None else record for record in records], (self._rows, puts), (self._removals, removals), bad, self._order
        )

    def decode(self, block: bytes, *, looked_at: bool = False) -> pa.RecordBatch:
        """Is not called: records are decoded one by one."""
        raise NotImplementedError

    def split(self, block: bytes) -> list[bytes]:
        """Return the lines that are not blank."""
        return split_lines(block)

    def complaint(self, text: str) -> tuple[str, bool]:
        """Is not called, as `decode`."""
        raise NotImplementedError


def united(
    records: list[bytes],
    puts: tuple[JsonLines, Mapping[int, bytes]],
    removals: tuple[Removals, Mapping[int, bytes]],
    bad: dict[int, str],
    order: Sequence[str],
) -> Decoded:
    """Return the rows that stand in `records` by number, some to be put in and some to be taken out, in the order of the records."""
    parts = []
    numbers: list[int] = []
    gone: list[bool] = []
    for decoder, rows in (puts, removals):
        if not rows:
            continue
        places = list(rows)
        texts = list(rows.values())
        found = decoder.decode(texts) if isinstance(decoder, Removals) else decoder.decode_records(texts)
        bad.update({places[one.index]: one.reason for one in found.bad})
        kept = places if found.kept is None else [places[index] for index in found.kept]
        numbers += kept
        gone += [isinstance(decoder, Removals)] * len(kept)
        parts.append(found.rows)
    return ordered(records, parts, numbers, gone, bad, removals[0], order, rest=False)


def ordered(
    records: list[bytes],
    parts: list[pa.RecordBatch],
    numbers: list[int],
    gone: list[bool],
    bad: dict[int, str],
    removals: Removals,
    order: Sequence[str],
    *,
    rest: bool | None,
) -> Decoded:
    """Return the rows of `parts`, which are of the records `numbers`, in the order of these.

    `gone`: those that are removals. `rest` is what `REMOVED` says of others.
    """
    fields = arrow_schema(removals._fields)
    table = pa.Table.from_batches(parts, schema=fields)
    places = sorted(range(len(numbers)), key=numbers.__getitem__)
    taken = table.take(pa.array(places, pa.int64())).combine_chunks().to_batches()
    rows = taken[0] if taken else pa.RecordBatch.from_pylist([], schema=fields)
    removed = [gone[place] for place in places]
    rows = removals.timed(rows, removed)
    if REMOVED in order:
        rows = rows.append_column(REMOVED, pa.array([one or rest for one in removed], pa.bool_()))
    kept = [numbers[place] for place in places]
    wrong = []
    row = 0
    for index in sorted(bad):
        while row < len(kept) and kept[row] < index:
            row += 1
        wrong.append(BadRecord(index, row, records[index], bad[index]))
    return Decoded(rows.select(list(order)), len(records), kept, tuple(wrong))


def key_row(key: bytes | None, names: Sequence[str], *, text_column: bool = False) -> bytes | str:
    """Return a record's key as a JSON object of the columns `names`; a text says why it is none.

    A key is a JSON object, bare or in an envelope, or of one column its value in JSON. Of one `text_column` what is no object with
    that member is the text itself.
    """
    if key is None:
        return "a tombstone without a key"
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        return "the key of the tombstone is not UTF-8"
    if text.startswith("\0"):
        # As a text it would be the key of no row, and the tombstone would take nothing away.
        return "the key of the tombstone begins with a zero byte: it is neither JSON nor text; keys of a schema registry need registry="
    try:
        value = json.loads(payload_of(key) if text.startswith("{") else text)
    except (ValueError, RecursionError):
        value = text
    if text_column and not (isinstance(value, dict) and (names[0] in value or len(value) == 1)):
        value = text
    return row_of_key(value, names)


def row_of_key(value: Any, names: Sequence[str]) -> bytes | str:
    """Return what a key holds as a JSON object of the columns `names`; a text says why it is none."""
    if isinstance(value, dict):
        missing = [name for name in names if name not in value]
        if not missing:
            return _json({name: value[name] for name in names})
        if len(names) == len(value) == 1:
            return _json({names[0]: next(iter(value.values()))})
        return f"the key of the tombstone has no {', '.join(missing)}"
    if len(names) != 1:
        return f"the key of the tombstone is not an object with {', '.join(names)}"
    return _json({names[0]: value})


def _json(row: Mapping[str, Any]) -> bytes | str:
    try:
        return json.dumps(row, default=_text_of).encode()
    except RecursionError:
        return "the key of the tombstone nests too deep"


def _text_of(value: Any) -> str:
    """Return what JSON has no word for as the JSON reader takes it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _nullable(field: Field) -> Field:
    return Field(field.name, field.type, nullable=True)


def _filler(type_: pa.DataType, count: int) -> pa.Array:
    """Return something of a type, over and over."""
    value: Any = None
    if pa.types.is_boolean(type_):
        value = False
    elif pa.types.is_integer(type_) or pa.types.is_floating(type_):
        value = 0
    elif pa.types.is_string(type_) or pa.types.is_large_string(type_):
        value = ""
    elif pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        value = b""
    elif pa.types.is_decimal(type_):
        value = Decimal(0)
    elif pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_map(type_):
        value = []
    elif pa.types.is_struct(type_):
        value = {}
    elif pa.types.is_date32(type_):
        return pa.array([0] * count, pa.int32()).cast(type_)
    elif pa.types.is_temporal(type_):
        return pa.array([0] * count, pa.int64()).cast(type_)
    return pa.array([value] * count, type_)
