"""Every kind has a total order: NaN equals NaN and is greater than all numbers, -0.0 equals 0.0, strings go by bytes."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.expr.elementwise cimport Binary, Unary
from streamdsl._native.expr.ops cimport (
    OP_EQ,
    OP_GE,
    OP_GREATEST,
    OP_GT,
    OP_IS_FINITE,
    OP_IS_NAN,
    OP_IS_NULL,
    OP_LE,
    OP_LEAST,
    OP_LT,
    OP_NE,
    OP_NOT,
    OP_NOT_NULL,
)
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Kernel,
    Vector,
    Writer,
    row_at,
    text,
    text_end,
    text_size,
    to_f64,
    vector_alloc,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.includes.decimal cimport int128    # no-cython-lint: the loops above are of it
from streamdsl._native.includes.short_text cimport same_text
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_F64, KIND_I64, KIND_STR, KIND_U64, buffer_release, buffer_retain

cdef extern from * nogil:
    """
    #include <math.h>
    #define SD_SIX(SUFFIX, IN)                                \\
        SD_BINARY(sd_eq_##SUFFIX, IN, uint8_t, x == y)        \\
        SD_BINARY(sd_ne_##SUFFIX, IN, uint8_t, x != y)        \\
        SD_BINARY(sd_lt_##SUFFIX, IN, uint8_t, x < y)         \\
        SD_BINARY(sd_le_##SUFFIX, IN, uint8_t, x <= y)        \\
        SD_BINARY(sd_gt_##SUFFIX, IN, uint8_t, x > y)         \\
        SD_BINARY(sd_ge_##SUFFIX, IN, uint8_t, x >= y)        \\
        SD_BINARY(sd_least_##SUFFIX, IN, IN, y < x ? y : x)   \\
        SD_BINARY(sd_greatest_##SUFFIX, IN, IN, y > x ? y : x)
    SD_SIX(bool, uint8_t)
    SD_SIX(i64, int64_t)
    SD_SIX(u64, uint64_t)
    SD_SIX(dec, sd_i128)
    SD_BINARY(sd_eq_f64, double, uint8_t, (x == y) | ((x != x) & (y != y)))
    SD_BINARY(sd_ne_f64, double, uint8_t, (x != y) & !((x != x) & (y != y)))
    SD_BINARY(sd_lt_f64, double, uint8_t, (x < y) | ((x == x) & (y != y)))
    SD_BINARY(sd_le_f64, double, uint8_t, (x <= y) | (y != y))
    SD_BINARY(sd_gt_f64, double, uint8_t, (x > y) | ((x != x) & (y == y)))
    SD_BINARY(sd_ge_f64, double, uint8_t, (x >= y) | (x != x))
    SD_BINARY(sd_least_f64, double, double, (y < x) | ((y == y) & (x != x)) ? y : x)
    SD_BINARY(sd_greatest_f64, double, double, (y > x) | ((y != y) & (x == x)) ? y : x)
    #define SD_ROW(SUFFIX) {sd_eq_##SUFFIX, sd_ne_##SUFFIX, sd_lt_##SUFFIX, sd_le_##SUFFIX, sd_gt_##SUFFIX, sd_ge_##SUFFIX, \\
                            sd_least_##SUFFIX, sd_greatest_##SUFFIX}
    /* By kind - 1; texts have loops of their own, and decimals stand in their place. */
    static const sd_binary SD_COMPARE[][8] = {SD_ROW(bool), SD_ROW(i64), SD_ROW(u64), SD_ROW(f64), SD_ROW(dec)};
    static inline sd_binary sd_compare_loop(int kind, int which) { return SD_COMPARE[kind == 6 ? 4 : kind - 1][which]; }

    SD_UNARY(sd_not, uint8_t, uint8_t, !x)
    SD_UNARY(sd_is_nan, double, uint8_t, x != x)
    SD_UNARY(sd_is_finite, double, uint8_t, fabs(x) <= 1.7976931348623157e308)
    """
    Binary compare_loop "sd_compare_loop"(int kind, int which) noexcept
    Unary loop_not "sd_not"
    Unary loop_is_nan "sd_is_nan"
    Unary loop_is_finite "sd_is_finite"


cdef Kernel compare_kernel(int op) noexcept:
    if OP_EQ <= op <= OP_GE:
        return compare
    if op == OP_NOT:
        return logical_not
    if op == OP_IS_NULL or op == OP_NOT_NULL:
        return test_null
    if op == OP_IS_NAN or op == OP_IS_FINITE:
        return test_float
    if op == OP_LEAST or op == OP_GREATEST:
        return choose
    return NULL


# Comparison --------------------------------------------------------------------------------------------------


cdef inline int order_of_texts(const Vector* a, const Vector* b, int64_t row) noexcept nogil:
    cdef int32_t left = text_size(a, row), right = text_size(b, row)
    cdef int order = memcmp(text(a, row), text(b, row), left if left < right else right)
    return order if order != 0 else (left > right) - (left < right)


cdef inline bint holds(int op, int order) noexcept nogil:
    if op == OP_LT:
        return order < 0
    if op == OP_LE:
        return order <= 0
    if op == OP_GT:
        return order > 0
    if op == OP_GE:
        return order >= 0
    return (order == 0) == (op == OP_EQ)


cdef int compare_texts(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int32_t size
    cdef bint equal
    cdef const char* left_end = text_end(frame, &args[0])
    cdef const char* right_end = text_end(frame, &args[1])
    cdef uint8_t* target = <uint8_t*>out.col.values
    for i in range(frame.m):
        row = row_at(frame, i)
        if ins.op <= OP_NE:
            size = text_size(&args[0], row)
            equal = same_text(
                text(&args[0], row), size, left_end, text(&args[1], row), text_size(&args[1], row), right_end)
            target[row] = equal == (ins.op == OP_EQ)
        else:
            target[row] = holds(ins.op, order_of_texts(&args[0], &args[1], row))
    return 0


cdef int compare_signs(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    """One side signed, the other not: exact, where a conversion would not be."""
    cdef int64_t i, row, signed
    cdef uint64_t unsigned
    cdef int order
    cdef int s = 0 if args[0].col.kind == KIND_I64 else 1
    for i in range(frame.m):
        row = row_at(frame, i)
        signed = (<int64_t*>args[s].col.values)[0 if args[s].constant else row]
        unsigned = (<uint64_t*>args[1 - s].col.values)[0 if args[1 - s].constant else row]
        order = -1 if signed < 0 else (<uint64_t>signed > unsigned) - (<uint64_t>signed < unsigned)
        (<uint8_t*>out.col.values)[row] = holds(ins.op, order if s == 0 else -order)
    return 0


cdef int run(int which, Frame* frame, Vector* a, Vector* b, Vector* out) except -1 nogil:
    compare_loop(a.col.kind, which)(
        a.col.values, a.constant, b.col.values, b.constant, out.col.values, frame.rows, frame.m
    )
    return 0


cdef int compare(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int left = args[0].col.kind
    cdef int right = args[1].col.kind
    vector_alloc(frame, out, KIND_BOOL)
    if left == KIND_STR:
        return compare_texts(frame, ins, args, out)
    if left != right:
        if left + right == KIND_I64 + KIND_U64 and (left == KIND_I64 or right == KIND_I64):
            return compare_signs(frame, ins, args, out)
        to_f64(frame, &args[0])
        to_f64(frame, &args[1])
    return run(ins.op - OP_EQ, frame, &args[0], &args[1], out)


# Tests -------------------------------------------------------------------------------------------------------


cdef int logical_not(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    vector_alloc(frame, out, KIND_BOOL)
    loop_not(args[0].col.values, out.col.values, frame.rows, frame.m)
    return 0


cdef int test_null(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef uint8_t* target
    cdef const uint8_t* valid = args[0].col.valid
    cdef bint wanted = ins.op == OP_NOT_NULL
    vector_alloc(frame, out, KIND_BOOL)
    target = <uint8_t*>out.col.values
    for i in range(frame.m):
        row = row_at(frame, i)
        target[row] = wanted if valid == NULL else ((valid[row] != 0) == wanted)
    return 0


cdef int test_float(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    to_f64(frame, &args[0])
    vector_alloc(frame, out, KIND_BOOL)
    if ins.op == OP_IS_NAN:
        loop_is_nan(args[0].col.values, out.col.values, frame.rows, frame.m)
    else:
        loop_is_finite(args[0].col.values, out.col.values, frame.rows, frame.m)
    return 0


# Least and greatest ------------------------------------------------------------------------------------------


cdef int choose_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row
    cdef int k, best, order
    cdef int32_t size
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            best = 0
            for k in range(1, ins.n_args):
                order = compare_two(args, k, best, row)
                if (order < 0) if ins.op == OP_LEAST else (order > 0):
                    best = k
            size = text_size(&args[best], row)
            memcpy(writer_room(&writer, size), text(&args[best], row), size)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef inline int compare_two(const Vector* args, int a, int b, int64_t row) noexcept nogil:
    return order_of_texts(&args[a], &args[b], row)


cdef int choose(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int k
    cdef Vector best, better
    if ins.kind == KIND_STR:
        return choose_text(frame, ins, args, out)
    for k in range(ins.n_args):
        if ins.kind == KIND_F64:
            to_f64(frame, &args[k])
    best = args[0]
    buffer_retain(best.col.values_buffer)
    for k in range(1, ins.n_args):
        memset(&better, 0, sizeof(Vector))
        vector_alloc(frame, &better, ins.kind)
        run(6 if ins.op == OP_LEAST else 7, frame, &best, &args[k], &better)
        buffer_release(best.col.values_buffer)
        best = better
    out.col.kind = ins.kind
    out.col.values = best.col.values
    out.col.values_buffer = best.col.values_buffer
    return 0
