"""Logical types (pyarrow) and the kinds that columns have at run time."""

from __future__ import annotations

import functools

import pyarrow as pa

from streamdsl.logical.types import is_date, is_decimal, is_float, is_integer, is_span, is_time, require_supported
from streamdsl.physical.node import Kind

__all__ = ["Kind", "kind_of"]


@functools.lru_cache(maxsize=256)
def kind_of(type_: pa.DataType) -> Kind:
    """Return the run-time kind of a logical type.

    Raises
    ------
    TopologyError
        The type is not supported.
    """
    require_supported(type_)
    if pa.types.is_boolean(type_):
        return "bool"
    if type_ == pa.uint64():
        return "u64"
    if is_decimal(type_):
        return "dec"
    if is_integer(type_) or is_time(type_) or is_span(type_) or is_date(type_):
        return "i64"
    return "f64" if is_float(type_) else "str"
