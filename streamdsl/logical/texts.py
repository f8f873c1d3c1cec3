"""Texts made of values of any type: concatenated, formatted, a whole row as one value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl.logical import decimals
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import (
    BOOL,
    TEXT,
    is_date,
    is_decimal,
    is_float,
    is_number,
    is_passed_through,
    is_span,
    is_text,
    is_time,
    literal,
    retyped,
)

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder

__all__ = ["as_text", "concat", "concat_str", "format_text", "row"]

_FLOAT_SPEC: Final = re.compile(r".*[feg%]|.*\.\d+", re.ASCII)


def as_text(binder: Binder, arg: Typed) -> Typed:
    """Return any value as text."""
    if pa.types.is_null(arg.type):
        return literal(None, TEXT)
    if is_text(arg.type) or is_passed_through(arg.type):
        return retyped(arg, TEXT)
    if is_decimal(arg.type):
        return binder._strict("dec_to_str", TEXT, [arg], (arg.type.scale,))
    if is_span(arg.type):
        raise binder.error(f"{arg} ({arg.type}) has no text", "cast(int) and cast(float) give its milliseconds")
    name = f"timestamp[{arg.type.unit}]" if is_time(arg.type) else "date" if is_date(arg.type) else str(arg.type)
    return binder._strict("cast_str", TEXT, [arg], (name,))


def concat(binder: Binder, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
    """Return the texts of the values, one behind the other."""
    return binder._strict("concat", TEXT, [as_text(binder, arg) for arg in args])


def concat_str(binder: Binder, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
    """Return the texts of the values with a separator between them, without those that are null if asked for."""
    texts, separator = [as_text(binder, arg) for arg in args], literal(params[0], TEXT)
    if not params[1]:
        parts = [part for arg in texts for part in (separator, arg)][1:] if params[0] else texts
        return binder._strict("concat", TEXT, parts)
    # A separator in front of each text there is; the first one is cut off.
    empty = literal("", TEXT)
    parts = [
        Typed(
            "when",
            TEXT,
            (Typed("is_null", BOOL, (arg,), nullable=False), empty, binder._strict("concat", TEXT, [separator, arg])),
            nullable=False,
        )
        for arg in texts
    ]
    joined = Typed("concat", TEXT, tuple(parts), nullable=False)
    return Typed("str_slice", TEXT, (joined,), (len(params[0]), None), nullable=False) if params[0] else joined


def format_text(binder: Binder, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
    """Return a text with the values in its gaps."""
    shown = [_formatted(binder, arg, spec) for arg, spec in zip(args, params[1], strict=True)]
    # A decimal is a text of its own by then.
    specs = tuple("" if is_decimal(arg.type) else spec for arg, spec in zip(args, params[1], strict=True))
    return Typed(op, TEXT, tuple(shown), (params[0], specs, *params[2:]), nullable=False)


def _formatted(binder: Binder, arg: Typed, spec: str) -> Typed:
    if is_decimal(arg.type):
        return as_text(binder, decimals.formatted(binder, arg, spec))
    if is_number(arg.type):
        if _FLOAT_SPEC.fullmatch(spec):
            return binder._float(arg, "format")
        if spec.endswith(("d", "s")) and (is_float(arg.type) or spec.endswith("s")):
            raise binder.error(f"format: {{:{spec}}} does not fit {arg} ({arg.type})", "use {:.0f}")
        return arg
    if spec not in ("", "s"):
        raise binder.error(f"format: {{:{spec}}} needs a number, not {arg} ({arg.type})")
    return as_text(binder, arg)


def row(binder: Binder, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
    """Bind row(): a struct of all columns that the user sees."""
    columns = tuple(args) or tuple(binder._column(name) for name in binder.schema.visible().names)
    if not columns:
        raise binder.error("row() of rows without columns")
    fields = [binder.schema.field(column.column) for column in columns]
    struct = pa.struct([pa.field(field.name, field.type, field.nullable) for field in fields])
    return Typed("row_text", struct, columns, tuple((field.name, _form(field.type)) for field in fields), nullable=False)


def _form(type_: pa.DataType) -> str | int:
    """Return how a value of the type stands in the text of a struct: decimals by their scale."""
    if is_decimal(type_):
        return int(type_.scale)
    if type_.num_fields:
        return "json"
    return "bytes" if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) else "plain"
