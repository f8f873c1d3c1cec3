"""Words of other libraries that users type from habit, and what to write here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

from streamdsl.errors import TopologyError
from streamdsl.schema import nearest

__all__ = [
    "COLUMN_WORDS",
    "EXPRESSION_INSTEAD",
    "LIST_WORDS",
    "STRUCT_WORDS",
    "TEXT_WORDS",
    "TIME_WORDS",
    "UnknownWordError",
    "unknown_word",
]

#: Of a column: the other library's word, and what to write.
COLUMN_WORDS: Final[dict[str, str]] = {
    "shift": "lag(n): the value of the record of this key that came n arrivals ago",
    "diff": 'col("x") - col("x").lag()',
    "pct_change": 'col("x") / col("x").lag() - 1',
    "between": "is_between(lower, upper, closed=)",
    "not_null": "is_not_null()",
    "isnull": "is_null()",
    "isna": "is_null()",
    "notnull": "is_not_null()",
    "notna": "is_not_null()",
    "isin": "is_in(values)",
    "fillna": "fill_null(value)",
    "astype": "cast(type)",
    "when": "when(condition).then(value), a function",
    "implode": "to_list()",
    "collect_list": "to_list()",
    "nunique": "n_unique()",
    "approx_n_unique": "n_unique(approximate=True)",
    "null_count": 'count().filter(col("x").is_null())',
    "arg_max": "max_by(by), the value of the greatest record",
    "arg_min": "min_by(by), the value of the least record",
    "top_k_by": "top_k(n, by=)",
    "bottom_k": "top_k(n, by=-by)",
    "cum_sum": "sum().over(expanding())",
    "cum_count": "count().over(expanding())",
    "cum_min": "min().over(expanding())",
    "cum_max": "max().over(expanding())",
    "rolling_sum_by": 'sum().over(rolling("1h"))',
    "rolling_mean_by": 'mean().over(rolling("1h"))',
    "rolling_min_by": 'min().over(rolling("1h"))',
    "rolling_max_by": 'max().over(rolling("1h"))',
    "rolling_std_by": 'std().over(rolling("1h"))',
    "rolling_var_by": 'var().over(rolling("1h"))',
    "rolling_median_by": 'median().over(rolling("1h"))',
    "rolling_quantile_by": 'quantile(q).over(rolling("1h"))',
    "drop_nulls": 'filter(col("x").is_not_null()) on the stream',
    "map_elements": "map(function, schema=) on the stream",
    "map_batches": "map_batches(function, schema=) on the stream",
    "explode": 'explode("x") on the stream',
    "and_": "&",
    "or_": "|",
    "not_": "~",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "neg": "-",
    "eq_missing": "(a == b) | (a.is_null() & b.is_null())",
    "ne_missing": "~((a == b) | (a.is_null() & b.is_null())).fill_null(False)",
    "asin": "arcsin()",
    "acos": "arccos()",
    "atan": "arctan()",
    "atan2": "arctan2(y, x), a function",
    "ln": "log()",
}

#: Of `.str`.
TEXT_WORDS: Final[dict[str, str]] = {
    "lower": "str.to_lowercase()",
    "upper": "str.to_uppercase()",
    "strip": "str.strip_chars()",
    "lstrip": "str.strip_chars_start()",
    "rstrip": "str.strip_chars_end()",
    "len": "str.len_chars()",
    "length": "str.len_chars()",
    "startswith": "str.starts_with(prefix)",
    "endswith": "str.ends_with(suffix)",
}

#: Of `.list`.
LIST_WORDS: Final[dict[str, str]] = {"explode": 'explode("x") on the stream', "length": "list.len()", "size": "list.len()"}

#: Of `.struct`.
STRUCT_WORDS: Final[dict[str, str]] = {
    "unnest": 'unnest("x") on the stream',
    "rename_fields": 'unnest("x") on the stream, then rename(...)',
    "json_encode": "cast(str)",
}

#: Of `.dt`.
TIME_WORDS: Final[dict[str, str]] = {
    "day_of_year": "dt.ordinal_day()",
    "dayofyear": "dt.ordinal_day()",
    "dayofweek": "dt.weekday(), 1 = Monday",
    "day_of_week": "dt.weekday(), 1 = Monday",
    "floor": "dt.truncate(step)",
}

#: What to write in place of what Python cannot do with an expression.
EXPRESSION_INSTEAD: Final[Mapping[str, str]] = {
    "has no truth value before it runs": "use & for and, | for or, ~ for not (with brackets around comparisons), "
    "is_between(...) for a < b < c, is_in(...) for in, is_null() for `is None`",
    "has no value to format before it runs": 'use format("{} of {}", col("a"), col("b")), and .round(2) or .cast(str) inside',
    "has no length before it runs": "use .str.len_chars() of a text, .list.len() of a list, count() of the rows",
    "cannot be iterated over": "use .list functions, or .explode(...) on the stream",
    "cannot be searched by `in`": "use .str.contains(...), .list.contains(...), or .is_in([...]) the other way round",
    "cannot be taken apart by [...]": 'use .list.get(0), .str.slice(0, 3), .struct.field("name"); for earlier rows .lag(1)',
    "cannot be changed": "use with_columns(name=...) on the stream, with when(...).then(...).otherwise(...)",
    "is no Python number before it runs": "use .cast(float) or .cast(int); for the value of a row, a function given to map(...)",
    "is not rounded by Python": "use .round(2), .floor(), .ceil(), or .cast(int), which truncates",
    "has no such operator": "use // and % for divmod, (a | b) & ~(a & b) for an exclusive or",
}


class UnknownWordError(TopologyError, AttributeError):
    """A method that expressions do not have. An AttributeError too: `hasattr` is False."""


def unknown_word(owner: object, prefix: str, name: str, words: dict[str, str]) -> NoReturn:
    """Raise the error for a method that `owner` lacks, with what to write instead.

    Raises
    ------
    UnknownWordError
        Always.
    """
    found = words.get(name)
    if found is None and not name.startswith("_"):
        near = nearest(name, [known for known in dir(type(owner)) if not known.startswith("_")])
        found = f"{prefix}{near}" if near else None
    remedy = None if found is None else f"write {found}" if name in words else f"did you mean {found!r}?"
    raise UnknownWordError(f"expressions have no {prefix}{name}", remedy=remedy)
