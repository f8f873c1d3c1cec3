"""The columnar batch: what flows between operators.

A batch is a plain C structure with atomic reference counts, so that it moves between threads without
the GIL. Its columns share buffers: slicing, selecting and renaming columns copy no values.

Ownership, everywhere in `_native`: a function borrows what it is given and the caller releases what it is
returned. An operator's `process` borrows its batch; it retains it to keep it longer.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from streamdsl._native.includes.short_text cimport copy_eights

# The six physical kinds of a column. Narrow types are widened on the way in and narrowed on the way out.
cdef enum:
    KIND_NONE = 0    # an absent system column
    KIND_BOOL = 1    # uint8_t, 0 or 1
    KIND_I64 = 2     # int64_t: signed integers, timestamps (ms), dates (days)
    KIND_U64 = 3     # uint64_t: unsigned 64-bit integers (narrower unsigned are KIND_I64)
    KIND_F64 = 4     # double: float32 and float64
    KIND_STR = 5     # bytes with offsets: string, binary, and pass-through types in their text form
    KIND_DEC = 6     # 128-bit integers, 16 bytes each: decimals; the scale stands in the type

# System columns travel beside the named ones.
cdef enum:
    SYS_TIME = 0     # event time, ms, KIND_I64, never null once past the source
    SYS_ORDINAL = 1  # the row's place within its task, KIND_I64; set by a fork, used by a merge
    SYS_KEY = 2      # encoded key, KIND_STR; null = null key
    SYS_SLOT = 3     # slot of the key in the task's key table, KIND_I64
    SYS_COUNT = 4

cdef struct Buffer:
    int64_t refs                             # atomic
    int64_t size                             # bytes
    char* data
    void* owner                              # foreign memory: passed to release
    void (*release)(void* owner) noexcept nogil

cdef struct Column:
    int kind
    char* values                             # see the kinds; KIND_STR: base address that the offsets count from
    int32_t* offsets                         # KIND_STR: n + 1 entries; else NULL
    uint8_t* valid                           # one byte a row, 1 = has a value; NULL = every row has one
    Buffer* values_buffer                    # owners of the three above; NULL = not owned (static memory)
    Buffer* offsets_buffer
    Buffer* valid_buffer

cdef struct Batch:
    int64_t refs                             # atomic
    int32_t n                                # rows
    int32_t width                            # named columns
    int64_t read_ns                          # monotonic clock when the (oldest) record was read; 0 = unknown
    Column sys[4]                            # SYS_*; kind KIND_NONE = absent
    Column* columns                          # width entries

cdef Buffer* buffer_new(int64_t size) except NULL nogil                   # and 16 bytes more, which may be written over
cdef void buffer_retain(Buffer* buffer) noexcept nogil
cdef void buffer_release(Buffer* buffer) noexcept nogil

cdef void column_clear(Column* column) noexcept nogil             # release the buffers, kind = KIND_NONE
cdef void column_share(Column* target, const Column* source) noexcept nogil   # target = source, retained
cdef int column_alloc(Column* target, int kind, int64_t n, int64_t n_bytes) except -1 nogil
# column_alloc: uninitialised values for n rows (KIND_STR: offsets for n rows and n_bytes bytes); all valid
cdef int column_alloc_valid(Column* target, int64_t n) except -1 nogil   # add a validity array, all 1
cdef void column_drop_valid(Column* column) noexcept nogil                # every row has a value from now on
cdef int column_fill_null(Column* target, int kind, int64_t n) except -1 nogil   # a column of n nulls
cdef int column_slice(Column* target, const Column* source, int64_t offset) except -1 nogil
cdef int column_take(Column* target, const Column* source, const int32_t* rows, int64_t n) except -1 nogil
cdef int column_concat(Column* target, Column** parts, int64_t* counts, int n_parts) except -1 nogil

cdef Batch* batch_new(int32_t n, int32_t width) except NULL nogil        # all columns absent, refs = 1
cdef void batch_retain(Batch* batch) noexcept nogil
cdef void batch_release(Batch* batch) noexcept nogil
cdef Batch* batch_slice(Batch* batch, int32_t offset, int32_t n) except NULL nogil
cdef Batch* batch_take(Batch* batch, const int32_t* rows, int32_t n) except NULL nogil
cdef Batch* batch_concat(Batch** parts, int n_parts) except NULL nogil   # same columns in each
cdef Batch* batch_share(Batch* batch, int32_t width) except NULL nogil
# batch_share: same rows and system columns, room for `width` named columns (all absent)
cdef bint batch_sound(const Batch* batch) noexcept nogil                 # n rows in each column, offsets ascend; NULL is sound
cdef int64_t batch_bytes(Batch* batch) noexcept nogil                    # approximate size, for budgets


cdef inline int kind_size(int kind) noexcept nogil:
    # Bytes of a value of a fixed size; 0 for the others.
    if kind == KIND_BOOL:
        return 1
    return 16 if kind == KIND_DEC else (0 if kind == KIND_STR or kind == KIND_NONE else 8)


cdef inline int64_t* i64(const Column* column) noexcept nogil:
    return <int64_t*>column.values


cdef inline double* f64(const Column* column) noexcept nogil:
    return <double*>column.values


cdef inline uint8_t* b8(const Column* column) noexcept nogil:
    return <uint8_t*>column.values


cdef inline bint is_valid(const Column* column, int64_t row) noexcept nogil:
    return column.valid == NULL or column.valid[row] != 0


# A growing string column: append row after row, then finish into a Column.
cdef struct StringBuilder:
    Buffer* bytes
    int64_t used
    Buffer* offsets
    Buffer* valid                            # NULL until the first null
    int64_t n
    int64_t capacity

cdef int strings_init(StringBuilder* builder, int64_t n_hint, int64_t bytes_hint) except -1 nogil
cdef char* strings_reserve(StringBuilder* builder, int64_t n_bytes) except NULL nogil   # room for n_bytes more at the end
cdef int strings_end_row(StringBuilder* builder, int64_t n_bytes) except -1 nogil       # the row took n_bytes of the reserved
cdef int strings_append(StringBuilder* builder, const char* data, int64_t n_bytes) except -1 nogil
# For short strings: they are copied by whole words, so `data` must be readable up to the next multiple of 8 bytes.
cdef inline int strings_append_eights(StringBuilder* builder, const char* data, int64_t n_bytes) except -1 nogil:
    if <uint64_t>(n_bytes - 1) >= 16 or builder.used + n_bytes > builder.bytes.size or builder.n == builder.capacity:
        return strings_append(builder, data, n_bytes)
    copy_eights(builder.bytes.data + builder.used, data, n_bytes)
    builder.used += n_bytes
    builder.n += 1
    (<int32_t*>builder.offsets.data)[builder.n] = <int32_t>builder.used
    if builder.valid != NULL:
        builder.valid.data[builder.n - 1] = 1
    return 0

cdef int strings_append_null(StringBuilder* builder) except -1 nogil
cdef int strings_finish(StringBuilder* builder, Column* target) except -1 nogil         # gives the buffers away
cdef void strings_truncate(StringBuilder* builder, int64_t n) noexcept nogil             # forget the rows n ..
cdef void strings_free(StringBuilder* builder) noexcept nogil
