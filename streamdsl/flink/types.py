"""Column types as Flink has them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.logical.types import is_decimal, is_list, is_span, is_string, is_time

__all__ = ["flink_type"]

_PLAIN: Final[dict[pa.DataType, str]] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint8(): "SMALLINT",
    pa.uint16(): "INT",
    pa.uint32(): "BIGINT",
    pa.uint64(): "DECIMAL(20, 0)",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.binary(): "BYTES",
    pa.large_binary(): "BYTES",
}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def flink_type(type_: pa.DataType) -> str:
    """Return the type of a column.

    Raises
    ------
    Refused
        Flink has none for the same values.
    """
    if type_ in _PLAIN:
        return _PLAIN[type_]
    if is_string(type_):
        return "STRING"
    if is_time(type_):
        return f"TIMESTAMP_LTZ({_DIGITS[type_.unit]})"
    if is_decimal(type_):
        return f"DECIMAL({type_.precision}, {type_.scale})"
    if is_list(type_):
        return f"ARRAY<{flink_type(type_.value_type)}>"
    if pa.types.is_struct(type_):
        fields = (type_.field(i) for i in range(type_.num_fields))
        return f"ROW<{', '.join(f'{quoted(field.name)} {flink_type(field.type)}' for field in fields)}>"
    if pa.types.is_map(type_):
        return f"MAP<{flink_type(type_.key_type)}, {flink_type(type_.item_type)}>"
    if is_span(type_):
        raise Refused(f"a column of the type {type_}", "Flink stores no durations: cast it to int, which counts milliseconds")
    raise Refused(f"a column of the type {type_}", "Flink has none of the kind")
