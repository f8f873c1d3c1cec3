"""See ops.pxd. The list of names is the language that the planner writes."""
from streamdsl._native.expr.functions cimport Function, function_of
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_F64, KIND_I64, KIND_STR, KIND_U64

from streamdsl._native.expr.functions import defined

# name: (code, least arguments, most arguments or -1, null if any argument is null)
cdef dict SHAPES = {
    "column": (OP_COLUMN, 0, 0, False),
    "time": (OP_TIME, 0, 0, False),
    "literal": (OP_LITERAL, 0, 0, False),
    "and": (OP_AND, 1, -1, False),
    "or": (OP_OR, 1, -1, False),
    "when": (OP_WHEN, 3, -1, False),
    "coalesce": (OP_COALESCE, 1, -1, False),
    "is_null": (OP_IS_NULL, 1, 1, False),
    "is_not_null": (OP_NOT_NULL, 1, 1, False),
    "format": (OP_FORMAT, 0, -1, False),
    "replace": (OP_REPLACE, 1, 2, False),
    "replace_strict": (OP_REPLACE_STRICT, 1, 1, False),
    "concat": (OP_CONCAT, 1, -1, True),
    "least": (OP_LEAST, 1, -1, True),
    "greatest": (OP_GREATEST, 1, -1, True),
}

for _name, _op in (
    ("eq", OP_EQ), ("ne", OP_NE), ("lt", OP_LT), ("le", OP_LE), ("gt", OP_GT), ("ge", OP_GE),
    ("add", OP_ADD), ("sub", OP_SUB), ("mul", OP_MUL), ("div", OP_DIV), ("floordiv", OP_FLOORDIV), ("mod", OP_MOD),
    ("pow", OP_POW), ("arctan2", OP_ATAN2),
    ("str_starts_with", OP_STR_STARTS_WITH), ("str_ends_with", OP_STR_ENDS_WITH), ("str_contains", OP_STR_CONTAINS),
):
    SHAPES[_name] = (_op, 2, 2, True)

for _name, _op in (
    ("not", OP_NOT), ("is_nan", OP_IS_NAN), ("is_finite", OP_IS_FINITE),
    ("neg", OP_NEG), ("abs", OP_ABS), ("sign", OP_SIGN), ("round", OP_ROUND),
    ("sqrt", OP_SQRT), ("exp", OP_EXP), ("log", OP_LOG), ("log10", OP_LOG10), ("sin", OP_SIN), ("cos", OP_COS),
    ("tan", OP_TAN), ("arcsin", OP_ASIN), ("arccos", OP_ACOS), ("arctan", OP_ATAN), ("radians", OP_RADIANS),
    ("floor", OP_FLOOR), ("ceil", OP_CEIL),
    ("cast_f64", OP_CAST_F64), ("cast_i64", OP_CAST_I64), ("cast_u64", OP_CAST_U64), ("cast_bool", OP_CAST_BOOL),
    ("cast_str", OP_CAST_STR), ("parse_i64", OP_PARSE_I64), ("parse_f64", OP_PARSE_F64), ("parse_bool", OP_PARSE_BOOL),
    ("check_range", OP_CHECK_RANGE),
    ("str_to_lowercase", OP_STR_LOWER), ("str_to_uppercase", OP_STR_UPPER),
    ("str_len_chars", OP_STR_LENGTH),
    ("str_slice", OP_STR_SLICE), ("str_split_part", OP_STR_SPLIT_PART),
    ("is_in", OP_IS_IN),
    ("dt_year", OP_DT_YEAR), ("dt_month", OP_DT_MONTH), ("dt_day", OP_DT_DAY), ("dt_hour", OP_DT_HOUR),
    ("dt_minute", OP_DT_MINUTE), ("dt_second", OP_DT_SECOND), ("dt_millisecond", OP_DT_MILLISECOND),
    ("dt_weekday", OP_DT_WEEKDAY), ("dt_ordinal_day", OP_DT_DAY_OF_YEAR), ("dt_date", OP_DT_DATE),
    ("dt_truncate", OP_DT_TRUNCATE),
):
    SHAPES[_name] = (_op, 1, 1, True)

for _name, _op, _args in (
    ("dec_add", OP_DEC_ADD, 2), ("dec_sub", OP_DEC_SUB, 2), ("dec_mul", OP_DEC_MUL, 2), ("dec_div", OP_DEC_DIV, 2),
    ("dec_floordiv", OP_DEC_FLOORDIV, 2), ("dec_mod", OP_DEC_MOD, 2),
    ("dec_neg", OP_DEC_NEG, 1), ("dec_abs", OP_DEC_ABS, 1), ("dec_sign", OP_DEC_SIGN, 1),
    ("dec_round", OP_DEC_ROUND, 1), ("dec_floor", OP_DEC_FLOOR, 1), ("dec_ceil", OP_DEC_CEIL, 1),
    ("dec_rescale", OP_DEC_RESCALE, 1), ("dec_cast", OP_DEC_CAST, 1), ("dec_to_f64", OP_DEC_TO_F64, 1),
    ("dec_to_i64", OP_DEC_TO_I64, 1), ("dec_to_u64", OP_DEC_TO_U64, 1), ("dec_to_str", OP_DEC_TO_STR, 1),
):
    SHAPES[_name] = (_op, _args, _args, True)

cdef dict KINDS = {"bool": KIND_BOOL, "i64": KIND_I64, "u64": KIND_U64, "f64": KIND_F64, "str": KIND_STR, "dec": KIND_DEC}


cdef Shape shape_of(str name) except *:
    cdef Shape shape
    cdef Function row = function_of(name)
    if row is not None:
        shape.op, shape.least_args, shape.most_args, shape.strict = OP_FUNCTION, len(row.args), len(row.args), row.strict
        if row.args == ("*",):
            shape.most_args = -1
        return shape
    if name not in SHAPES:
        raise ValueError(f"there is no operation {name!r}")
    shape.op, shape.least_args, shape.most_args, shape.strict = SHAPES[name]
    return shape


cdef int kind_code(str name) except -1:
    if name not in KINDS:
        raise ValueError(f"there is no kind {name!r}")
    return KINDS[name]


def operations():
    """Return the names of all operations."""
    return frozenset(SHAPES) | defined()
