"""See branching.pxd for what each function promises."""
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from streamdsl._native.expr.elementwise cimport Binary
from streamdsl._native.expr.vector cimport (
    Frame,
    Vector,
    Writer,
    has_value,
    is_null_constant,
    own_valid,
    row_at,
    text,
    text_size,
    to_f64,
    vector_alloc,
    vector_clear,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_F64, KIND_STR

cdef extern from * nogil:
    """
    SD_BINARY(sd_and, uint8_t, uint8_t, x & y)
    SD_BINARY(sd_or, uint8_t, uint8_t, x | y)
    """
    Binary loop_and "sd_and"
    Binary loop_or "sd_or"


# and, or -----------------------------------------------------------------------------------------------------


cdef int combine_logic(Frame* frame, Frame* work, Vector* left, Vector* right, bint stop) except -1 nogil:
    cdef Vector out
    cdef int64_t i, row
    cdef uint8_t* valid
    cdef bint has_left, has_right, decided
    cdef const char* a = left.col.values
    cdef const char* b = right.col.values
    memset(&out, 0, sizeof(Vector))
    vector_alloc(frame, &out, KIND_BOOL)
    if work.m != frame.m:                    # rows that are decided keep their value
        if left.constant:
            memset(out.col.values, left.col.values[0], frame.n)
        else:
            memcpy(out.col.values, left.col.values, frame.n)
    if left.col.valid == NULL and right.col.valid == NULL:
        if stop:
            loop_or(a, left.constant, b, right.constant, out.col.values, work.rows, work.m)
        else:
            loop_and(a, left.constant, b, right.constant, out.col.values, work.rows, work.m)
    else:
        if left.col.valid != NULL and not left.constant:
            out.col.valid = left.col.valid
        valid = own_valid(frame, &out)       # a copy: out has no buffer of left's
        for i in range(work.m):
            row = row_at(work, i)
            has_left = has_value(left, row)
            has_right = has_value(right, row)
            decided = (has_left and a[0 if left.constant else row] == stop) or (
                has_right and b[0 if right.constant else row] == stop)
            out.col.values[row] = stop if decided else not stop
            valid[row] = decided or (has_left and has_right)
    out.constant = left.constant and right.constant
    vector_clear(left)
    left[0] = out
    return 0


cdef int64_t rows_undecided(Frame* frame, const Vector* vector, bint stop, int32_t* rows) noexcept nogil:
    cdef int64_t i, m = 0
    cdef int32_t row
    for i in range(frame.m):
        row = <int32_t>row_at(frame, i)
        rows[m] = row
        m += not (has_value(vector, row) and vector.col.values[row] == stop)
    return m


# when, coalesce ----------------------------------------------------------------------------------------------


cdef int64_t split_rows(
    Frame* frame, const Vector* vector, bint test_value, int16_t part, int16_t* which, int32_t* taken, int32_t* rest,
) noexcept nogil:
    cdef int64_t i, m = 0, left = 0
    cdef int32_t row
    cdef bint yes
    for i in range(frame.m):
        row = <int32_t>row_at(frame, i)
        yes = has_value(vector, row) and (not test_value or vector.col.values[0 if vector.constant else row] != 0)
        taken[m] = row
        rest[left] = row                     # never ahead of i, so it may overwrite the frame's own rows
        m += yes
        left += not yes
        if yes:
            which[row] = part
    return m


cdef int merge_text(Frame* frame, Vector* parts, const int16_t* which, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row
    cdef int32_t size
    cdef const Vector* part
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            part = &parts[which[row]]
            if not has_value(part, row):
                continue
            size = text_size(part, row)
            memcpy(writer_room(&writer, size), text(part, row), size)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef int merge(Frame* frame, int kind, Vector* parts, int n_parts, const int16_t* which, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int k
    cdef bint nulls = False
    cdef uint8_t* valid
    cdef const Vector* part
    for k in range(n_parts):
        nulls = nulls or parts[k].col.valid != NULL
        if kind == KIND_F64 and parts[k].col.kind != 0 and not is_null_constant(&parts[k]):
            to_f64(frame, &parts[k])
    if nulls:
        valid = own_valid(frame, out)
        for i in range(frame.m):
            row = row_at(frame, i)
            valid[row] = has_value(&parts[which[row]], row)
    if kind == KIND_STR:
        return merge_text(frame, parts, which, out)
    vector_alloc(frame, out, kind)
    if kind == KIND_BOOL:
        for i in range(frame.m):
            row = row_at(frame, i)
            part = &parts[which[row]]
            out.col.values[row] = part.col.values[0 if part.constant else row]
    elif kind == KIND_DEC:
        for i in range(frame.m):
            row = row_at(frame, i)
            part = &parts[which[row]]
            memcpy(out.col.values + 16 * row, part.col.values + (0 if part.constant else 16 * row), 16)
    else:
        for i in range(frame.m):
            row = row_at(frame, i)
            part = &parts[which[row]]
            (<uint64_t*>out.col.values)[row] = (<uint64_t*>part.col.values)[0 if part.constant else row]
    return 0


# Filters -----------------------------------------------------------------------------------------------------


cdef void narrow_mask(Frame* frame, const Vector* vector, char* mask) noexcept nogil:
    cdef int64_t row
    cdef const char* values = vector.col.values
    cdef const char* valid = <const char*>vector.col.valid
    if valid == NULL:
        for row in range(frame.n):
            mask[row] &= values[row]
    else:
        for row in range(frame.n):
            mask[row] &= values[row] & valid[row]


cdef int64_t rows_of_mask(const char* mask, int64_t n, int32_t* rows) noexcept nogil:
    cdef int64_t row = 0, k, m = 0
    cdef uint64_t eight
    while row + 8 <= n:
        memcpy(&eight, mask + row, 8)
        if eight != 0:
            for k in range(row, row + 8):
                rows[m] = <int32_t>k
                m += mask[k]
        row += 8
    while row < n:
        rows[m] = <int32_t>row
        m += mask[row]
        row += 1
    return m
