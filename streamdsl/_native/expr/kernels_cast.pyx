"""Casts. What does not fit is an error of the record if the cast is strict (parameter `whole`), null otherwise."""
from libc.math cimport isnan
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from streamdsl._native.expr.ops cimport (
    OP_CAST_F64,
    OP_CAST_STR,
    OP_CHECK_RANGE,
    OP_PARSE_BOOL,
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
    to_f64,
    vector_alloc,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport (
    KIND_BOOL,
    KIND_DEC,
    KIND_F64,
    KIND_I64,
    KIND_STR,
    KIND_U64,
    buffer_retain,
    is_valid,
)
from streamdsl._native.serdes.number_text cimport (
    NUMBER_ROOM,
    date_text,
    double_text,
    int_text,
    moment_text,
    parse_bool,
    parse_double,
    parse_int,
    parse_uint,
    uint_text,
)

from streamdsl.errors import RecordError


cdef Kernel cast_kernel(int op) noexcept:
    if op == OP_CAST_STR:
        return to_text
    if OP_CAST_F64 <= op <= OP_PARSE_BOOL:
        return cast
    if op == OP_CHECK_RANGE:
        return check_range
    return NULL


cdef int share_values(Vector* out, Vector* source) except -1 nogil:
    out.col.kind = source.col.kind
    out.col.values = source.col.values
    out.col.values_buffer = source.col.values_buffer
    buffer_retain(out.col.values_buffer)
    if source.col.kind == KIND_STR:
        out.col.offsets = source.col.offsets
        out.col.offsets_buffer = source.col.offsets_buffer
        buffer_retain(out.col.offsets_buffer)
    return 0


# To numbers and bool -----------------------------------------------------------------------------------------


cdef inline bint to_number(int kind, const Vector* source, int64_t row, char* out) noexcept nogil:
    """Write the value as `kind` to out; False if it does not fit."""
    cdef double x
    cdef int64_t i
    cdef uint64_t u
    if source.col.kind == KIND_STR:
        if kind == KIND_F64:
            return parse_double(text(source, row), text_size(source, row), <double*>out)
        if kind == KIND_I64:
            return parse_int(text(source, row), text_size(source, row), <int64_t*>out)
        if kind == KIND_U64:
            return parse_uint(text(source, row), text_size(source, row), <uint64_t*>out)
        return parse_bool(text(source, row), text_size(source, row), out)
    if source.col.kind == KIND_F64:
        x = (<double*>source.col.values)[row]
        if kind == KIND_BOOL:
            out[0] = x != 0.0
            return True
        if kind == KIND_I64:                 # the comparisons are false for NaN
            if not (x >= -9223372036854775808.0 and x < 9223372036854775808.0):
                return False
            (<int64_t*>out)[0] = <int64_t>x
            return True
        if not (x > -1.0 and x < 18446744073709551616.0):
            return False
        (<uint64_t*>out)[0] = <uint64_t>x
        return True
    if source.col.kind == KIND_DEC:          # to bool; the rest needs the scale: kernels_decimal
        memcpy(&u, source.col.values + 16 * row, 8)
        memcpy(&i, source.col.values + 16 * row + 8, 8)
        out[0] = u != 0 or i != 0
        return kind == KIND_BOOL
    if source.col.kind == KIND_U64:
        u = (<uint64_t*>source.col.values)[row]
        if kind == KIND_BOOL:
            out[0] = u != 0
            return True
        (<uint64_t*>out)[0] = u
        return kind == KIND_U64 or u <= <uint64_t>INT64_MAX
    i = (<uint8_t*>source.col.values)[row] if source.col.kind == KIND_BOOL else (<int64_t*>source.col.values)[row]
    if kind == KIND_BOOL:
        out[0] = i != 0
        return True
    (<int64_t*>out)[0] = i
    return kind == KIND_I64 or i >= 0


cdef int refuse(Frame* frame, int kind, const Vector* source, int64_t row) except -1 nogil:
    cdef char[NUMBER_ROOM] shown
    cdef const char* name = "bool" if kind == KIND_BOOL else ("float64" if kind == KIND_F64 else (
        "int64" if kind == KIND_I64 else "uint64"))
    cdef int n
    with gil:
        if source.col.kind == KIND_STR:
            value = repr(text(source, row)[:text_size(source, row)].decode("utf-8", "replace"))
        else:
            n = write_value(source.col.kind, 0, source, row, shown)
            value = shown[:n].decode()
        raise RecordError(row if frame.error_row < 0 else frame.error_row, f"{value} is no {name.decode()}")


cdef int cast(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int width = 1 if ins.kind == KIND_BOOL else 8
    cdef uint8_t* nulls = NULL
    if args[0].col.kind == ins.kind:
        return share_values(out, &args[0])
    if ins.kind == KIND_F64 and args[0].col.kind != KIND_STR:
        to_f64(frame, &args[0])
        return share_values(out, &args[0])
    vector_alloc(frame, out, ins.kind)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            # Later loops read bools as indices and flags: never leave another value than 0 or 1.
            if width == 1:
                out.col.values[row] = 0
        elif not to_number(ins.kind, &args[0], row, out.col.values + width * row):
            if ins.whole:
                refuse(frame, ins.kind, &args[0], row)
            if nulls == NULL:
                nulls = own_valid(frame, out)
            nulls[row] = 0
            if width == 1:
                out.col.values[row] = 0
    return 0


# Narrow types ------------------------------------------------------------------------------------------------


cdef int outside(Frame* frame, Instruction* ins, const Vector* source, int64_t row) except -1 nogil:
    cdef char[NUMBER_ROOM] shown
    cdef int n
    with gil:
        n = write_value(source.col.kind, 0, source, row, shown)
        raise RecordError(
            row if frame.error_row < 0 else frame.error_row,
            f"{shown[:n].decode()} does not fit {(<tuple>ins.params)[2]}",
        )


cdef int check_range(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    """`whole` to `whole2`, both included; for an unsigned column they are unsigned too."""
    cdef int64_t i, row
    cdef bint inside
    cdef double x
    cdef uint64_t u
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            continue
        if args[0].col.kind == KIND_U64:
            u = (<uint64_t*>args[0].col.values)[row]
            inside = <uint64_t>ins.whole <= u <= <uint64_t>ins.whole2
        elif args[0].col.kind == KIND_F64:
            x = (<double*>args[0].col.values)[row]
            inside = isnan(x) or <double>ins.whole <= x <= <double>ins.whole2
        else:
            inside = ins.whole <= (<int64_t*>args[0].col.values)[row] <= ins.whole2
        if not inside:
            outside(frame, ins, &args[0], row)
    return share_values(out, &args[0])


# To text -----------------------------------------------------------------------------------------------------


cdef int write_value(int kind, int64_t style, const Vector* source, int64_t row, char* out) noexcept nogil:
    """Up to NUMBER_ROOM bytes. style: 0 = as it is, 2 = date, 10 + digits of its unit = timestamp."""
    cdef int64_t at = 0 if source.constant else row
    if kind == KIND_F64:
        return double_text((<double*>source.col.values)[at], out)
    if kind == KIND_U64:
        return uint_text((<uint64_t*>source.col.values)[at], out)
    if kind == KIND_BOOL:
        if source.col.values[at]:
            memcpy(out, "true", 4)
            return 4
        memcpy(out, "false", 5)
        return 5
    if style >= 10:
        return moment_text((<int64_t*>source.col.values)[at], <int>(style - 10), out)
    if style == 2:
        return date_text((<int64_t*>source.col.values)[at], out)
    return int_text((<int64_t*>source.col.values)[at], out)


cdef int to_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row
    if args[0].col.kind == KIND_STR:
        return share_values(out, &args[0])
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if is_valid(&out.col, row):
                writer_end(&writer, row, write_value(
                    args[0].col.kind, ins.whole, &args[0], row, writer_room(&writer, NUMBER_ROOM)))
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0
