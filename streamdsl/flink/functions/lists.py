"""Lists and structs: here they are text, in Flink arrays and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamdsl.flink.functions.kind import Operation
from streamdsl.flink.quoting import quoted, text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value, failing
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import BOOL, INT, TEXT, is_list, is_string

__all__ = ["OPERATIONS"]


def _length(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST(CARDINALITY({_list(node, args[0]).text}) AS BIGINT)", INT, least=0)


def _get(node: Typed, args: Sequence[Value]) -> Value:
    index, null_outside = node.params
    held = _list(node, args[0])
    inner, item = held.inner, held.type.value_type
    if null_outside and index >= 0:
        return Value(f"{inner}[{index + 1}]", item)
    place = f"{index + 1}" if index >= 0 else f"CARDINALITY({held.text}) {f'- {-index - 1}' if index < -1 else ''}".strip()
    least = index + 1 if index >= 0 else -index
    found = f"{inner}[{place}]"
    outside = f"CAST(NULL AS {flink_type(item)})"
    if not null_outside:
        outside = failing(f"no item {index}", f"CAST(CARDINALITY({held.text}) AS STRING)", flink_type(item))
    return Value(f"CASE WHEN CARDINALITY({held.text}) >= {least} THEN {found} WHEN {inner} IS NOT NULL THEN {outside} END", item)


def _contains(node: Typed, args: Sequence[Value]) -> Value:
    held, wanted = _list(node, args[0]), args[1]
    if wanted.nan or flink_type(held.type.value_type) != flink_type(wanted.type):
        raise Refused(f"list.contains() of {wanted.type} in {held.type}", "cast the item to the type of the list's")
    found = f"ARRAY_CONTAINS({held.text}, {wanted.text})"
    return Value(f"CASE WHEN {wanted.inner} IS NOT NULL THEN {found} END" if node.args[1].nullable else found, BOOL)


def _join(node: Typed, args: Sequence[Value]) -> Value:
    held, separator = _list(node, args[0]), args[1]
    if not is_string(held.type.value_type) or not node.params[0]:
        raise Refused(f"list.join() of {held.type}{'' if node.params[0] else ' with its nulls'}", "join lists of texts; nulls are left out")
    return Value(f"ARRAY_JOIN({held.text}, {separator.text})", TEXT)


def _split(node: Typed, args: Sequence[Value]) -> Value:
    value, separator = args
    if node.params[0] or not separator.constant or not separator.number:
        raise Refused("str.split() with separators that stay, or by a text that is a column or empty", "split by a text that is written")
    # Of an empty text Flink makes no part, not an empty one.
    parts = f"SPLIT({value.text}, {text(separator.number)})"
    return Value(f"CASE WHEN {value.inner} = '' THEN ARRAY[CAST('' AS STRING)] ELSE {parts} END", pa.list_(TEXT))


def _field(node: Typed, args: Sequence[Value]) -> Value:
    (struct,), (name,) = args, node.params
    return Value(f"{struct.inner}.{quoted(name)}", struct.type.field(name).type)


def _list(node: Typed, value: Value) -> Value:
    if not is_list(value.type):
        raise Refused(f"{node.op}() of {value.type}", "declare the column as a list")
    return value


OPERATIONS: Final[dict[str, Operation]] = {
    "list_len": _length,
    "list_get": _get,
    **dict.fromkeys(("list_contains_text", "list_contains_i64", "list_contains_f64"), _contains),
    "list_join": _join,
    "str_split": _split,
    "struct_field": _field,
}
