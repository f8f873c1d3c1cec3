"""The operations of expressions. `ops.pyx` knows their names and shapes."""

cdef enum:
    # Evaluated by the program itself
    OP_COLUMN
    OP_TIME
    OP_LITERAL
    OP_AND
    OP_OR
    OP_WHEN
    OP_COALESCE
    OP_FUNCTION                              # defined by its kernels: see functions.pxd
    # kernels_compare: the order of the six is that of the kernel tables
    OP_EQ
    OP_NE
    OP_LT
    OP_LE
    OP_GT
    OP_GE
    OP_NOT
    OP_IS_NULL
    OP_NOT_NULL
    OP_IS_NAN
    OP_IS_FINITE
    # kernels_numeric: arithmetic
    OP_ADD
    OP_SUB
    OP_MUL
    OP_DIV
    OP_FLOORDIV
    OP_MOD
    OP_POW
    OP_ATAN2
    OP_NEG
    OP_ABS
    OP_SIGN
    OP_ROUND
    OP_LEAST
    OP_GREATEST
    # kernels_numeric: functions of one double; the order is that of the kernel table
    OP_SQRT
    OP_EXP
    OP_LOG
    OP_LOG10
    OP_SIN
    OP_COS
    OP_TAN
    OP_ASIN
    OP_ACOS
    OP_ATAN
    OP_RADIANS
    OP_FLOOR
    OP_CEIL
    # kernels_cast
    OP_CAST_F64
    OP_CAST_I64
    OP_CAST_U64
    OP_CAST_BOOL
    OP_CAST_STR
    OP_PARSE_I64
    OP_PARSE_F64
    OP_PARSE_BOOL
    OP_CHECK_RANGE
    # kernels_string
    OP_STR_LOWER
    OP_STR_UPPER
    OP_STR_LENGTH
    OP_STR_STARTS_WITH
    OP_STR_ENDS_WITH
    OP_STR_CONTAINS
    OP_STR_SLICE
    OP_STR_SPLIT_PART
    # kernels_text
    OP_CONCAT
    OP_FORMAT
    # kernels_lookup
    OP_REPLACE
    OP_REPLACE_STRICT
    OP_IS_IN
    # kernels_time
    OP_DT_YEAR
    OP_DT_MONTH
    OP_DT_DAY
    OP_DT_HOUR
    OP_DT_MINUTE
    OP_DT_SECOND
    OP_DT_MILLISECOND
    OP_DT_WEEKDAY
    OP_DT_DAY_OF_YEAR
    OP_DT_DATE
    OP_DT_TRUNCATE
    # kernels_decimal
    OP_DEC_ADD
    OP_DEC_SUB
    OP_DEC_MUL
    OP_DEC_DIV
    OP_DEC_FLOORDIV
    OP_DEC_MOD
    OP_DEC_NEG
    OP_DEC_ABS
    OP_DEC_SIGN
    OP_DEC_ROUND
    OP_DEC_FLOOR
    OP_DEC_CEIL
    OP_DEC_RESCALE
    OP_DEC_CAST
    OP_DEC_TO_F64
    OP_DEC_TO_I64
    OP_DEC_TO_U64
    OP_DEC_TO_STR

cdef struct Shape:
    int op
    int least_args
    int most_args                            # -1 = any number
    bint strict                              # null if any argument is null

cdef Shape shape_of(str name) except *       # ValueError: there is no such operation
cdef int kind_code(str name) except -1       # "i64" -> KIND_I64
