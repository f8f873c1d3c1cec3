"""Arithmetic as Python's, except that dividing integers by zero gives null and floats follow IEEE 754."""
from libc.math cimport HUGE_VAL, copysign, fabs, floor, fmod, isfinite, rint
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod

from streamdsl._native.expr.elementwise cimport Binary, Checked, Unary
from streamdsl._native.expr.ops cimport (
    OP_ABS,
    OP_ADD,
    OP_ATAN2,
    OP_CEIL,
    OP_DIV,
    OP_FLOOR,
    OP_FLOORDIV,
    OP_MOD,
    OP_MUL,
    OP_NEG,
    OP_POW,
    OP_ROUND,
    OP_SIGN,
    OP_SQRT,
    OP_SUB,
)
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Kernel,
    Vector,
    fail,
    own_valid,
    row_at,
    to_f64,
    vector_alloc,
    vector_share,
)
from streamdsl._native.flow.batch cimport KIND_F64, KIND_I64, KIND_U64, buffer_release, is_valid

cdef extern from * nogil:
    """
    #include <math.h>
    SD_BINARY(sd_add_f64, double, double, x + y)
    SD_BINARY(sd_sub_f64, double, double, x - y)
    SD_BINARY(sd_mul_f64, double, double, x * y)
    SD_BINARY(sd_div_f64, double, double, x / y)
    SD_BINARY(sd_pow_f64, double, double, pow(x, y))
    SD_BINARY(sd_atan2_f64, double, double, atan2(x, y))
    static const sd_binary SD_FLOAT[] = {sd_add_f64, sd_sub_f64, sd_mul_f64, sd_div_f64, sd_pow_f64, sd_atan2_f64};

    #define SD_WRAP(OPERATOR) ((int64_t)((uint64_t)x OPERATOR (uint64_t)y))
    SD_CHECKED(sd_add_i64, int64_t, SD_WRAP(+), (x ^ s) & (y ^ s), __builtin_add_overflow)
    SD_CHECKED(sd_sub_i64, int64_t, SD_WRAP(-), (x ^ y) & (x ^ s), __builtin_sub_overflow)
    static inline uint64_t sd_mul_bad_i64(int64_t x, int64_t y) { int64_t s; return (uint64_t)__builtin_mul_overflow(x, y, &s) << 63; }
    static inline uint64_t sd_mul_bad_u64(uint64_t x, uint64_t y) { uint64_t s; return (uint64_t)__builtin_mul_overflow(x, y, &s) << 63; }
    SD_CHECKED(sd_mul_i64, int64_t, SD_WRAP(*), sd_mul_bad_i64(x, y), __builtin_mul_overflow)
    SD_CHECKED(sd_add_u64, uint64_t, x + y, (uint64_t)(s < x) << 63, __builtin_add_overflow)
    SD_CHECKED(sd_sub_u64, uint64_t, x - y, (uint64_t)(x < y) << 63, __builtin_sub_overflow)
    SD_CHECKED(sd_mul_u64, uint64_t, x * y, sd_mul_bad_u64(x, y), __builtin_mul_overflow)
    static const sd_checked SD_WHOLE[] = {sd_add_i64, sd_sub_i64, sd_mul_i64, sd_add_u64, sd_sub_u64, sd_mul_u64};

    SD_UNARY(sd_sqrt, double, double, sqrt(x))
    SD_UNARY(sd_exp, double, double, exp(x))
    SD_UNARY(sd_log, double, double, log(x))
    SD_UNARY(sd_log10, double, double, log10(x))
    SD_UNARY(sd_sin, double, double, sin(x))
    SD_UNARY(sd_cos, double, double, cos(x))
    SD_UNARY(sd_tan, double, double, tan(x))
    SD_UNARY(sd_asin, double, double, asin(x))
    SD_UNARY(sd_acos, double, double, acos(x))
    SD_UNARY(sd_atan, double, double, atan(x))
    SD_UNARY(sd_radians, double, double, x * (3.14159265358979323846 / 180.0))
    SD_UNARY(sd_floor, double, double, floor(x))
    SD_UNARY(sd_ceil, double, double, ceil(x))
    static const sd_unary SD_FUNCTIONS[] = {sd_sqrt, sd_exp, sd_log, sd_log10, sd_sin, sd_cos, sd_tan, sd_asin, sd_acos, sd_atan,
                                            sd_radians, sd_floor, sd_ceil};
    SD_UNARY(sd_neg_f64, double, double, -x)
    SD_UNARY(sd_abs_f64, double, double, fabs(x))
    SD_UNARY(sd_sign_f64, double, double, x != x ? x : (double)((x > 0) - (x < 0)))
    static const sd_unary SD_SIGNS[] = {sd_neg_f64, sd_abs_f64, sd_sign_f64};
    """
    Binary* FLOAT "SD_FLOAT"
    Checked* WHOLE "SD_WHOLE"
    Unary* FUNCTIONS "SD_FUNCTIONS"
    Unary* SIGNS "SD_SIGNS"


cdef Kernel numeric_kernel(int op) noexcept:
    if op == OP_ADD or op == OP_SUB or op == OP_MUL:
        return add_sub_mul
    if op == OP_DIV:
        return divide
    if op == OP_POW or op == OP_ATAN2:
        return of_two_floats
    if op == OP_FLOORDIV or op == OP_MOD:
        return floordiv_mod
    if op == OP_NEG or op == OP_ABS or op == OP_SIGN:
        return neg_abs_sign
    if op == OP_ROUND:
        return round_half_even
    if OP_SQRT <= op <= OP_CEIL:
        return of_one_float
    return NULL


cdef int run_floats(int which, Frame* frame, Vector* args, Vector* out) except -1 nogil:
    to_f64(frame, &args[0])
    to_f64(frame, &args[1])
    vector_alloc(frame, out, KIND_F64)
    FLOAT[which](
        args[0].col.values, args[0].constant, args[1].col.values, args[1].constant, out.col.values, frame.rows, frame.m
    )
    return 0


cdef int add_sub_mul(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int which = ins.op - OP_ADD
    cdef int64_t row
    if ins.kind == KIND_F64:
        return run_floats(which, frame, args, out)
    vector_alloc(frame, out, ins.kind)
    row = WHOLE[which + (3 if ins.kind == KIND_U64 else 0)](
        args[0].col.values, args[0].constant, args[1].col.values, args[1].constant, out.col.values,
        out.col.valid, frame.rows, frame.m,
    )
    if row >= 0:
        fail(frame, row, "integer overflow in add" if which == 0 else (
            "integer overflow in sub" if which == 1 else "integer overflow in mul"))
    return 0


cdef int divide(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef uint8_t* valid
    cdef double* divisor
    run_floats(3, frame, args, out)
    if ins.whole:                            # of integers: by zero is null
        valid = own_valid(frame, out)
        divisor = <double*>args[1].col.values
        for i in range(frame.m):
            row = row_at(frame, i)
            valid[row] &= divisor[0 if args[1].constant else row] != 0.0
    return 0


cdef int of_two_floats(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    return run_floats(4 if ins.op == OP_POW else 5, frame, args, out)


cdef int of_one_float(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    if (ins.op == OP_FLOOR or ins.op == OP_CEIL) and args[0].col.kind != KIND_F64 and ins.kind != KIND_F64:
        vector_share_values(out, &args[0])   # whole already
        return 0
    to_f64(frame, &args[0])
    vector_alloc(frame, out, KIND_F64)
    FUNCTIONS[ins.op - OP_SQRT](args[0].col.values, out.col.values, frame.rows, frame.m)
    return 0


cdef void vector_share_values(Vector* out, Vector* source) noexcept nogil:
    """The same values and nulls; `out` holds only a validity so far."""
    cdef Vector shared
    vector_share(&shared, source)
    shared.constant = False                  # the program decides what is constant
    buffer_release(out.col.valid_buffer)
    out[0] = shared


# Division of whole numbers -----------------------------------------------------------------------------------


cdef inline double floordiv_f64(double x, double y) noexcept nogil:
    # As CPython's float_floor_div, with IEEE results for a zero divisor.
    cdef double rest, quotient, whole
    if y == 0.0:
        return x / y
    rest = fmod(x, y)
    quotient = (x - rest) / y
    if rest != 0.0:
        if (y < 0) != (rest < 0):
            quotient -= 1.0
    if quotient == 0.0:
        return copysign(0.0, x / y)
    whole = floor(quotient)
    return whole + 1.0 if quotient - whole > 0.5 else whole


cdef inline double mod_f64(double x, double y) noexcept nogil:
    cdef double rest = fmod(x, y)
    if rest == 0.0:
        return copysign(0.0, y)
    if (y < 0) != (rest < 0):
        rest += y
    return rest


cdef int floordiv_mod(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef double x, y
    cdef int left_step = 0 if args[0].constant else 1
    cdef int right_step = 0 if args[1].constant else 1
    if ins.kind == KIND_F64:
        to_f64(frame, &args[0])
        to_f64(frame, &args[1])
        vector_alloc(frame, out, KIND_F64)
        for i in range(frame.m):
            row = row_at(frame, i)
            x = (<double*>args[0].col.values)[row * left_step]
            y = (<double*>args[1].col.values)[row * right_step]
            (<double*>out.col.values)[row] = floordiv_f64(x, y) if ins.op == OP_FLOORDIV else mod_f64(x, y)
        return 0
    vector_alloc(frame, out, ins.kind)
    if ins.kind == KIND_U64:
        return divide_u64(frame, ins, args, out)
    return divide_i64(frame, ins, args, out)


cdef int divide_u64(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef uint64_t x, y
    cdef uint64_t* target = <uint64_t*>out.col.values
    cdef uint8_t* nulls = NULL
    for i in range(frame.m):
        row = row_at(frame, i)
        x = (<uint64_t*>args[0].col.values)[0 if args[0].constant else row]
        y = (<uint64_t*>args[1].col.values)[0 if args[1].constant else row]
        if y != 0:
            target[row] = x // y if ins.op == OP_FLOORDIV else x % y
        else:
            if nulls == NULL:
                nulls = own_valid(frame, out)
            nulls[row] = 0
    return 0


cdef int divide_i64(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row, x, y, rest
    cdef int64_t* target = <int64_t*>out.col.values
    cdef uint8_t* nulls = NULL
    for i in range(frame.m):
        row = row_at(frame, i)
        x = (<int64_t*>args[0].col.values)[0 if args[0].constant else row]
        y = (<int64_t*>args[1].col.values)[0 if args[1].constant else row]
        if y == 0:
            if nulls == NULL:
                nulls = own_valid(frame, out)
            nulls[row] = 0
        elif y == -1:                        # the one divisor that can overflow
            if ins.op == OP_MOD:
                target[row] = 0
            elif x == INT64_MIN:
                if is_valid(&out.col, row):
                    fail(frame, row, "integer overflow in floordiv")
            else:
                target[row] = -x
        else:
            rest = x % y
            if ins.op == OP_MOD:
                target[row] = rest + y if rest != 0 and (rest < 0) != (y < 0) else rest
            else:
                target[row] = x // y - (rest != 0 and (rest < 0) != (y < 0))
    return 0


# Signs -------------------------------------------------------------------------------------------------------


cdef int neg_abs_sign(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row, x
    cdef uint64_t u
    vector_alloc(frame, out, ins.kind)
    if ins.kind == KIND_F64:
        to_f64(frame, &args[0])
        SIGNS[ins.op - OP_NEG](args[0].col.values, out.col.values, frame.rows, frame.m)
        return 0
    for i in range(frame.m):
        row = row_at(frame, i)
        if args[0].col.kind == KIND_U64:
            u = (<uint64_t*>args[0].col.values)[row]
            if ins.op == OP_NEG and u != 0 and is_valid(&out.col, row):
                fail(frame, row, "integer overflow in neg")
            (<uint64_t*>out.col.values)[row] = <uint64_t>(u != 0) if ins.op == OP_SIGN else u
            continue
        x = (<int64_t*>args[0].col.values)[row]
        if ins.op == OP_SIGN:
            x = (x > 0) - (x < 0)
        elif ins.op == OP_NEG or x < 0:
            if x == INT64_MIN:
                if is_valid(&out.col, row):
                    fail(frame, row, "integer overflow in neg" if ins.op == OP_NEG else "integer overflow in abs")
            else:
                x = -x
        (<int64_t*>out.col.values)[row] = x
    return 0


# Rounding ----------------------------------------------------------------------------------------------------


cdef double power_of_ten(int64_t digits) noexcept nogil:
    cdef double power = 1.0
    cdef int64_t _i
    for _i in range(digits):
        power *= 10.0                        # exact up to 10**22
    return power


cdef double round_exactly(double x, int64_t digits) except? -1.0 nogil:
    """Through the decimal text: the digits of the number itself decide, as in Python's round()."""
    cdef char[700] text
    if digits >= 0:
        snprintf(text, 700, "%.*f", <int>digits, x)
        return strtod(text, NULL)
    with gil:
        try:
            return round(x, digits)
        except OverflowError:
            return copysign(HUGE_VAL, x)


cdef inline double round_f64(double x, int64_t digits, double power) except? -1.0 nogil:
    cdef double scaled, whole
    if not isfinite(x) or digits > 323:
        return x
    if digits == 0:
        return rint(x)
    if 0 < digits <= 22:
        scaled = x * power
        whole = rint(scaled)
        # Unless the scaled value is next to a half, its own rounding error cannot change the result.
        if fabs(scaled) < 1e12 and fabs(fabs(scaled - whole) - 0.5) > 1e-3:
            return copysign(whole / power, x)
    return round_exactly(x, digits) if digits >= -308 else copysign(0.0, x)


cdef int round_half_even(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef double power
    if ins.kind == KIND_F64:
        to_f64(frame, &args[0])
        vector_alloc(frame, out, KIND_F64)
        power = power_of_ten(ins.whole if 0 < ins.whole <= 22 else 0)
        for i in range(frame.m):
            row = row_at(frame, i)
            (<double*>out.col.values)[row] = round_f64((<double*>args[0].col.values)[row], ins.whole, power)
        return 0
    if ins.whole >= 0:
        vector_share_values(out, &args[0])
        return 0
    return round_whole(frame, ins, args, out)


cdef int round_whole(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    """To tens, hundreds ... (digits below zero)."""
    cdef int64_t _i, i, row
    cdef uint64_t x, power = 1, rest, limit
    cdef bint negative, signed = ins.kind == KIND_I64
    vector_alloc(frame, out, ins.kind)
    for _i in range(-ins.whole if ins.whole >= -19 else 0):
        power *= 10
    for i in range(frame.m):
        row = row_at(frame, i)
        x = (<uint64_t*>args[0].col.values)[row]
        negative = signed and <int64_t>x < 0
        x = 0 - x if negative else x
        limit = (<uint64_t>1 << 63) - (not negative) if signed else ~<uint64_t>0
        if ins.whole < -19:
            (<uint64_t*>out.col.values)[row] = 0
            continue
        rest = x % power
        x -= rest
        if rest > power // 2 or (rest == power // 2 and x // power & 1 == 1):
            if x > limit - power or power > limit:
                if is_valid(&out.col, row):
                    fail(frame, row, "integer overflow in round")
                continue
            x += power
        (<uint64_t*>out.col.values)[row] = 0 - x if negative else x
    return 0
