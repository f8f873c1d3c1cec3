"""See batch.pxd for what each function promises."""
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from streamdsl._native.includes.atomic cimport atomic_add
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.includes.short_text cimport copy_text

cdef enum:
    MAX_STRING_BYTES = 2147483647            # offsets are 32-bit, as Arrow's utf8


cdef int out_of_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for a batch")


cdef int too_many_bytes() except -1 nogil:
    with gil:
        raise OverflowError("a string column of one batch holds at most 2 GiB; use smaller batches")


cdef Buffer* buffer_new(int64_t size) except NULL nogil:
    # Header and data in one allocation; the header is a multiple of 16 bytes, so the data are aligned.
    # The slack lets short strings be written as whole words.
    cdef Buffer* buffer = <Buffer*>malloc(64 + size + 16)
    if buffer == NULL:
        out_of_memory()
    buffer.refs = 1
    buffer.size = size
    buffer.data = <char*>buffer + 64
    buffer.owner = NULL
    buffer.release = NULL
    return buffer


cdef void buffer_retain(Buffer* buffer) noexcept nogil:
    if buffer != NULL:
        CHECK(buffer.refs > 0, "a buffer that is retained is alive")
        atomic_add(&buffer.refs, 1)


cdef void buffer_release(Buffer* buffer) noexcept nogil:
    CHECK(buffer == NULL or buffer.refs > 0, "a buffer is released no more often than retained")
    if buffer != NULL and atomic_add(&buffer.refs, -1) == 0:
        if buffer.release != NULL:
            buffer.release(buffer.owner)
        free(buffer)


cdef void column_clear(Column* column) noexcept nogil:
    buffer_release(column.values_buffer)
    buffer_release(column.offsets_buffer)
    buffer_release(column.valid_buffer)
    memset(column, 0, sizeof(Column))


cdef void column_share(Column* target, const Column* source) noexcept nogil:
    target[0] = source[0]
    buffer_retain(target.values_buffer)
    buffer_retain(target.offsets_buffer)
    buffer_retain(target.valid_buffer)


cdef int column_alloc(Column* target, int kind, int64_t n, int64_t n_bytes) except -1 nogil:
    cdef int64_t size = n_bytes if kind == KIND_STR else n * kind_size(kind)
    memset(target, 0, sizeof(Column))
    if kind == KIND_STR:
        if n_bytes > MAX_STRING_BYTES:
            too_many_bytes()
        target.offsets_buffer = buffer_new((n + 1) * 4)
        target.offsets = <int32_t*>target.offsets_buffer.data
        target.offsets[0] = 0
    target.values_buffer = buffer_new(size)
    target.values = target.values_buffer.data
    target.kind = kind
    return 0


cdef int column_alloc_valid(Column* target, int64_t n) except -1 nogil:
    target.valid_buffer = buffer_new(n)
    target.valid = <uint8_t*>target.valid_buffer.data
    memset(target.valid, 1, n)
    return 0


cdef void column_drop_valid(Column* column) noexcept nogil:
    buffer_release(column.valid_buffer)
    column.valid_buffer = NULL
    column.valid = NULL


cdef int column_fill_null(Column* target, int kind, int64_t n) except -1 nogil:
    column_alloc(target, kind, n, 0)
    if kind == KIND_STR:
        memset(target.offsets, 0, (n + 1) * 4)
    else:
        memset(target.values, 0, n * kind_size(kind))
    column_alloc_valid(target, n)
    memset(target.valid, 0, n)
    return 0


cdef int column_slice(Column* target, const Column* source, int64_t offset) except -1 nogil:
    column_share(target, source)
    if source.valid != NULL:
        target.valid = source.valid + offset
    if source.kind == KIND_STR:
        target.offsets = source.offsets + offset
    elif source.kind != KIND_NONE:
        target.values = source.values + offset * kind_size(source.kind)
    return 0


cdef int take_strings(Column* target, const Column* source, const int32_t* rows, int64_t n) except -1 nogil:
    cdef int64_t i, total = 0
    cdef int32_t row, size, at = 0, last = 0
    cdef const int32_t* offsets = source.offsets
    cdef const char* end
    for i in range(n):
        row = rows[i]
        total += offsets[row + 1] - offsets[row]
        last = max(last, offsets[row + 1])
    end = source.values + last
    column_alloc(target, KIND_STR, n, total)
    for i in range(n):
        row = rows[i]
        size = offsets[row + 1] - offsets[row]
        copy_text(target.values + at, source.values + offsets[row], size, end)
        at += size
        target.offsets[i + 1] = at
    return 0


cdef int column_take(Column* target, const Column* source, const int32_t* rows, int64_t n) except -1 nogil:
    cdef int64_t i
    cdef int64_t* out
    cdef int64_t* values
    if source.kind == KIND_NONE:
        memset(target, 0, sizeof(Column))
        return 0
    if source.kind == KIND_STR:
        take_strings(target, source, rows, n)
    else:
        column_alloc(target, source.kind, n, 0)
        if source.kind == KIND_BOOL:
            for i in range(n):
                target.values[i] = source.values[rows[i]]
        elif source.kind == KIND_DEC:
            for i in range(n):
                memcpy(target.values + 16 * i, source.values + 16 * <int64_t>rows[i], 16)
        else:
            out = <int64_t*>target.values
            values = <int64_t*>source.values
            for i in range(n):
                out[i] = values[rows[i]]
    if source.valid != NULL:
        target.valid_buffer = buffer_new(n)
        target.valid = <uint8_t*>target.valid_buffer.data
        for i in range(n):
            target.valid[i] = source.valid[rows[i]]
    return 0


cdef int column_concat(Column* target, Column** parts, int64_t* counts, int n_parts) except -1 nogil:
    cdef int p
    cdef int64_t i, n = 0, total = 0, at = 0
    cdef int32_t base
    cdef int kind = parts[0].kind
    cdef bint nulls = False
    for p in range(n_parts):
        n += counts[p]
        nulls = nulls or parts[p].valid != NULL
        if kind == KIND_STR:
            total += parts[p].offsets[counts[p]] - parts[p].offsets[0]
    if kind == KIND_NONE:
        memset(target, 0, sizeof(Column))
        return 0
    column_alloc(target, kind, n, total)
    if nulls:
        column_alloc_valid(target, n)
    total = 0
    for p in range(n_parts):
        if kind == KIND_STR:
            base = parts[p].offsets[0]
            memcpy(target.values + total, parts[p].values + base, parts[p].offsets[counts[p]] - base)
            for i in range(counts[p]):
                target.offsets[at + i + 1] = <int32_t>(total + parts[p].offsets[i + 1] - base)
            total += parts[p].offsets[counts[p]] - base
        else:
            memcpy(target.values + at * kind_size(kind), parts[p].values, counts[p] * kind_size(kind))
        if nulls and parts[p].valid != NULL:
            memcpy(target.valid + at, parts[p].valid, counts[p])
        at += counts[p]
    return 0


cdef Batch* batch_new(int32_t n, int32_t width) except NULL nogil:
    # The columns follow the batch in one zeroed allocation: absent until filled.
    cdef Batch* batch = <Batch*>calloc(1, sizeof(Batch) + width * sizeof(Column))
    if batch == NULL:
        out_of_memory()
    batch.refs = 1
    batch.n = n
    batch.width = width
    batch.columns = <Column*>(<char*>batch + sizeof(Batch))
    return batch


cdef void batch_retain(Batch* batch) noexcept nogil:
    atomic_add(&batch.refs, 1)


cdef void batch_release(Batch* batch) noexcept nogil:
    cdef int i
    if batch == NULL or atomic_add(&batch.refs, -1) != 0:
        return
    for i in range(SYS_COUNT):
        column_clear(&batch.sys[i])
    for i in range(batch.width):
        column_clear(&batch.columns[i])
    free(batch)


cdef Batch* batch_share(Batch* batch, int32_t width) except NULL nogil:
    cdef int i
    cdef Batch* out = batch_new(batch.n, width)
    out.read_ns = batch.read_ns
    for i in range(SYS_COUNT):
        column_share(&out.sys[i], &batch.sys[i])
    return out


cdef Batch* batch_slice(Batch* batch, int32_t offset, int32_t n) except NULL nogil:
    cdef int i
    cdef Batch* out = batch_new(n, batch.width)
    out.read_ns = batch.read_ns
    for i in range(SYS_COUNT):
        column_slice(&out.sys[i], &batch.sys[i], offset)
    for i in range(batch.width):
        column_slice(&out.columns[i], &batch.columns[i], offset)
    return out


cdef Batch* batch_take(Batch* batch, const int32_t* rows, int32_t n) except NULL nogil:
    cdef int i
    cdef Batch* out = batch_new(n, batch.width)
    out.read_ns = batch.read_ns
    for i in range(batch.width):
        column_take(&out.columns[i], &batch.columns[i], rows, n)
    for i in range(SYS_COUNT):
        if not share_taken(out, batch, &out.sys[i], &batch.sys[i]):
            column_take(&out.sys[i], &batch.sys[i], rows, n)
    return out


cdef bint share_taken(Batch* out, Batch* batch, Column* target, const Column* source) noexcept nogil:
    # Event time and key mostly are columns of the record: what has been taken of them serves twice.
    cdef int i
    if source.kind == KIND_NONE:
        return False
    for i in range(batch.width):
        if (batch.columns[i].values == source.values and batch.columns[i].offsets == source.offsets
                and batch.columns[i].valid == source.valid and batch.columns[i].kind == source.kind):
            column_share(target, &out.columns[i])
            return True
    return False


cdef Batch* batch_concat(Batch** parts, int n_parts) except NULL nogil:
    cdef int i, p
    cdef int32_t n = 0
    cdef bint everywhere
    cdef Batch* out
    cdef Column** columns = <Column**>malloc(n_parts * (sizeof(Column*) + 8))
    cdef int64_t* counts = <int64_t*>(columns + n_parts)
    if columns == NULL:
        out_of_memory()
    for p in range(n_parts):
        counts[p] = parts[p].n
        n += parts[p].n
    out = batch_new(n, parts[0].width)
    out.read_ns = parts[0].read_ns
    for i in range(SYS_COUNT + out.width):
        everywhere = True
        for p in range(n_parts):
            columns[p] = &parts[p].sys[i] if i < SYS_COUNT else &parts[p].columns[i - SYS_COUNT]
            everywhere = everywhere and columns[p].kind != KIND_NONE
        if not everywhere:       # a system column that only some parts have is worth nothing
            continue
        column_concat(&out.sys[i] if i < SYS_COUNT else &out.columns[i - SYS_COUNT], columns, counts, n_parts)
    free(columns)
    return out


cdef bint column_sound(const Column* column, int64_t n) noexcept nogil:
    cdef int64_t row, size
    if column.kind == KIND_NONE:
        return True
    if column.valid != NULL:
        for row in range(n):
            if column.valid[row] > 1:
                return False
    if column.kind == KIND_STR:
        if column.offsets[0] < 0:
            return False
        for row in range(n):
            if column.offsets[row] > column.offsets[row + 1]:
                return False
        size = column.offsets[n]
    else:
        size = n * kind_size(column.kind)
    # Foreign memory does not say how large it is.
    if column.values_buffer == NULL or column.values_buffer.owner != NULL:
        return True
    return column.values_buffer.data <= column.values and column.values + size <= column.values_buffer.data + column.values_buffer.size


cdef bint batch_sound(const Batch* batch) noexcept nogil:
    cdef int i
    if batch == NULL:
        return True
    if batch.refs <= 0 or batch.n < 0:
        return False
    for i in range(SYS_COUNT):
        if not column_sound(&batch.sys[i], batch.n):
            return False
    for i in range(batch.width):
        if not column_sound(&batch.columns[i], batch.n):
            return False
    return True


cdef int64_t batch_bytes(Batch* batch) noexcept nogil:
    cdef int i
    cdef int64_t total = sizeof(Batch)
    for i in range(batch.width):
        if batch.columns[i].kind == KIND_STR:
            total += 4 * batch.n + batch.columns[i].offsets[batch.n] - batch.columns[i].offsets[0]
        else:
            total += max(8, kind_size(batch.columns[i].kind)) * <int64_t>batch.n
    return total


cdef int strings_init(StringBuilder* builder, int64_t n_hint, int64_t bytes_hint) except -1 nogil:
    memset(builder, 0, sizeof(StringBuilder))
    builder.capacity = n_hint if n_hint > 8 else 8
    builder.offsets = buffer_new((builder.capacity + 1) * 4)
    (<int32_t*>builder.offsets.data)[0] = 0
    builder.bytes = buffer_new(bytes_hint if bytes_hint > 64 else 64)
    return 0


cdef Buffer* grown(Buffer* old, int64_t used, int64_t size) except NULL nogil:
    cdef Buffer* new = buffer_new(size)
    memcpy(new.data, old.data, used)
    buffer_release(old)
    return new


cdef char* strings_reserve(StringBuilder* builder, int64_t n_bytes) except NULL nogil:
    if builder.used + n_bytes > MAX_STRING_BYTES:
        too_many_bytes()
    if builder.used + n_bytes > builder.bytes.size:
        builder.bytes = grown(builder.bytes, builder.used, 2 * (builder.used + n_bytes))
    return builder.bytes.data + builder.used


cdef int strings_end_row(StringBuilder* builder, int64_t n_bytes) except -1 nogil:
    if builder.n == builder.capacity:
        builder.offsets = grown(builder.offsets, (builder.n + 1) * 4, (2 * builder.capacity + 1) * 4)
        if builder.valid != NULL:
            builder.valid = grown(builder.valid, builder.n, 2 * builder.capacity)
        builder.capacity *= 2
    builder.used += n_bytes
    builder.n += 1
    (<int32_t*>builder.offsets.data)[builder.n] = <int32_t>builder.used
    if builder.valid != NULL:
        builder.valid.data[builder.n - 1] = 1
    return 0


cdef int strings_append(StringBuilder* builder, const char* data, int64_t n_bytes) except -1 nogil:
    cdef char* target = strings_reserve(builder, n_bytes)
    if n_bytes > 0:                      # an empty text may have no bytes to point at
        memcpy(target, data, n_bytes)
    strings_end_row(builder, n_bytes)
    return 0


cdef int strings_append_null(StringBuilder* builder) except -1 nogil:
    if builder.valid == NULL:
        builder.valid = buffer_new(builder.capacity)
        memset(builder.valid.data, 1, builder.n)
    strings_end_row(builder, 0)
    builder.valid.data[builder.n - 1] = 0
    return 0


cdef int strings_finish(StringBuilder* builder, Column* target) except -1 nogil:
    memset(target, 0, sizeof(Column))
    target.kind = KIND_STR
    target.values_buffer = builder.bytes
    target.values = builder.bytes.data
    target.offsets_buffer = builder.offsets
    target.offsets = <int32_t*>builder.offsets.data
    if builder.valid != NULL:
        target.valid_buffer = builder.valid
        target.valid = <uint8_t*>builder.valid.data
    memset(builder, 0, sizeof(StringBuilder))
    return 0


cdef void strings_truncate(StringBuilder* builder, int64_t n) noexcept nogil:
    if n < builder.n:
        builder.n = n
        builder.used = (<int32_t*>builder.offsets.data)[n]


cdef void strings_free(StringBuilder* builder) noexcept nogil:
    buffer_release(builder.bytes)
    buffer_release(builder.offsets)
    buffer_release(builder.valid)
    memset(builder, 0, sizeof(StringBuilder))
