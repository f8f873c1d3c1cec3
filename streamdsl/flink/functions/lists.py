"""Lists and structs: here they are text, in Flink arrays and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamdsl.flink.functions.kind import Operation
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value, failing
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import INT, is_list

__all__ = ["OPERATIONS"]


def _length(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST(CARDINALITY({_list(node, args[0]).text}) AS BIGINT)", INT, least=0)


def _get(node: Typed, args: Sequence[Value]) -> Value:
    index, null_outside = node.params
    held = _list(node, args[0])
    text, item = held.inner, held.type.value_type
    if null_outside and index >= 0:
        return Value(f"{text}[{index + 1}]", item)
    place = f"{index + 1}" if index >= 0 else f"CARDINALITY({held.text}) {f'- {-index - 1}' if index < -1 else ''}".strip()
    least = index + 1 if index >= 0 else -index
    found = f"{text}[{place}]"
    outside = f"CAST(NULL AS {flink_type(item)})"
    if not null_outside:
        outside = failing(f"no item {index}", f"CAST(CARDINALITY({held.text}) AS STRING)", flink_type(item))
    return Value(f"CASE WHEN CARDINALITY({held.text}) >= {least} THEN {found} WHEN {text} IS NOT NULL THEN {outside} END", item)


def _field(node: Typed, args: Sequence[Value]) -> Value:
    (struct,), (name,) = args, node.params
    return Value(f"{struct.inner}.{quoted(name)}", struct.type.field(name).type)


def _list(node: Typed, value: Value) -> Value:
    if not is_list(value.type):
        raise Refused(f"{node.op}() of {value.type}", "declare the column as a list")
    return value


OPERATIONS: Final[dict[str, Operation]] = {"list_len": _length, "list_get": _get, "struct_field": _field}
