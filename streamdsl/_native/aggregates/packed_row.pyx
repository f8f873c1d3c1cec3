"""See packed_row.pxd."""
from libc.stdint cimport INT32_MAX, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.aggregates.cell cimport cell_of_decimal, damaged_state
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_F64, KIND_NONE, KIND_STR, KIND_U64
from streamdsl._native.includes.decimal cimport dec_load
from streamdsl._native.state.write_stream cimport bytes_reserve

from streamdsl.errors import StateError

cdef enum:
    NO_VALUE = 15            # in place of a number of bytes
    WORD = 8


cdef extern from * nogil:
    """
    /* Bytes that hold the number; none for 0. */
    #define sd_width(number) ((number) ? 8 - (__builtin_clzll(number) >> 3) : 0)

    /* The number of n bytes at p, by whole words where the row, from start to end, has room for one. */
    static inline uint64_t sd_number(const char *p, int n, const char *start, const char *end) {
        uint64_t word = 0;
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        static const uint64_t LOW[9] = {0, 0xff, 0xffff, 0xffffff, 0xffffffffULL, 0xffffffffffULL, 0xffffffffffffULL,
                                        0xffffffffffffffULL, 0xffffffffffffffffULL};
        if (end - p >= 8) {
            memcpy(&word, p, 8);
            return word & LOW[n];
        }
        if (n > 0 && p - start >= 8 - n) {
            memcpy(&word, p + n - 8, 8);
            return word >> (64 - 8 * n);
        }
    #endif
        for (int i = 0; i < n; i++) word |= (uint64_t)(uint8_t)p[i] << 8 * i;
        return word;
    }
    /* The way back; 8 bytes must be writable. */
    static inline void sd_put_number(char *p, uint64_t number) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        memcpy(p, &number, 8);
    #else
        for (int i = 0; i < 8; i++) p[i] = (char)(number >> 8 * i);
    #endif
    }
    """
    int width_of "sd_width"(uint64_t number) noexcept
    void put_number "sd_put_number"(char* p, uint64_t number) noexcept
    uint64_t number_of "sd_number"(const char* p, int n, const char* start, const char* end) noexcept


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for rows")


cdef int too_long() except -1 nogil:
    with gil:
        raise StateError("a row is longer than 2 GiB", remedy="select the columns that are needed before the join")


cdef inline uint64_t folded(int64_t number) noexcept nogil:
    # Small numbers of either sign in few bytes.
    return (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)


cdef inline int64_t unfolded(uint64_t number) noexcept nogil:
    return <int64_t>(number >> 1) ^ -<int64_t>(number & 1)


cdef inline int code_of(const char* data, int i) noexcept nogil:
    return (<uint8_t>data[i >> 1] >> (4 * (i & 1))) & 15


cdef inline int most_of(int kind) noexcept nogil:
    return 16 if kind == KIND_DEC else WORD


cdef int packed_init(PackedRow* format, const int* kinds, int width) except -1 nogil:
    cdef int i
    format.width = width
    format.kinds = <int*>calloc(width + 1, sizeof(int))
    if format.kinds == NULL:
        no_memory()
    format.head = (width + 1) >> 1
    format.most = format.head + WORD         # a number is written as a whole word
    for i in range(width):
        format.kinds[i] = kinds[i]
        format.most += most_of(kinds[i])
    return 0


cdef void packed_free(PackedRow* format) noexcept nogil:
    free(format.kinds)
    memset(format, 0, sizeof(PackedRow))


cdef int packed_write(const PackedRow* format, const Column* columns, const int* chosen, int64_t row, ByteWriter* out) except -1 nogil:
    cdef int i, kind, code
    cdef int64_t size = format.most, length
    cdef uint64_t number
    cdef const Column* column
    cdef char* data
    cdef char* at
    for i in range(format.width):
        column = &columns[chosen[i]]
        if format.kinds[i] == KIND_STR and (column.valid == NULL or column.valid[row]):
            size += column.offsets[row + 1] - column.offsets[row]
    if size > INT32_MAX:
        too_long()
    data = bytes_reserve(out, size)
    at = data + format.head
    memset(data, 0, format.head)
    for i in range(format.width):
        kind = format.kinds[i]
        column = &columns[chosen[i]]
        length = 0
        if kind == KIND_NONE or (column.valid != NULL and column.valid[row] == 0):
            data[i >> 1] |= <char>(NO_VALUE << (4 * (i & 1)))
            continue
        if kind == KIND_DEC:
            memcpy(at, column.values + 16 * row, 16)
            at += 16
            continue
        if kind == KIND_STR:
            length = column.offsets[row + 1] - column.offsets[row]
            number = <uint64_t>length
        elif kind == KIND_BOOL:
            number = column.values[row] != 0
        else:
            memcpy(&number, column.values + 8 * row, 8)
            if kind != KIND_F64 and kind != KIND_U64:
                number = folded(<int64_t>number)
        code = width_of(number)
        data[i >> 1] |= <char>(code << (4 * (i & 1)))
        put_number(at, number)
        at += code
        if length > 0:
            memcpy(at, column.values + column.offsets[row], length)
            at += length
    out.used += at - data
    return 0


cdef int packed_view(const PackedRow* format, const char* data, int64_t size, Cell* cells) except -1 nogil:
    cdef int i, kind, code
    cdef uint64_t number
    cdef const char* at = data + format.head
    cdef const char* end = data + size
    if size < format.head:
        damaged_state()
    for i in range(format.width):
        kind = format.kinds[i]
        code = code_of(data, i)
        cells[i].bits = 0
        cells[i].tag = 0
        if code == NO_VALUE:
            continue
        if code > WORD or end - at < (16 if kind == KIND_DEC else code):
            damaged_state()
        cells[i].tag = 1
        if kind == KIND_DEC:
            cells[i] = cell_of_decimal(dec_load(at))
            at += 16
            continue
        number = number_of(at, code, data, end)
        at += code
        if kind == KIND_STR:
            if number > <uint64_t>(end - at):
                damaged_state()
            cells[i].tag += <int64_t>number
            cells[i].bits = <int64_t>at
            at += number
        elif kind == KIND_F64 or kind == KIND_U64 or kind == KIND_BOOL:
            cells[i].bits = <int64_t>number
        elif kind != KIND_NONE:
            cells[i].bits = unfolded(number)
    return damaged_state() if at != end else 0


cdef int64_t bytes_of(const PackedRow* format, const char* data, int64_t size, int n) except -1 nogil:
    """Of the values of the first n columns."""
    cdef int i, code
    cdef int64_t at = format.head
    for i in range(n):
        code = code_of(data, i)
        if code == NO_VALUE:
            continue
        if code > WORD or size - at < code:
            damaged_state()
        if format.kinds[i] == KIND_STR:
            at += <int64_t>min(number_of(data + at, code, data, data + size), <uint64_t>INT32_MAX)
        at += 16 if format.kinds[i] == KIND_DEC else code
    if at > size:
        damaged_state()
    return at - format.head


cdef bint packed_same(const PackedRow* format, const char* a, int64_t a_size, const char* b, int64_t b_size, int n) except -1 nogil:
    cdef int i
    cdef int64_t length
    if a_size < format.head or b_size < format.head:
        damaged_state()
    for i in range(n):
        if code_of(a, i) != code_of(b, i):
            return False
    length = bytes_of(format, a, a_size, n)
    return length == bytes_of(format, b, b_size, n) and memcmp(a + format.head, b + format.head, length) == 0
