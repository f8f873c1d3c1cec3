"""Columns to key bytes.

One string column encodes as its bytes, as Kafka's StringSerializer does, so that the shards agree with a topic keyed
by it. Everything else is tagged and injective: a tag, then eight bytes big-endian, or a length and the bytes.
A null component makes a null key; −0.0 is 0.0; every NaN is one key.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from streamdsl._native.flow.batch cimport (
    KIND_BOOL, KIND_DEC, KIND_F64, KIND_STR, KIND_U64, SYS_KEY, SYS_SLOT, StringBuilder, batch_share, column_clear,
    column_share, is_valid,
    strings_append_null, strings_end_row, strings_finish, strings_init, strings_reserve,
)


cdef int64_t component_size(const Column* column, int64_t row) noexcept nogil:
    if column.kind == KIND_BOOL:
        return 2
    if column.kind == KIND_STR:
        return 5 + column.offsets[row + 1] - column.offsets[row]
    return 17 if column.kind == KIND_DEC else 9


cdef inline char* put_big_endian(char* out, uint64_t value) noexcept nogil:
    cdef int i
    for i in range(8):
        out[i] = <char>(value >> (56 - 8 * i))
    return out + 8


cdef uint64_t float_bits(double value) noexcept nogil:
    cdef uint64_t bits
    if value == 0.0:
        value = 0.0
        return 0
    if value != value:
        return <uint64_t>0x7FF8000000000000
    memcpy(&bits, &value, 8)
    return bits


cdef char* put_component(char* out, const Column* column, int64_t row) noexcept nogil:
    cdef uint32_t size
    if column.kind == KIND_BOOL:
        out[0] = TAG_BOOL
        out[1] = column.values[row]
        return out + 2
    if column.kind == KIND_STR:
        size = <uint32_t>(column.offsets[row + 1] - column.offsets[row])
        out[0] = TAG_STR
        memcpy(out + 1, &size, 4)
        memcpy(out + 5, column.values + column.offsets[row], size)
        return out + 5 + size
    if column.kind == KIND_F64:
        out[0] = TAG_F64
        return put_big_endian(out + 1, float_bits((<double*>column.values)[row]))
    if column.kind == KIND_DEC:
        out[0] = TAG_DEC
        # The upper half first, as a number is written.
        put_big_endian(out + 1, (<uint64_t*>(column.values + 16 * row))[1])
        return put_big_endian(out + 9, (<uint64_t*>(column.values + 16 * row))[0])
    out[0] = TAG_U64 if column.kind == KIND_U64 else TAG_I64
    return put_big_endian(out + 1, (<uint64_t*>column.values)[row])


cdef class KeyEncodeOperator(Operator):
    """Sets SYS_KEY from the columns `keys`; no columns: one global key."""

    def __init__(self, str name, keys, bint plain):
        cdef int i
        self.name = name
        self.n_keys = len(keys)
        self.plain = plain
        self.keys = <int*>calloc(self.n_keys + 1, sizeof(int))
        if self.keys == NULL:
            raise MemoryError("no memory left for a key")
        for i in range(self.n_keys):
            self.keys[i] = keys[i]

    def __dealloc__(self):
        free(self.keys)

    cdef int encode(self, Batch* batch, Column* out) except -1 nogil:
        cdef int k
        cdef int64_t row, size
        cdef bint null
        cdef char* start
        cdef char* at
        cdef StringBuilder builder
        if self.plain:
            column_share(out, &batch.columns[self.keys[0]])
            return 0
        strings_init(&builder, batch.n, batch.n * 9 * self.n_keys)
        for row in range(batch.n):
            size = 0
            null = False
            for k in range(self.n_keys):
                null = null or not is_valid(&batch.columns[self.keys[k]], row)
                size += component_size(&batch.columns[self.keys[k]], row)
            if null:
                strings_append_null(&builder)
                continue
            start = strings_reserve(&builder, size)
            at = start
            for k in range(self.n_keys):
                at = put_component(at, &batch.columns[self.keys[k]], row)
            strings_end_row(&builder, size)
        return strings_finish(&builder, out)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int i
        cdef Batch* out = batch_share(batch, batch.width)
        for i in range(batch.width):
            column_share(&out.columns[i], &batch.columns[i])
        # Rows that carried another key before lose it here, with its slots.
        column_clear(&out.sys[SYS_KEY])
        column_clear(&out.sys[SYS_SLOT])
        self.encode(batch, &out.sys[SYS_KEY])
        return self.emit(out)
