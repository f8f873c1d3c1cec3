"""The functions of expressions that need no rule of their own: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

__all__ = ["FUNCTIONS", "Function", "refuses"]

BOOL: Final = pa.bool_()
FLOAT: Final = pa.float64()
INT: Final = pa.int64()
TEXT: Final = pa.string()


@dataclass(frozen=True, slots=True)
class Function:
    """What a function takes and gives. Null in, null out.

    Parameters
    ----------
    args : tuple of str
        What each argument must be: "float" (any number, as float64), "int", "text", "list" or "struct".
    result : DataType
    nullable : bool
        Null may come out where none went in.
    fails : bool
        It may refuse a record.
    strict : int, optional
        Which parameter says whether it refuses (true), or gives null.
    """

    args: tuple[str, ...]
    result: pa.DataType
    nullable: bool = False
    fails: bool = False
    strict: int | None = None

    def refuses(self, params: tuple[Any, ...]) -> bool:
        """Tell whether it may refuse a record with these parameters."""
        return self.fails and (self.strict is None or bool(params[self.strict]))


_OF_FLOAT: Final = """
    sqrt exp log log10 log1p cbrt radians degrees sin cos tan cot arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh
"""
_OF_TEXT: Final = """
    str_to_lowercase str_to_uppercase str_to_titlecase str_reverse str_head str_tail str_slice str_strip_chars
    str_strip_chars_start str_strip_chars_end str_strip_prefix str_strip_suffix str_pad_start str_pad_end str_zfill
"""
_TEXT_LIST: Final = pa.list_(TEXT)

#: Name of the operation: what it takes and gives. Its kernel stands in `_native/expr`, its method in `expr`.
FUNCTIONS: Final[dict[str, Function]] = {
    **dict.fromkeys(_OF_FLOAT.split(), Function(("float",), FLOAT)),
    "arctan2": Function(("float", "float"), FLOAT),
    "is_nan": Function(("float",), BOOL),
    "is_finite": Function(("float",), BOOL),
    **dict.fromkeys(_OF_TEXT.split(), Function(("text",), TEXT)),
    "str_len_chars": Function(("text",), INT),
    "str_len_bytes": Function(("text",), INT),
    **dict.fromkeys(("str_starts_with", "str_ends_with", "str_contains"), Function(("text", "text"), BOOL)),
    "str_contains_match": Function(("text", "text"), BOOL, fails=True, strict=0),
    "str_count_matches": Function(("text", "text"), INT, fails=True, strict=0),
    "str_replace": Function(("text", "text", "text"), TEXT),
    "str_replace_match": Function(("text", "text"), TEXT),
    "str_split_part": Function(("text",), TEXT, nullable=True),
    "str_extract": Function(("text",), TEXT, nullable=True),
    "str_extract_all": Function(("text",), _TEXT_LIST),
    "str_split": Function(("text", "text"), _TEXT_LIST),
    "str_to_integer": Function(("text",), INT, fails=True, strict=1),
    "str_strptime": Function(("text",), INT, fails=True, strict=2),
    "struct_field": Function(("struct",), TEXT, nullable=True),
    "list_len": Function(("list",), INT),
    "list_get": Function(("list",), TEXT, nullable=True, fails=True),
    "list_contains_text": Function(("list", "text"), BOOL),
    "list_contains_i64": Function(("list", "int"), BOOL),
    "list_contains_f64": Function(("list", "float"), BOOL),
    "list_join": Function(("list", "text"), TEXT, nullable=True),
}

#: Operations that may refuse a row, unless they calculate with floats.
_FAILING: Final = frozenset(
    {
        *("add", "sub", "mul", "neg", "abs", "pow", "floordiv", "mod"),
        *("cast_i64", "cast_u64", "check_range", "format"),
        *("replace_strict", "dt_instant"),
        *(f"dec_{op}" for op in ("add", "sub", "mul", "div", "floordiv", "mod", "round", "floor", "ceil")),
        *(f"dec_{op}" for op in ("rescale", "cast", "to_i64", "to_u64")),
    }
)


#: Of these, the ones that overflow; floats do not.
_WHOLE: Final = frozenset({"add", "sub", "mul", "neg", "abs", "pow", "floordiv", "mod", "check_range"})


def refuses(op: str, type_: pa.DataType, params: tuple[Any, ...]) -> bool:
    """Tell whether an operation with a result of this type may refuse a record."""
    function = FUNCTIONS.get(op)
    if function is not None:
        return function.refuses(params)
    return op.startswith("parse_") or (op in _FAILING and not (op in _WHOLE and pa.types.is_floating(type_)))
