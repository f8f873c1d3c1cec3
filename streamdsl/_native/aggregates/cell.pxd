"""One value of a column, taken out of it: what accumulators keep and compare."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_STR, Column, StringBuilder
from streamdsl._native.includes.decimal cimport dec_high, dec_load, dec_low, dec_of, int128
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append


# All zero is null, so zeroed memory holds nulls.
cdef struct Cell:
    int64_t tag                              # 0 = null; KIND_STR: 1 + its bytes; KIND_DEC: see cell_of_decimal; else 1
    int64_t bits                             # the value's 8 bytes; KIND_STR: address of its bytes; KIND_DEC: the lower 8

# Serialised state still to be read; functions fail instead of reading behind its end.
cdef struct ByteReader:
    const char* at
    const char* end

# A column of results, appended row by row.
cdef struct Results:
    int kind
    int64_t n                                # rows appended
    int64_t capacity
    Column column                            # every kind but KIND_STR
    StringBuilder strings                    # KIND_STR


cdef inline Cell cell_of_decimal(int128 value) noexcept nogil:
    # The upper half with its top bit turned is never 0: no decimal has an upper half near -2**63.
    cdef Cell cell
    cell.tag = <int64_t>(<uint64_t>dec_high(value) ^ (<uint64_t>1 << 63))
    cell.bits = <int64_t>dec_low(value)
    return cell


cdef inline int128 cell_decimal(const Cell* cell) noexcept nogil:
    return dec_of(<int64_t>(<uint64_t>cell.tag ^ (<uint64_t>1 << 63)), <uint64_t>cell.bits)


cdef inline Cell cell_load(const Column* column, int64_t row) noexcept nogil:
    # Strings are borrowed: they live as long as the column.
    cdef Cell cell
    cdef int64_t start
    cell.bits = 0
    if column.valid != NULL and column.valid[row] == 0:
        cell.tag = 0
        return cell
    cell.tag = 1
    if column.kind == KIND_STR:
        start = column.offsets[row]
        cell.tag = 1 + column.offsets[row + 1] - start
        cell.bits = <int64_t>(column.values + start)
    elif column.kind == KIND_BOOL:
        cell.bits = (<uint8_t*>column.values)[row]
    elif column.kind == KIND_DEC:
        cell = cell_of_decimal(dec_load(column.values + 16 * row))
    else:
        cell.bits = (<int64_t*>column.values)[row]
    return cell


cdef inline double as_f64(int64_t bits) noexcept nogil:
    return (<double*>&bits)[0]


cdef inline int64_t f64_bits(double value) noexcept nogil:
    return (<int64_t*>&value)[0]


cdef int kind_number(kind) except -1                                     # "i64" → KIND_I64; None → KIND_NONE
cdef int cell_compare(int kind, const Cell* a, const Cell* b) noexcept nogil    # neither null; NaN is the greatest
# The same, and -0.0 is less than 0.0: what is equal reads the same, NaN in its one `canonical` form.
cdef int cell_order(int kind, const Cell* a, const Cell* b) noexcept nogil
cdef Cell canonical(int kind, const Cell* cell) noexcept nogil
# The cell takes a copy of the source, strings into the arena; what it held is freed.
cdef int cell_assign(Cell* target, int kind, const Cell* source, Arena arena) except -1 nogil
cdef int cell_free(Cell* cell, int kind, Arena arena) except -1 nogil    # null afterwards
cdef int cell_write(const Cell* cell, int kind, ByteWriter* out) except -1 nogil
cdef int cell_view(Cell* cell, int kind, ByteReader* source) except -1 nogil    # strings are borrowed from the source
cdef int cell_read(Cell* cell, int kind, ByteReader* source, Arena arena) except -1 nogil
cdef int cell_write_json(const Cell* cell, int kind, bint raw, int64_t scale, ByteWriter* out) except -1 nogil
# cell_write_json: `raw` strings are JSON text already; `scale`: of decimals, which are quoted

cdef int64_t read_i64(ByteReader* source) except? -1 nogil
cdef const char* read_bytes(ByteReader* source, int64_t size) except NULL nogil
cdef int damaged_state() except -1 nogil                                 # raises StateError

cdef int results_init(Results* results, int kind, int64_t capacity) except -1 nogil
cdef int results_append(Results* results, const Cell* cell) except -1 nogil
cdef int results_finish(Results* results, Column* target) except -1 nogil     # moves the column out
cdef void results_truncate(Results* results, int64_t n) noexcept nogil           # forget the results n ..
cdef void results_free(Results* results) noexcept nogil


cdef inline int write_i64(int64_t value, ByteWriter* out) except -1 nogil:
    return bytes_append(out, &value, 8)


cdef inline int results_null(Results* results) except -1 nogil:
    cdef Cell cell
    cell.tag = 0
    cell.bits = 0
    return results_append(results, &cell)


cdef inline int results_bits(Results* results, int64_t bits) except -1 nogil:
    # A value of any kind of 8 bytes; never null.
    (<int64_t*>results.column.values)[results.n] = bits
    results.n += 1
    return 0
