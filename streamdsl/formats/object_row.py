"""One row out of a JSON object, or of named texts: what look-ups are answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from streamdsl.formats.json_values import Digits, value_of
from streamdsl.schema import Field, Schema

__all__ = ["row_of_json", "row_of_texts"]


def row_of_json(raw: bytes, schema: Schema) -> dict[str, Any]:
    """Return the columns of a JSON object; those it does not have are null, and what it has beside them is left out.

    Raises
    ------
    ValueError
        It is no object, or a value is none of its column's type.
    """
    try:
        found = json.loads(raw, parse_float=Digits)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it is no JSON object: {raw[:80].decode('utf-8', 'replace')!r}")
    return {field.name: _value(field, found.get(field.name)) for field in schema.fields}


def row_of_texts(found: Mapping[bytes, bytes], schema: Schema) -> dict[str, Any]:
    """Return the columns of texts by name: text and bytes as they are, lists and structs as JSON, all else as JSON has it.

    Raises
    ------
    ValueError
        A text is no value of its column's type.
    """
    row = {}
    for field in schema.fields:
        text = found.get(field.name.encode())
        row[field.name] = _value(field, text if text is None else _parsed(text, field.type))
    return row


def _parsed(text: bytes, type_: pa.DataType) -> Any:
    kind = pa.types
    if kind.is_binary(type_) or kind.is_large_binary(type_):
        return text
    if kind.is_boolean(type_) or kind.is_integer(type_) or kind.is_nested(type_) or kind.is_duration(type_):
        try:
            return json.loads(text, parse_float=Digits)
        except (ValueError, RecursionError):
            return text.decode()
    if kind.is_floating(type_):
        try:
            return float(text)
        except ValueError:
            return text.decode()
    return text.decode()


def _value(field: Field, value: Any) -> Any:
    if value is None:
        if not field.nullable:
            raise ValueError(f"column {field.name!r} is missing or null, and may not be")
        return None
    if isinstance(value, bytes):
        return value
    try:
        return value_of(value, field.type)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"column {field.name!r}: {error}") from None
