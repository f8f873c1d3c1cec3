"""See vector.pxd for what each function promises."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport (
    KIND_BOOL,
    KIND_DEC,
    KIND_F64,
    KIND_I64,
    KIND_STR,
    KIND_U64,
    buffer_new,
    buffer_release,
    buffer_retain,
    column_clear,
    column_share,
    kind_size,
)
from streamdsl._native.includes.atomic cimport atomic_load

from streamdsl.errors import RecordError

cdef enum:
    MAX_STRING_BYTES = 2147483647

cdef char ZEROS[16]                          # the value, offsets and validity of a constant null
memset(ZEROS, 0, sizeof(ZEROS))


# Memory ------------------------------------------------------------------------------------------------------


cdef Buffer* pool_take(Pool* pool, int64_t size) except NULL nogil:
    cdef int i
    cdef Buffer* buffer
    cdef int64_t rounded = (size + 255) & ~<int64_t>255 if size <= 4096 else (size + 4095) & ~<int64_t>4095
    for i in range(pool.used):
        buffer = pool.slots[i]
        # A small result must not hold a large buffer while it waits downstream.
        if buffer.size >= size and buffer.size <= 4 * rounded + 4096 and atomic_load(&buffer.refs) == 1:
            buffer_retain(buffer)
            return buffer
    buffer = buffer_new(rounded)
    buffer_retain(buffer)
    if pool.used < POOL_SLOTS:
        pool.slots[pool.used] = buffer
        pool.used += 1
    else:
        buffer_release(pool.slots[pool.victim])
        pool.slots[pool.victim] = buffer
        pool.victim = (pool.victim + 1) % POOL_SLOTS
    return buffer


cdef void pool_clear(Pool* pool) noexcept nogil:
    cdef int i
    for i in range(pool.used):
        buffer_release(pool.slots[i])
    pool.used = 0


cdef int vector_alloc(Frame* frame, Vector* out, int kind) except -1 nogil:
    out.col.values_buffer = pool_take(frame.pool, frame.n * kind_size(kind))
    out.col.values = out.col.values_buffer.data
    out.col.kind = kind
    return 0


cdef void vector_clear(Vector* vector) noexcept nogil:
    column_clear(&vector.col)
    vector.constant = False


cdef void vector_share(Vector* target, const Vector* source) noexcept nogil:
    column_share(&target.col, &source.col)
    target.constant = source.constant


cdef void vector_null(Vector* out, int kind) noexcept nogil:
    memset(out, 0, sizeof(Vector))
    out.constant = True
    out.col.kind = kind
    out.col.values = ZEROS
    out.col.offsets = <int32_t*>ZEROS if kind == KIND_STR else NULL
    out.col.valid = <uint8_t*>ZEROS


cdef int spread_text(Frame* frame, const Vector* vector, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t row
    cdef int32_t size = text_size(vector, 0)
    writer_init(&writer, frame, frame.n * size)
    try:
        for row in range(frame.n):
            memcpy(writer_room(&writer, size), text(vector, 0), size)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef int vector_spread(Frame* frame, Vector* vector) except -1 nogil:
    cdef Vector out
    cdef int64_t row
    cdef int64_t value
    if not vector.constant:
        return 0
    memset(&out, 0, sizeof(Vector))
    if vector.col.kind == KIND_STR:
        spread_text(frame, vector, &out)
    else:
        vector_alloc(frame, &out, vector.col.kind)
        if vector.col.kind == KIND_BOOL:
            memset(out.col.values, vector.col.values[0], frame.n)
        elif vector.col.kind == KIND_DEC:
            for row in range(frame.n):
                memcpy(out.col.values + 16 * row, vector.col.values, 16)
        else:
            value = (<int64_t*>vector.col.values)[0]
            for row in range(frame.n):
                (<int64_t*>out.col.values)[row] = value
    if is_null_constant(vector):
        memset(own_valid(frame, &out), 0, frame.n)
    vector_clear(vector)
    vector[0] = out
    return 0


# Nulls -------------------------------------------------------------------------------------------------------


cdef int combine_valid(Frame* frame, Vector* args, int n_args, Vector* out) except -1 nogil:
    cdef int i
    cdef int64_t row
    cdef uint8_t* target
    cdef const uint8_t* other
    cdef bint own = False
    for i in range(n_args):
        if args[i].constant or args[i].col.valid == NULL:
            continue
        if out.col.valid == NULL:
            out.col.valid = args[i].col.valid
            out.col.valid_buffer = args[i].col.valid_buffer
            buffer_retain(out.col.valid_buffer)
        elif out.col.valid != args[i].col.valid:
            target = out.col.valid if own else own_valid(frame, out)
            own = True
            other = args[i].col.valid
            # Undefined rows are combined too: that is harmless, and faster than leaving them out.
            for row in range(frame.n):
                target[row] &= other[row]
    return 0


cdef uint8_t* own_valid(Frame* frame, Vector* out) except NULL nogil:
    cdef Buffer* buffer = pool_take(frame.pool, frame.n)
    if out.col.valid == NULL:
        memset(buffer.data, 1, frame.n)
    else:
        memcpy(buffer.data, out.col.valid, frame.n)
    buffer_release(out.col.valid_buffer)
    out.col.valid_buffer = buffer
    out.col.valid = <uint8_t*>buffer.data
    return out.col.valid


# Kinds -------------------------------------------------------------------------------------------------------


cdef int to_f64(Frame* frame, Vector* vector) except -1 nogil:
    cdef Vector out
    cdef int64_t i, n = 1 if vector.constant else frame.n
    cdef double* target
    if vector.col.kind == KIND_F64:
        return 0
    memset(&out, 0, sizeof(Vector))
    vector_alloc(frame, &out, KIND_F64)
    target = <double*>out.col.values
    if vector.col.kind == KIND_I64:
        for i in range(n):
            target[i] = <double>(<int64_t*>vector.col.values)[i]
    elif vector.col.kind == KIND_U64:
        for i in range(n):
            target[i] = <double>(<uint64_t*>vector.col.values)[i]
    else:
        for i in range(n):
            target[i] = <double>(<uint8_t*>vector.col.values)[i]
    buffer_release(vector.col.values_buffer)
    vector.col.values_buffer = out.col.values_buffer
    vector.col.values = out.col.values
    vector.col.kind = KIND_F64
    return 0


cdef int fail(Frame* frame, int64_t row, const char* reason) except -1 nogil:
    with gil:
        raise RecordError(row if frame.error_row < 0 else frame.error_row, reason.decode())


# Strings -----------------------------------------------------------------------------------------------------


cdef int writer_init(Writer* writer, Frame* frame, int64_t bytes_hint) except -1 nogil:
    memset(writer, 0, sizeof(Writer))
    writer.pool = frame.pool
    writer.bytes = pool_take(frame.pool, bytes_hint if bytes_hint > 64 else 64)
    writer.offsets_buffer = pool_take(frame.pool, (frame.n + 1) * 4)
    writer.offsets = <int32_t*>writer.offsets_buffer.data
    writer.offsets[0] = 0
    return 0


cdef int writer_grow(Writer* writer, int64_t n_bytes) except -1 nogil:
    cdef Buffer* larger
    if writer.used + n_bytes > MAX_STRING_BYTES:
        with gil:
            raise OverflowError("a string column of one batch holds at most 2 GiB; use smaller batches")
    larger = pool_take(writer.pool, 2 * (writer.used + n_bytes))
    # All of it: a row may have been begun behind `used`.
    memcpy(larger.data, writer.bytes.data, writer.bytes.size)
    buffer_release(writer.bytes)
    writer.bytes = larger
    return 0


cdef int writer_finish(Writer* writer, Frame* frame, Vector* out) except -1 nogil:
    while writer.next < frame.n:
        writer.next += 1
        writer.offsets[writer.next] = <int32_t>writer.used
    out.col.kind = KIND_STR
    out.col.values_buffer = writer.bytes
    out.col.values = writer.bytes.data
    out.col.offsets_buffer = writer.offsets_buffer
    out.col.offsets = writer.offsets
    writer.bytes = NULL
    writer.offsets_buffer = NULL
    return 0


cdef void writer_free(Writer* writer) noexcept nogil:
    buffer_release(writer.bytes)
    buffer_release(writer.offsets_buffer)
