"""Fields of structs, which are there as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from streamdsl.logical.cast import value_of_text
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import TEXT, retyped
from streamdsl.schema import nearest

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder

__all__ = ["field_of", "fields_of"]


def fields_of(type_: pa.DataType) -> list[pa.Field]:
    """Return the fields of a type of structs."""
    return [type_.field(i) for i in range(type_.num_fields)]


def field_of(binder: Binder, op: str, args: list[Typed], name: str) -> Typed:
    """Return the field `name` of a struct as a value of its type; null where the struct is null."""
    (struct,) = args
    if not pa.types.is_struct(struct.type):
        binder.wrong("struct.field", args, "a struct")
    fields = {field.name: field for field in fields_of(struct.type)}
    if name not in fields:
        near = nearest(name, fields)
        raise binder.error(
            f"{struct} has no field {name!r}", (f"did you mean {near!r}? " if near else "") + f"its fields: {', '.join(fields)}"
        )
    found = fields[name]
    text = Typed(op, TEXT, (retyped(struct, TEXT),), (name,), nullable=struct.nullable or found.nullable)
    return value_of_text(binder, text, found.type, f"the field {name!r} of {struct}")
