"""Decimals are whole numbers here: `physical` plans every shift of the point. Parameters, in this order:

add sub mul floordiv mod neg abs sign: 0, digits of the result. div: digits that the dividend is shifted by, digits of the result.
round: digits to drop, digits of the result, zeros to put back. floor ceil: digits to drop, digits of the result.
rescale: digits to add (negative: to drop), digits of the result, what becomes of what does not fit. cast: scale, digits, the same.
to_f64 to_str: scale. to_i64 to_u64: scale, 0, what becomes of what does not fit.

What does not fit: 1 = an error of the record, 0 = null, 2 = the greatest or least of all, for comparisons alone.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from streamdsl._native.expr.ops cimport (
    OP_DEC_ABS,
    OP_DEC_ADD,
    OP_DEC_CAST,
    OP_DEC_CEIL,
    OP_DEC_DIV,
    OP_DEC_FLOOR,
    OP_DEC_FLOORDIV,
    OP_DEC_MOD,
    OP_DEC_MUL,
    OP_DEC_NEG,
    OP_DEC_RESCALE,
    OP_DEC_ROUND,
    OP_DEC_SIGN,
    OP_DEC_SUB,
    OP_DEC_TO_F64,
    OP_DEC_TO_I64,
    OP_DEC_TO_STR,
    OP_DEC_TO_U64,
)
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Kernel,
    Vector,
    Writer,
    own_valid,
    row_at,
    text,
    text_size,
    vector_alloc,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_F64, KIND_STR, KIND_U64, is_valid
from streamdsl._native.includes.decimal cimport (
    dec_add,
    dec_fits,
    dec_load,
    dec_mul,
    dec_quotient,
    dec_shift,
    dec_store,
    dec_sub,
    int128,
    magnitude,
    ten_to,
    uint128,
)
from streamdsl._native.serdes.decimal_text cimport (
    DECIMAL_ROOM,
    decimal_of_double,
    decimal_text,
    double_of_decimal,
    parse_decimal,
)
from streamdsl._native.serdes.number_text cimport double_text, int_text, uint_text

from streamdsl.errors import RecordError

cdef enum:
    SATURATE = 2
    MOST_DIGITS = 38


cdef Kernel decimal_kernel(int op) noexcept:
    if OP_DEC_ADD <= op <= OP_DEC_MUL:
        return add_sub_mul
    if OP_DEC_DIV <= op <= OP_DEC_MOD:
        return divide
    if OP_DEC_NEG <= op <= OP_DEC_CEIL:
        return of_one
    if op == OP_DEC_RESCALE:
        return rescale
    if op == OP_DEC_CAST:
        return to_decimal
    if OP_DEC_TO_F64 <= op <= OP_DEC_TO_U64:
        return to_number
    if op == OP_DEC_TO_STR:
        return to_text
    return NULL


cdef inline int128 at(const Vector* source, int64_t row) noexcept nogil:
    return dec_load(source.col.values + (0 if source.constant else 16 * row))


cdef inline void put(Vector* out, int64_t row, int128 value) noexcept nogil:
    dec_store(out.col.values + 16 * row, value)


cdef int too_long(Frame* frame, Instruction* ins, int64_t row) except -1 nogil:
    with gil:
        name = {OP_DEC_ADD: "add", OP_DEC_SUB: "sub", OP_DEC_MUL: "mul", OP_DEC_DIV: "div", OP_DEC_FLOORDIV: "floordiv",
                OP_DEC_ROUND: "round", OP_DEC_FLOOR: "floor", OP_DEC_CEIL: "ceil"}.get(ins.op, "cast")
        raise RecordError(row if frame.error_row < 0 else frame.error_row,
                          f"decimal overflow in {name}: the result has more than {ins.whole2} digits")


# Arithmetic --------------------------------------------------------------------------------------------------


cdef int add_sub_mul(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int128 x, y, result = 0
    cdef bint good
    vector_alloc(frame, out, KIND_DEC)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):      # rows without a value hold anything
            put(out, row, 0)
            continue
        x, y = at(&args[0], row), at(&args[1], row)
        if ins.op == OP_DEC_ADD:
            good = dec_add(x, y, &result)
        elif ins.op == OP_DEC_SUB:
            good = dec_sub(x, y, &result)
        else:
            good = dec_mul(x, y, &result)
        if not good or not dec_fits(result, ins.whole2):
            too_long(frame, ins, row)
        put(out, row, result)
    return 0


cdef inline int128 floored(int128 x, int128 y, int128* rest) noexcept nogil:
    """x // y; the rest has the sign of y, as for Python's ints."""
    cdef uint128 a = magnitude(x), b = magnitude(y)
    cdef int128 quotient = <int128>(a // b), left = <int128>(a % b)
    if (x < 0) != (y < 0):
        quotient = -quotient
        if left != 0:
            quotient = quotient - <int128>1
            left = <int128>b - left
    rest[0] = -left if y < 0 else left
    return quotient


cdef int divide(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    """By zero is null, as for integers."""
    cdef int64_t i, row
    cdef int128 x, y, result = 0, rest = 0
    cdef bint good = True
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, KIND_DEC)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            put(out, row, 0)
            continue
        x, y = at(&args[0], row), at(&args[1], row)
        if y == 0:
            if nulls == NULL:
                nulls = own_valid(frame, out)
            nulls[row] = 0
            put(out, row, 0)
            continue
        if ins.op == OP_DEC_DIV:
            good = dec_quotient(x, ins.whole, y, &result)
        else:
            result = floored(x, y, &rest)
            if ins.op == OP_DEC_MOD:
                result = rest
        if not good or not dec_fits(result, ins.whole2):
            too_long(frame, ins, row)
        put(out, row, result)
    return 0


cdef inline bint rounded(Instruction* ins, int128 x, int128* out) noexcept nogil:
    cdef int128 rest = 0
    if ins.whole > MOST_DIGITS:
        out[0] = 0
        return ins.op == OP_DEC_ROUND or x == 0
    if ins.op == OP_DEC_ROUND:
        return dec_quotient(x, 0, <int128>ten_to(ins.whole), out) and dec_shift(out[0], ins.size1, out)
    if ins.op == OP_DEC_FLOOR:
        out[0] = floored(x, <int128>ten_to(ins.whole), &rest)
    else:
        out[0] = -floored(-x, <int128>ten_to(ins.whole), &rest)
    return True


cdef int of_one(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int128 x, result = 0
    vector_alloc(frame, out, ins.kind)
    for i in range(frame.m):
        row = row_at(frame, i)
        x = at(&args[0], row)
        if ins.op == OP_DEC_SIGN:
            (<int64_t*>out.col.values)[row] = (x > 0) - (x < 0)
            continue
        if ins.op == OP_DEC_NEG:
            result = -x
        elif ins.op == OP_DEC_ABS:
            result = -x if x < 0 else x
        elif not is_valid(&out.col, row):
            result = 0
        elif not rounded(ins, x, &result) or not dec_fits(result, ins.whole2):
            too_long(frame, ins, row)
        put(out, row, result)
    return 0


# Conversion --------------------------------------------------------------------------------------------------


cdef inline int128 greatest(int128 like) noexcept nogil:
    """Beyond every decimal, with the sign of `like`."""
    cdef int128 most = <int128>ten_to(MOST_DIGITS)
    return -most if like < 0 else most


cdef int rescale(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int128 x, result = 0, step = <int128>ten_to(-ins.whole) if ins.whole < 0 else <int128>1
    cdef bint good
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, KIND_DEC)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            put(out, row, 0)
            continue
        x = at(&args[0], row)
        if ins.whole >= 0:
            good = dec_shift(x, ins.whole, &result)
        else:
            good = x % step == 0
            result = x // step
        if not good or not dec_fits(result, ins.whole2):
            if ins.size1 == SATURATE:
                result = greatest(x)
            elif ins.size1:
                refuse(frame, ins, &args[0], row)
            else:
                if nulls == NULL:
                    nulls = own_valid(frame, out)
                nulls[row] = 0
                result = 0
        put(out, row, result)
    return 0


cdef int refuse(Frame* frame, Instruction* ins, const Vector* source, int64_t row) except -1 nogil:
    cdef char[DECIMAL_ROOM] shown
    cdef int n = 0, kind = source.col.kind
    cdef int64_t place = 0 if source.constant else row
    with gil:
        params = <tuple>ins.params
        if kind == KIND_STR:
            value = repr(text(source, row)[:text_size(source, row)].decode("utf-8", "replace"))
        else:
            if kind == KIND_DEC:
                n = decimal_text(at(source, row), params[4] if len(params) > 4 else ins.whole, shown)
            elif kind == KIND_F64:
                n = double_text((<double*>source.col.values)[place], shown)
            elif kind == KIND_U64:
                n = uint_text((<uint64_t*>source.col.values)[place], shown)
            else:
                n = int_text((<int64_t*>source.col.values)[place], shown)
            value = shown[:n].decode()
        raise RecordError(row if frame.error_row < 0 else frame.error_row, f"{value} does not fit {params[3]}")


cdef inline bint read_decimal(Instruction* ins, const Vector* source, int64_t row, int128* out) noexcept nogil:
    if source.col.kind == KIND_STR:
        return parse_decimal(text(source, row), text_size(source, row), ins.whole, ins.whole2, out)
    if source.col.kind == KIND_F64:
        return decimal_of_double((<double*>source.col.values)[row], ins.whole, ins.whole2, out)
    if source.col.kind == KIND_U64:
        out[0] = <int128>(<uint64_t*>source.col.values)[row]
    elif source.col.kind == KIND_BOOL:
        out[0] = <int128>(<uint8_t*>source.col.values)[row]
    else:
        out[0] = <int128>(<int64_t*>source.col.values)[row]
    return dec_shift(out[0], ins.whole, out) and dec_fits(out[0], ins.whole2)


cdef int to_decimal(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int128 result = 0
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, KIND_DEC)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            result = 0
        elif not read_decimal(ins, &args[0], 0 if args[0].constant else row, &result):
            if ins.size1 == SATURATE:        # a whole number: of the others none is converted to be compared
                result = greatest(result)
            elif ins.size1:
                refuse(frame, ins, &args[0], row)
            else:
                if nulls == NULL:
                    nulls = own_valid(frame, out)
                nulls[row] = 0
                result = 0
        put(out, row, result)
    return 0


cdef inline bint whole_of(Instruction* ins, int128 x, char* out) noexcept nogil:
    """Towards zero, as for floats."""
    cdef int128 whole = x // <int128>ten_to(ins.whole)
    cdef int64_t signed
    cdef uint64_t unsigned
    if ins.op == OP_DEC_TO_I64:
        signed = <int64_t>whole
        (<int64_t*>out)[0] = signed
        return <int128>signed == whole
    unsigned = <uint64_t>whole
    (<uint64_t*>out)[0] = unsigned
    return whole >= 0 and magnitude(whole) >> 64 == 0


cdef int to_number(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, ins.kind)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            memset(out.col.values + 8 * row, 0, 8)
        elif ins.op == OP_DEC_TO_F64:
            (<double*>out.col.values)[row] = double_of_decimal(at(&args[0], row), ins.whole)
        elif not whole_of(ins, at(&args[0], row), out.col.values + 8 * row):
            if ins.size1:
                refuse(frame, ins, &args[0], row)
            if nulls == NULL:
                nulls = own_valid(frame, out)
            nulls[row] = 0
    return 0


cdef int to_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if is_valid(&out.col, row):
                writer_end(&writer, row, decimal_text(at(&args[0], row), ins.whole, writer_room(&writer, DECIMAL_ROOM)))
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0
