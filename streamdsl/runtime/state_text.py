"""Keys and rows of tables as text: from a command line or an address, into JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from streamdsl.errors import DataError
from streamdsl.schema import Schema

__all__ = ["json_row", "key_of_texts", "plain", "prefix_of_texts"]


def key_of_texts(name: str, schema: Schema, texts: Sequence[str]) -> Any:
    """Return the key that some texts say, one for each of its columns.

    Raises
    ------
    DataError
        There are too many or too few, or one does not fit its column.
    """
    if len(texts) != len(schema.fields):
        columns = ", ".join(map(str, schema.fields)) or "no column"
        raise DataError(
            f"{len(texts)} values for the key of {name!r}, which is {columns}", remedy="give one for each column, in this order"
        )
    parts = tuple(_value(field.name, field.type, text) for field, text in zip(schema.fields, texts, strict=True))
    return parts[0] if len(parts) == 1 else parts


def prefix_of_texts(schema: Schema, texts: Sequence[str]) -> Any:
    """Return the prefix of a key that some texts say, one for each of its first columns."""
    if not texts:
        return None
    pairs = zip(schema.fields, texts, strict=False)
    parts = tuple(text if pa.types.is_string(field.type) else _value(field.name, field.type, text) for field, text in pairs)
    return parts + tuple(texts[len(parts) :])


def _value(column: str, type_: pa.DataType, text: str) -> Any:
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return text
    try:
        if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
            return base64.b64decode(text, validate=True)
        if pa.types.is_boolean(type_):
            return {"true": True, "false": False}[text.lower()]
        return pa.scalar(text).cast(type_).as_py()
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise DataError(f"{text!r} is not a {type_}, which the column {column!r} of the key is") from error


def json_row(row: Any) -> str:
    """Return a row as one line of JSON; what JSON has no word for is text: times in ISO 8601, bytes in Base64, "NaN"."""
    return json.dumps(plain(row), ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: times in ISO 8601, bytes in Base64, what is no finite number as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=str)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
