"""Texts put together from values."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from streamdsl._native.expr.kernels_cast cimport write_value
from streamdsl._native.expr.ops cimport OP_CONCAT, OP_FORMAT
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Kernel,
    Vector,
    Writer,
    has_value,
    row_at,
    text,
    text_size,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_F64, KIND_I64, KIND_STR, is_valid
from streamdsl._native.serdes.number_text cimport FIXED_ROOM, NUMBER_ROOM, fixed_text

from streamdsl.errors import RecordError

cdef enum:
    PLAIN = -1                               # styles of an argument of format: as it is,
    PYTHON = -2                              # through Python's format(), or with 0, 1, 2 ... decimals


cdef Kernel text_kernel(int op) noexcept:
    if op == OP_CONCAT:
        return concat
    if op == OP_FORMAT:
        return format_rows
    return NULL


# concat ------------------------------------------------------------------------------------------------------


cdef int concat_rows(Frame* frame, Instruction* ins, Vector* args, Vector* out, Writer* writer) except -1 nogil:
    cdef int64_t i, row, used
    cdef int32_t size
    cdef int k
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            continue
        used = 0
        for k in range(ins.n_args):
            size = text_size(&args[k], row)
            memcpy(writer_room(writer, used + size) + used, text(&args[k], row), size)
            used += size
        writer_end(writer, row, used)
    return 0


cdef int concat(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    writer_init(&writer, frame, frame.m * 32)
    try:
        concat_rows(frame, ins, args, out, &writer)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


# format ------------------------------------------------------------------------------------------------------


cdef object python_value(const Vector* source, int64_t row):
    cdef int64_t at = 0 if source.constant else row
    if source.col.kind == KIND_STR:
        return text(source, row)[:text_size(source, row)].decode("utf-8", "surrogateescape")
    if source.col.kind == KIND_F64:
        return (<double*>source.col.values)[at]
    if source.col.kind == KIND_I64:
        return (<int64_t*>source.col.values)[at]
    if source.col.kind == KIND_BOOL:
        return source.col.values[at] != 0
    return (<uint64_t*>source.col.values)[at]


cdef int64_t format_python(Frame* frame, str spec, const Vector* source, int64_t row, Writer* writer, int64_t used) except -1:
    try:
        done = format(python_value(source, row), spec).encode("utf-8", "surrogateescape")
    except ValueError as error:
        raise RecordError(row if frame.error_row < 0 else frame.error_row, f"format: {error}") from None
    memcpy(writer_room(writer, used + len(done)) + used, PyBytes_AS_STRING(done), PyBytes_GET_SIZE(done))
    return PyBytes_GET_SIZE(done)


cdef double as_double(const Vector* source, int64_t row) noexcept nogil:
    cdef int64_t at = 0 if source.constant else row
    if source.col.kind == KIND_F64:
        return (<double*>source.col.values)[at]
    if source.col.kind == KIND_I64:
        return <double>(<int64_t*>source.col.values)[at]
    if source.col.kind == KIND_BOOL:
        return source.col.values[at]
    return <double>(<uint64_t*>source.col.values)[at]


cdef int64_t format_value(
    Frame* frame, Instruction* ins, int k, const Vector* source, int64_t row, Writer* writer, int64_t used,
) except -1 nogil:
    cdef int style = (<int*>ins.text2)[k]
    cdef int64_t size
    if not has_value(source, row):
        memcpy(writer_room(writer, used + 4) + used, "null", 4)
        return 4
    if source.col.kind == KIND_STR and style == PLAIN:
        size = text_size(source, row)
        memcpy(writer_room(writer, used + size) + used, text(source, row), size)
        return size
    if style == PLAIN:
        return write_value(source.col.kind, 0, source, row, writer_room(writer, used + NUMBER_ROOM) + used)
    if style >= 0 and source.col.kind != KIND_STR:
        return fixed_text(as_double(source, row), style, writer_room(writer, used + FIXED_ROOM + style) + used)
    with gil:
        return format_python(frame, (<tuple>ins.params)[1][k], source, row, writer, used)


cdef int64_t put_piece(Instruction* ins, int k, Writer* writer, int64_t used) except -1 nogil:
    """Piece k of the pieces that stand one after another in text1; their ends are behind the styles in text2."""
    cdef const int* ends = <const int*>ins.text2 + ins.n_args
    cdef int first = ends[k - 1] if k > 0 else 0
    memcpy(writer_room(writer, used + ends[k] - first) + used, ins.text1 + first, ends[k] - first)
    return ends[k] - first


cdef int format_rows(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, used
    cdef int k
    writer_init(&writer, frame, frame.m * 64)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            used = put_piece(ins, 0, &writer, 0)
            for k in range(ins.n_args):
                used += format_value(frame, ins, k, &args[k], row, &writer, used)
                used += put_piece(ins, k + 1, &writer, used)
            writer_end(&writer, row, used)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0
