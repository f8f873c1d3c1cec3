"""See packed_row.pxd."""
from libc.stdint cimport INT32_MAX, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.aggregates.cell cimport cell_of_decimal, damaged_state
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_NONE, KIND_STR, kind_size
from streamdsl._native.includes.decimal cimport dec_load
from streamdsl._native.state.write_stream cimport bytes_reserve

from streamdsl.errors import StateError


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for rows")


cdef int too_long() except -1 nogil:
    with gil:
        raise StateError("a row is longer than 2 GiB", remedy="select the columns that are needed before the join")


cdef inline int32_t size_of(int kind) noexcept nogil:
    return 4 if kind == KIND_STR else kind_size(kind)


cdef inline int bit_of(const char* data, int i) noexcept nogil:
    return (data[i >> 3] >> (i & 7)) & 1


cdef int packed_init(PackedRow* format, const int* kinds, int width) except -1 nogil:
    cdef int i
    format.width = width
    format.kinds = <int*>calloc(width + 1, sizeof(int))
    format.places = <int32_t*>calloc(width + 1, sizeof(int32_t))
    if format.kinds == NULL or format.places == NULL:
        no_memory()
    format.fixed = (width + 7) >> 3
    for i in range(width):
        format.kinds[i] = kinds[i]
        format.places[i] = format.fixed
        format.fixed += size_of(kinds[i])
    return 0


cdef void packed_free(PackedRow* format) noexcept nogil:
    free(format.kinds)
    free(format.places)
    memset(format, 0, sizeof(PackedRow))


cdef int packed_write(const PackedRow* format, const Column* columns, const int* chosen, int64_t row, ByteWriter* out) except -1 nogil:
    cdef int i, kind
    cdef int64_t size = format.fixed
    cdef int32_t length
    cdef const Column* column
    cdef char* data
    cdef char* text
    for i in range(format.width):
        column = &columns[chosen[i]]
        if format.kinds[i] == KIND_STR and (column.valid == NULL or column.valid[row]):
            size += column.offsets[row + 1] - column.offsets[row]
    if size > INT32_MAX:
        too_long()
    data = bytes_reserve(out, size)
    text = data + format.fixed
    memset(data, 0, (format.width + 7) >> 3)
    for i in range(format.width):
        kind = format.kinds[i]
        column = &columns[chosen[i]]
        if kind == KIND_NONE or (column.valid != NULL and column.valid[row] == 0):
            memset(data + format.places[i], 0, size_of(kind))
            continue
        data[i >> 3] |= <char>(1 << (i & 7))
        if kind == KIND_STR:
            length = column.offsets[row + 1] - column.offsets[row]
            memcpy(data + format.places[i], &length, 4)
            if length > 0:
                memcpy(text, column.values + column.offsets[row], length)
            text += length
        elif kind == KIND_BOOL:
            data[format.places[i]] = column.values[row]
        elif kind == KIND_DEC:
            memcpy(data + format.places[i], column.values + 16 * row, 16)
        else:
            memcpy(data + format.places[i], column.values + 8 * row, 8)
    out.used += size
    return 0


cdef int packed_view(const PackedRow* format, const char* data, int64_t size, Cell* cells) except -1 nogil:
    cdef int i, kind
    cdef int32_t length
    cdef int64_t text = format.fixed
    cdef const char* value
    if size < text:
        damaged_state()
    for i in range(format.width):
        kind = format.kinds[i]
        value = data + format.places[i]
        cells[i].tag = bit_of(data, i)
        cells[i].bits = 0
        if cells[i].tag == 0:
            continue
        if kind == KIND_STR:
            memcpy(&length, value, 4)
            if length < 0 or length > size - text:
                damaged_state()
            cells[i].tag = 1 + <int64_t>length
            cells[i].bits = <int64_t>(data + text)
            text += length
        elif kind == KIND_BOOL:
            cells[i].bits = (<const uint8_t*>value)[0]
        elif kind == KIND_DEC:
            cells[i] = cell_of_decimal(dec_load(value))
        elif kind != KIND_NONE:
            memcpy(&cells[i].bits, value, 8)
    return damaged_state() if text != size else 0


cdef bint packed_same(const PackedRow* format, const char* a, int64_t a_size, const char* b, int64_t b_size, int n) except -1 nogil:
    cdef int i
    cdef int32_t length
    cdef int64_t text = format.fixed         # of both: where a text begins, all in front of it were as long
    if a_size < text or b_size < text:
        damaged_state()
    for i in range(n):
        if bit_of(a, i) != bit_of(b, i) or memcmp(a + format.places[i], b + format.places[i], size_of(format.kinds[i])) != 0:
            return False
        if format.kinds[i] != KIND_STR:
            continue
        memcpy(&length, a + format.places[i], 4)
        if length < 0 or length > min(a_size, b_size) - text:
            damaged_state()
        if length > 0 and memcmp(a + text, b + text, length) != 0:
            return False
        text += length
    return True
