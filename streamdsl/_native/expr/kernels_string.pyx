"""Functions of UTF-8 strings; lengths and offsets count code points. Only letters beyond ASCII need Python."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcmp, memcpy

from streamdsl._native.expr.ops cimport (
    OP_STR_CONTAINS,
    OP_STR_ENDS_WITH,
    OP_STR_LENGTH,
    OP_STR_LOWER,
    OP_STR_SLICE,
    OP_STR_SPLIT_PART,
    OP_STR_STARTS_WITH,
    OP_STR_UPPER,
)
from streamdsl._native.expr.utf8 cimport code_points, offset_of
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Kernel,
    Vector,
    Writer,
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
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_I64, is_valid

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_size, const void* needle, size_t needle_size)


cdef Kernel string_kernel(int op) noexcept:
    if op == OP_STR_LOWER or op == OP_STR_UPPER:
        return change_case
    if op == OP_STR_SLICE or op == OP_STR_SPLIT_PART:
        return part_of_text
    if op == OP_STR_LENGTH:
        return length
    if op == OP_STR_STARTS_WITH or op == OP_STR_ENDS_WITH or op == OP_STR_CONTAINS:
        return look_for
    return NULL


# Case --------------------------------------------------------------------------------------------------------


cdef bint any_beyond_ascii(Frame* frame, const Vector* source, const Vector* out) noexcept nogil:
    cdef int64_t i, k, row
    cdef uint8_t seen = 0
    cdef const uint8_t* bytes
    for i in range(frame.m):
        row = row_at(frame, i)
        if is_valid(&out.col, row):
            bytes = <const uint8_t*>text(source, row)
            for k in range(text_size(source, row)):
                seen |= bytes[k]
    return seen >> 7


cdef void ascii_case(const char* source, int32_t size, char first, char* out) noexcept nogil:
    """Flip the case of the 26 letters from `first` on."""
    cdef int32_t k
    for k in range(size):
        out[k] = source[k] ^ <char>(32 * (<uint8_t>(source[k] - first) < 26))


cdef int unicode_case(bint lower, const char* source, int32_t size, Writer* writer, int64_t row) except -1:
    given = source[:size].decode("utf-8", "surrogateescape")
    changed = (given.lower() if lower else given.upper()).encode("utf-8", "surrogateescape")
    memcpy(writer_room(writer, len(changed)), PyBytes_AS_STRING(changed), PyBytes_GET_SIZE(changed))
    writer_end(writer, row, PyBytes_GET_SIZE(changed))
    return 0


cdef int case_rows(Frame* frame, Instruction* ins, Vector* args, Vector* out, Writer* writer) except -1 nogil:
    cdef int64_t i, row
    cdef int32_t size
    cdef bint lower = ins.op == OP_STR_LOWER
    cdef char first = c"A" if lower else c"a"
    if any_beyond_ascii(frame, &args[0], out):
        with gil:
            for i in range(frame.m):
                row = row_at(frame, i)
                if is_valid(&out.col, row):
                    unicode_case(lower, text(&args[0], row), text_size(&args[0], row), writer, row)
        return 0
    for i in range(frame.m):
        row = row_at(frame, i)
        if is_valid(&out.col, row):
            size = text_size(&args[0], row)
            ascii_case(text(&args[0], row), size, first, writer_room(writer, size))
            writer_end(writer, row, size)
    return 0


cdef int change_case(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    writer_init(&writer, frame, frame.m * 16)
    try:
        case_rows(frame, ins, args, out, &writer)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


# Parts -------------------------------------------------------------------------------------------------------


cdef void slice(const char** source, int64_t* size, int64_t offset, int64_t length) noexcept nogil:
    """length < 0: to the end. A negative offset counts from the end, also when that is before the beginning."""
    cdef int64_t first
    if offset < 0:
        offset += code_points(source[0], size[0])
        if offset < 0:
            length = length + offset if length + offset > 0 or length < 0 else 0
            offset = 0
    first = offset_of(source[0], size[0], offset)
    source[0] += first
    size[0] -= first
    if length >= 0:
        size[0] = offset_of(source[0], size[0], length)


cdef const char* find(const char* source, int64_t size, Instruction* ins) noexcept nogil:
    return <const char*>memmem(source, size, ins.text1, ins.size1)


cdef void split_part(const char** source, int64_t* size, Instruction* ins) noexcept nogil:
    cdef int64_t index = ins.whole
    cdef const char* end = source[0] + size[0]
    cdef const char* at = source[0]
    cdef const char* hit
    if index < 0:
        while True:
            hit = find(at, end - at, ins)
            index += 1
            if hit == NULL:
                break
            at = hit + ins.size1
    # A negative index that is still negative is before the first part, as one too large is behind the last.
    at = source[0]
    hit = find(at, end - at, ins)
    while index > 0 and hit != NULL:
        at = hit + ins.size1
        hit = find(at, end - at, ins)
        index -= 1
    source[0] = at
    size[0] = 0 if index != 0 else (end if hit == NULL else hit) - at


cdef int part_of_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, size
    cdef const char* source
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            source = text(&args[0], row)
            size = text_size(&args[0], row)
            if ins.op == OP_STR_SLICE:
                slice(&source, &size, ins.whole, ins.whole2)
            else:
                split_part(&source, &size, ins)
            memcpy(writer_room(&writer, size), source, size)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef int length(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        (<int64_t*>out.col.values)[row] = code_points(text(&args[0], row), text_size(&args[0], row))
    return 0


# Searching ---------------------------------------------------------------------------------------------------


cdef int look_for(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row, size, wanted
    cdef const char* source
    cdef bint found
    vector_alloc(frame, out, KIND_BOOL)
    for i in range(frame.m):
        row = row_at(frame, i)
        source = text(&args[0], row)
        size = text_size(&args[0], row)
        wanted = text_size(&args[1], row)
        if wanted > size:
            found = False
        elif ins.op == OP_STR_CONTAINS:
            found = memmem(source, size, text(&args[1], row), wanted) != NULL
        elif ins.op == OP_STR_STARTS_WITH:
            found = memcmp(source, text(&args[1], row), wanted) == 0
        else:
            found = memcmp(source + size - wanted, text(&args[1], row), wanted) == 0
        (<uint8_t*>out.col.values)[row] = found
    return 0
