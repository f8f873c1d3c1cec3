"""Blocks of text to columns, bad records apart.

pyarrow decodes whole blocks and has the last word on what is a good record. Only when a block fails, a Python look at
each record finds the likely culprits and says what is wrong with them in words of the user. Plain JSON does not even come
here: `FlatReader` reads it, and what it leaves is a block of its own.
"""

from __future__ import annotations

import base64
import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from streamdsl._native.flow.native_rows import NativeRows
from streamdsl.errors import ConnectorError
from streamdsl.formats.conform import bounds_of, empty_rows, floored, rows_of
from streamdsl.formats.cutter import split_csv, split_lines
from streamdsl.formats.flat_json import FlatReader
from streamdsl.formats.json_values import NOT_FINITE, Digits, value_of
from streamdsl.formats.times import moments_of, say_naive
from streamdsl.formats.units import FirstNumbers
from streamdsl.schema import Field

_SHOWN: Final = 80
_SEVERAL: Final = re.compile(rb"\}[ \t\r]*\{")
#: The escape of a code unit that means nothing without its other half.
_HALF_PAIR: Final = re.compile(r"(?i)\\u(?:d[89ab]..(?!\\ud[c-f])|d[c-f]..(?<!\\ud[89ab]..\\u....))")
_BLANKS: Final = b" \t\r\n"
#: A group that fails is decoded in so many parts: if all of its records are bad, the groups cost little beside the records.
_PARTS: Final = 16


class Undecodable(Exception):
    """The block holds something that is not a record of the schema."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Record `index` of a block, in front of its good row `before_row`."""

    index: int
    before_row: int
    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The good rows of a block, their record numbers (None: 0, 1, 2, …) and the bad records."""

    rows: pa.RecordBatch | NativeRows
    records: int
    kept: list[int] | None = None
    bad: tuple[BadRecord, ...] = ()


class TextDecoder(ABC):
    """Decodes the columns `fields` out of blocks of whole records."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.required = [field.name for field in fields if field.required]

    @abstractmethod
    def decode(self, block: bytes, *, looked_at: bool = False) -> pa.RecordBatch:
        """Return the rows of `block`; raise `Undecodable` if not every record is good.

        `looked_at`: each of its lines is one record that had no complaint.
        """

    @abstractmethod
    def split(self, block: bytes) -> list[bytes]:
        """Return the records of `block`."""

    @abstractmethod
    def complaint(self, text: str) -> tuple[str, bool]:
        """Return what seems wrong with a record ("" if nothing), and whether that is certain."""

    def decode_block(self, block: bytes) -> Decoded:
        """Return the good rows and the bad records of `block`."""
        try:
            if not _is_utf8(block):
                raise Undecodable("invalid UTF-8")
            rows = self.decode(block)
        except Undecodable:
            return self._decode_apart(block)
        if any(rows.column(name).null_count for name in self.required):
            return self._decode_apart(block)
        return Decoded(rows, rows.num_rows)

    def _decode_apart(self, block: bytes) -> Decoded:
        return self.decode_each(self.split(block))

    def decode_each(self, records: list[bytes]) -> Decoded:
        """Return the good rows and the bad ones of `records`, of which none has a line end."""
        bad: dict[int, str] = {}
        for index, record in enumerate(records):
            reason, certain = self._complaint(record)
            # The decoder has the last word, so that what is bad does not depend on the neighbours.
            if reason and (certain or not self._is_good(record)):
                bad[index] = reason
        kept: list[int] = []
        parts = self._decode_good(records, [i for i in range(len(records)) if i not in bad], kept, bad)
        rows = pa.Table.from_batches(parts).combine_chunks().to_batches() if parts else []
        batch = rows[0] if rows else empty_rows(self.fields)
        batch, kept = self._without_nulls(batch, kept, bad)
        return Decoded(batch, len(records), kept, tuple(_in_order(records, kept, bad)))

    def _complaint(self, record: bytes) -> tuple[str, bool]:
        try:
            return self.complaint(record.decode("utf-8"))
        except UnicodeDecodeError as error:
            return f"invalid UTF-8 at byte {error.start}", True

    def _is_good(self, record: bytes) -> bool:
        try:
            rows = self.decode(record, looked_at=True)
        except Undecodable:
            return False
        return rows.num_rows == 1 and not any(rows.column(name).null_count for name in self.required)

    def _decode_good(self, records: list[bytes], indices: list[int], kept: list[int], bad: dict[int, str]) -> list[pa.RecordBatch]:
        if not indices:
            return []
        try:
            rows = self.decode(b"\n".join([*(records[i] for i in indices), b""]), looked_at=True)
            if rows.num_rows != len(indices):
                raise Undecodable("not one record")
        except Undecodable as error:
            if len(indices) == 1:
                bad[indices[0]] = str(error)
                return []
            size = -(-len(indices) // _PARTS)
            parts = [indices[first : first + size] for first in range(0, len(indices), size)]
            return [rows for part in parts for rows in self._decode_good(records, part, kept, bad)]
        kept.extend(indices)
        return [rows]

    def _without_nulls(self, rows: pa.RecordBatch, kept: list[int], bad: dict[int, str]) -> tuple[pa.RecordBatch, list[int]]:
        mask = None
        for name in self.required:
            column = rows.column(name)
            if column.null_count:
                nulls = column.is_null()
                for row in pc.indices_nonzero(nulls).to_pylist():
                    bad.setdefault(kept[row], f"field {name!r} is missing, but must not be null")
                mask = nulls if mask is None else pc.or_(mask, nulls)
        if mask is None:
            return rows, kept
        keep = pc.invert(mask)
        return rows.filter(keep), [index for index, good in zip(kept, keep.to_pylist(), strict=True) if good]


def _merged(records: list[bytes], rows: pa.RecordBatch, odd: list[int], rest: Decoded) -> Decoded:
    """Return `rows` of the records that are not `odd`, and what came of those that are, in the order of the records."""
    apart = set(odd)
    kept = [index for index in range(len(records)) if index not in apart]
    if rest.rows.num_rows:
        both = kept + (odd if rest.kept is None else [odd[index] for index in rest.kept])
        order = sorted(range(len(both)), key=both.__getitem__)
        rows = pa.Table.from_batches([rows, rest.rows]).take(pa.array(order, pa.int64())).combine_chunks().to_batches()[0]
        kept = [both[place] for place in order]
    if not rest.bad:
        return Decoded(rows, len(records))
    bad = {odd[record.index]: record.reason for record in rest.bad}
    return Decoded(rows, len(records), kept, tuple(_in_order(records, kept, bad)))


def _in_order(records: list[bytes], kept: list[int], bad: dict[int, str]) -> list[BadRecord]:
    result = []
    row = 0
    for index in sorted(bad):
        while row < len(kept) and kept[row] < index:
            row += 1
        result.append(BadRecord(index, row, records[index], bad[index]))
    return result


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_by_text(type_: pa.DataType) -> bool:
    """Whether values are written as text, which pyarrow's readers read otherwise than it is meant, or not at all."""
    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_) or pa.types.is_decimal(type_) or _is_bytes(type_))


def _decoding_type(type_: pa.DataType) -> pa.DataType:
    """Return the type that pyarrow decodes a column as."""
    if pa.types.is_duration(type_):
        return pa.int64()  # a whole number of its unit
    return pa.string() if _is_by_text(type_) else type_


def _typed(column: pa.Array, field: Field, where: str) -> pa.Array:
    """Return a column as its type; raises `pyarrow.ArrowInvalid` for a text that is no value."""
    if column.type != pa.string() or not _is_by_text(field.type):
        return floored(column, field.type)
    if pa.types.is_timestamp(field.type):
        moments, naive = moments_of(column, field.type)
        if naive and field.type.tz is not None:
            say_naive(field.name, where)
        return moments
    if _is_bytes(field.type):
        try:
            decoded = [None if text is None else base64.b64decode(text, validate=True) for text in column.to_pylist()]
        except ValueError as error:
            raise pa.ArrowInvalid(f"not base64: {error}") from None
        return pa.array(decoded, field.type)
    return floored(column, field.type)


class JsonLines(TextDecoder):
    """One JSON object a line; keys that are not asked for are ignored, missing ones are null."""

    def __init__(self, fields: Sequence[Field], where: str) -> None:
        super().__init__(fields)
        self._parse = pa_json.ParseOptions(
            explicit_schema=pa.schema([(field.name, _decoding_type(field.type)) for field in fields]),
            unexpected_field_behavior="ignore",
        )
        self._flat = FlatReader(self.fields) if FlatReader.can_read(self.fields) else None
        self._checks = [(field, *_json_check(field.type)) for field in self.fields]
        self._first_numbers = FirstNumbers(self.fields, where)
        # What stands inside a list or struct as text is read by Python: pyarrow would take it for something else.
        self._by_python = any(pa.types.is_nested(field.type) for field in self.fields)

    def decode_block(self, block: bytes) -> Decoded:
        """Return the good rows and the bad records of `block`."""
        return super().decode_block(block) if self._flat is None else self.decode_records(self.split(block))

    def decode_records(self, records: list[bytes], *, native: bool = False) -> Decoded:
        """Return the good rows and the bad ones of `records`; the rows may be `NativeRows` where the caller takes them."""
        if self._flat is None:
            return self._decode_records(records)
        rows, odd = self._flat.read(records)
        if isinstance(rows, NativeRows) and (odd or not native):
            rows = rows.to_arrow()
        if not odd:
            return Decoded(rows, len(records))
        return _merged(records, rows, odd, self._decode_records([records[index] for index in odd]))

    def _decode_records(self, records: list[bytes]) -> Decoded:
        rows = self._decode_plain(records)
        if rows is not None:
            return Decoded(rows, len(records))
        # A line end between tokens is a blank as good as another; within a text no control character is allowed.
        return self.decode_each([record.strip(_BLANKS).replace(b"\n", b"\t") for record in records])

    def _decode_plain(self, records: list[bytes]) -> pa.RecordBatch | None:
        """Return the rows of `records` if all are good and each is one line; None if they have to be looked at one by one."""
        block = b"\n".join(records)
        if block.count(b"\n") != len(records) - 1 or not _is_utf8(block):
            return None
        try:
            rows = self.decode(block)
        except Undecodable:
            return None
        if rows.num_rows != len(records) or any(rows.column(name).null_count for name in self.required):
            return None
        return rows

    def decode(self, block: bytes, *, looked_at: bool = False) -> pa.RecordBatch:
        """Decode lines that all begin with a brace."""
        # pyarrow takes several objects on a line, or one on several lines; and a bare `null` crashes it.
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        if block.startswith(b"{") + block.count(b"\n{") != lines or (not looked_at and _SEVERAL.search(block)):
            raise Undecodable("a line is not a JSON object")
        if self._by_python:
            return self._decode_by_python(block, lines)
        read = pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        try:
            table = pa_json.read_json(pa.BufferReader(block), read, self._parse)
            if table.num_rows != lines:
                raise Undecodable("not one JSON object a line")
            columns = [_one(table, field.name) for field in self.fields]
            for field, column in zip(self.fields, columns, strict=True):
                self._first_numbers.look_at_texts(field.name, column)
            return rows_of([_typed(column, f, "JSON") for f, column in zip(self.fields, columns, strict=True)], self.fields, lines)
        except pa.ArrowInvalid:
            # Numbers where pyarrow wants text: times in their unit, decimals.
            return self._decode_by_python(block, lines)

    def _once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            if any(names.count(field.name) > 1 for field in self.fields):
                raise ValueError("a field is given twice")
        return found

    def _decode_by_python(self, block: bytes, lines: int) -> pa.RecordBatch:
        try:
            text = block.decode("utf-8")
            if _HALF_PAIR.search(text.replace("\\\\", "..")):
                raise Undecodable("a text has half of a surrogate pair")
            records = [json.loads(line, parse_float=Digits, object_pairs_hook=self._once) for line in text.split("\n") if line]
            if len(records) != lines or not all(isinstance(record, dict) for record in records):
                raise Undecodable("not one JSON object a line")
            columns = []
            for field in self.fields:
                values = [record.get(field.name) for record in records]
                self._first_numbers.look_at_values(field.name, values)
                columns.append(pa.array([value_of(value, field.type) for value in values], field.type))
            return rows_of(columns, self.fields, lines)
        except (ValueError, RecursionError, OverflowError, pa.ArrowException) as error:
            raise Undecodable(str(error)) from None

    def split(self, block: bytes) -> list[bytes]:
        """Return the lines that are not blank."""
        return split_lines(block)

    def complaint(self, text: str) -> tuple[str, bool]:
        """Look at the record as Python sees it."""
        if not text.startswith("{"):
            return f"not a JSON object: {_short(text)}", True
        members: list[tuple[str, Any]] = []

        def one_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal members
            members = pairs  # the outermost object comes last
            return dict(pairs)

        try:
            value = json.loads(text, parse_float=Digits, object_pairs_hook=one_object)
        except json.JSONDecodeError as error:
            # pyarrow takes more of these than Python does, and stops at a NUL.
            return f"not valid JSON: {error}", not any(word in text for word in ("Inf", "NaN", "\0"))
        except (ValueError, RecursionError) as error:
            return f"not valid JSON: {error}", False
        for field, fits, certain in self._checks:
            item = value.get(field.name)
            if item is None:
                if field.required:
                    return f"field {field.name!r} is {'null' if field.name in value else 'missing'}", True
            elif not fits(item):
                return f"field {field.name!r}: {_short(item)} is not {field.type}", certain
        if len(value) < len(members):
            names = [name for name, _ in members]
            for field in self.fields:
                if names.count(field.name) > 1:
                    return f"field {field.name!r} is given twice", True
        if _HALF_PAIR.search(text.replace("\\\\", "..")):
            return "a text has half of a surrogate pair", True
        return "", False


class Csv(TextDecoder):
    """Values under a header, with `delimiter` between them. An empty field is null, or the empty string where null is not allowed."""

    def __init__(self, fields: Sequence[Field], header: Sequence[str], path: str, delimiter: str = ",") -> None:
        super().__init__(fields)
        self._header = list(header)
        self._delimiter = delimiter
        self._first_numbers = FirstNumbers(self.fields, path)
        for field in fields:
            if pa.types.is_nested(field.type):
                raise ConnectorError(
                    f"{path}: CSV cannot hold column {field.name!r} of type {field.type}",
                    remedy="use JSON lines, Parquet or Arrow for nested columns, or declare it as a string",
                )
        self._names = [field.name for field in fields if field.name in self._header]
        # In a file of one column that is how a null is written; where none may be, blank lines are nothing.
        self._blank_is_null = len(self._header) == 1 and all(field.nullable or field.default is not None for field in fields)
        self._convert = pa_csv.ConvertOptions(
            column_types={f.name: _decoding_type(f.type) for f in fields},
            # Without any column asked for, pyarrow would convert all: one is needed to count the rows.
            include_columns=[field.name for field in fields] or self._header[:1],
            include_missing_columns=True,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def decode(self, block: bytes, *, looked_at: bool = False) -> pa.RecordBatch:
        """Decode records that have as many fields as the header."""
        read = pa_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=self._header)
        parse = pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=b'"' in block, ignore_empty_lines=not self._blank_is_null)
        try:
            table = pa_csv.read_csv(pa.BufferReader(block), read, parse, self._convert)
            columns = [self._column(_one(table, field.name), field) for field in self.fields]
            return rows_of(columns, self.fields, table.num_rows)
        except pa.ArrowInvalid as error:
            raise Undecodable(str(error)) from None

    def _column(self, column: pa.Array, field: Field) -> pa.Array:
        if field.required and column.null_count and _is_text(field.type):
            column = column.fill_null("")
        if pa.types.is_timestamp(field.type):
            self._first_numbers.look_at_texts(field.name, column)
        return _typed(column, field, "CSV")

    def split(self, block: bytes) -> list[bytes]:
        """Return the records; line ends between quotes belong to them."""
        return split_csv(block, self._delimiter.encode(), blank_too=self._blank_is_null)

    def complaint(self, text: str) -> tuple[str, bool]:
        """Look at the record as Python sees it."""
        try:
            values = next(csv.reader([text], delimiter=self._delimiter, strict=False), []) or [""]
        except csv.Error as error:
            return f"not valid CSV: {error}", False
        if len(values) != len(self._header):
            return f"{len(values)} fields where the header has {len(self._header)}", False
        for field in self.fields:
            if field.name not in self._names:
                continue
            value = values[self._header.index(field.name)]
            if not value:
                if field.required and not _is_text(field.type):
                    return f"field {field.name!r} is empty", False
            elif not _text_fits(value, field.type):
                return f"field {field.name!r}: {_short(value)} is not {field.type}", False
        return "", False


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or _is_bytes(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _json_check(type_: pa.DataType) -> tuple[Callable[[Any], bool], bool]:
    """Return what tells whether a value may be of `type_`, and whether pyarrow is sure to refuse those that may not."""
    if pa.types.is_boolean(type_):
        return lambda value: isinstance(value, bool), True
    if pa.types.is_integer(type_):
        least, most = bounds_of(type_)
        return lambda value: type(value) is int and least <= value <= most, True
    if pa.types.is_duration(type_):
        return lambda value: _is_value(value, type_), True
    if pa.types.is_floating(type_):
        return lambda value: type(value) in (int, float, Digits) or (type(value) is str and value in NOT_FINITE), True
    if _is_by_text(type_) or pa.types.is_nested(type_):
        return lambda value: _is_value(value, type_), True
    if _is_text(type_):
        return lambda value: isinstance(value, str), True
    return lambda _: True, False


def _is_value(value: Any, type_: pa.DataType) -> bool:
    try:
        pa.array([value_of(value, type_)], type_)
    except (ValueError, OverflowError, RecursionError, pa.ArrowException):
        return False
    return True


def _text_fits(value: str, type_: pa.DataType) -> bool:
    try:
        if pa.types.is_integer(type_):
            least, most = bounds_of(type_)
            return least <= int(value) <= most
        if pa.types.is_duration(type_):
            return _text_fits(value, pa.int64())
        if pa.types.is_floating(type_):
            float(value)
        elif pa.types.is_boolean(type_):
            return value.lower() in ("true", "false", "1", "0")
        elif _is_by_text(type_):
            _typed(pa.array([value]), Field("", type_), "")
    except (ValueError, pa.ArrowInvalid):
        return False
    return True
