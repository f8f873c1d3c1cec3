"""See row_block.pxd. A row is its time and its arrival number (8 bytes each), then each column: one byte (1 = has a value), then the value;
strings have their length (4 bytes) in front.
"""
from libc.stdint cimport INT64_MAX, uint8_t
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport (
    KIND_I64, KIND_STR, SYS_TIME, Column, StringBuilder, batch_new, batch_release, column_alloc,
    column_alloc_valid, i64, is_valid, kind_size, strings_append, strings_append_null, strings_finish, strings_free, strings_init,
)
from streamdsl._native.state.arena cimport Arena

from streamdsl.errors import StateError


cdef int damaged() except -1 nogil:
    with gil:
        raise StateError("rows kept for a window are damaged", remedy="Restore another checkpoint.")


cdef class RowPacker:
    """`shape`: of the rows. A changed schema is another layout."""

    def __init__(self, RowShape shape not None, Arena arena not None):
        columns = ", ".join([f"{name} {kind}" for name, kind in zip(shape.names, shape.types)])
        self.layout = f"rows/2 {columns}"
        self.arena = arena
        self.shape = shape
        self.width = shape.width
        self.kinds = shape.kinds

    cdef int64_t packed_size(self, Batch* batch, int32_t row) noexcept nogil:
        cdef int i
        cdef int64_t size = 16
        cdef Column* column
        for i in range(self.width):
            column = &batch.columns[i]
            size += 1
            if is_valid(column, row):
                if self.kinds[i] == KIND_STR:
                    size += 4 + column.offsets[row + 1] - column.offsets[row]
                else:
                    size += kind_size(self.kinds[i])
        return size

    cdef int append(self, RowBlock* block, Batch* batch, int32_t row, int64_t arrival) except -1 nogil:
        cdef int i, width
        cdef int32_t length
        cdef int64_t size = self.packed_size(batch, row)
        cdef int64_t capacity
        cdef char* at
        cdef Column* column
        if block.used + size > block.capacity:
            capacity = 2 * (block.used + size)
            block.data = self.arena.realloc(block.data, block.capacity, capacity)
            block.capacity = capacity
        at = block.data + block.used
        memcpy(at, &i64(&batch.sys[SYS_TIME])[row], 8)
        memcpy(at + 8, &arrival, 8)
        at += 16
        for i in range(self.width):
            column = &batch.columns[i]
            at[0] = is_valid(column, row)
            at += 1
            if not is_valid(column, row):
                continue
            if self.kinds[i] == KIND_STR:
                length = column.offsets[row + 1] - column.offsets[row]
                memcpy(at, &length, 4)
                memcpy(at + 4, column.values + column.offsets[row], length)
                at += 4 + length
            else:
                width = kind_size(self.kinds[i])
                memcpy(at, column.values + row * width, width)
                at += width
        block.used += size
        block.n += 1
        return 0

    cdef int64_t row_size(self, const char* row, int64_t most) except -1 nogil:
        """Return the bytes of a packed row; fails if it has more than `most`."""
        cdef int i
        cdef int32_t length
        cdef int64_t at = 16
        for i in range(self.width):
            if at >= most or <uint8_t>row[at] > 1:
                damaged()
            at += 1
            if row[at - 1] == 0:
                continue
            if self.kinds[i] == KIND_STR:
                if most - at < 4:
                    damaged()
                memcpy(&length, row + at, 4)
                if length < 0:
                    damaged()
                at += 4 + <int64_t>length
            else:
                at += kind_size(self.kinds[i])
        if at > most:
            damaged()
        return at

    cdef int scan(self, RowBlock* block) except -1 nogil:
        cdef int64_t at = 0
        block.n = 0
        while at < block.used:
            at += self.row_size(block.data + at, block.used - at)
            block.n += 1
        return 0

    cdef int merge(self, RowBlock* into, RowBlock* other) except -1 nogil:
        cdef char* made
        cdef char* end
        cdef const char* first = into.data
        cdef const char* second = other.data
        cdef int64_t used = into.used + other.used, size
        cdef int64_t one, two
        if other.n == 0 or into.n == 0:
            if into.n == 0:
                self.free(into)
                into[0] = other[0]
                memset(other, 0, sizeof(RowBlock))
            return 0
        made = self.arena.realloc(NULL, 0, used)
        end = made
        while first < into.data + into.used or second < other.data + other.used:
            one = two = INT64_MAX
            if first < into.data + into.used:
                memcpy(&one, first + 8, 8)
            if second < other.data + other.used:
                memcpy(&two, second + 8, 8)
            if one <= two and first < into.data + into.used:
                size = self.row_size(first, into.data + into.used - first)
                memcpy(end, first, size)
                first += size
            else:
                size = self.row_size(second, other.data + other.used - second)
                memcpy(end, second, size)
                second += size
            end += size
        used = into.n + other.n
        size = end - made
        self.free(into)
        self.free(other)
        into.data, into.used, into.capacity, into.n = made, size, size, used
        return 0

    cdef void free(self, RowBlock* block) noexcept nogil:
        self.arena.free(block.data, block.capacity)
        memset(block, 0, sizeof(RowBlock))

    cdef Batch* rows(self, RowBlock* block) except NULL nogil:
        cdef Batch* out = batch_new(<int32_t>block.n, self.width)
        cdef int i, failed = 1
        try:
            column_alloc(&out.sys[SYS_TIME], KIND_I64, block.n, 0)
            for i in range(self.width):
                # One pass a column: rows are few and small, and stay in the cache.
                take_column(self.kinds, self.width, i, block, out)
            failed = 0
        finally:
            if failed:
                batch_release(out)
        return out

    cdef int read(self, RowBlock* block, const char* data, int64_t size) except -1 nogil:
        self.free(block)
        if size > 0:
            block.data = self.arena.realloc(NULL, 0, size)
            block.capacity = size
            block.used = size
            memcpy(block.data, data, size)
            self.scan(block)
        return 0


cdef int take_column(const int* kinds, int width, int wanted, RowBlock* block, Batch* out) except -1 nogil:
    cdef int i, size, done = 0
    cdef int32_t length
    cdef int64_t row
    cdef const char* at = block.data
    cdef bint present
    cdef StringBuilder builder
    cdef Column* column = &out.columns[wanted]
    cdef bint text = kinds[wanted] == KIND_STR
    memset(&builder, 0, sizeof(StringBuilder))
    if text:
        strings_init(&builder, block.n, block.n * 16)
    else:
        column_alloc(column, kinds[wanted], block.n, 0)
    try:
        for row in range(block.n):
            memcpy(&i64(&out.sys[SYS_TIME])[row], at, 8)
            at += 16
            for i in range(width):
                present = at[0] != 0
                at += 1
                length = 0
                if present and kinds[i] == KIND_STR:
                    memcpy(&length, at, 4)
                    at += 4
                elif present:
                    length = kind_size(kinds[i])
                if i == wanted:
                    if text and present:
                        strings_append(&builder, at, length)
                    elif text:
                        strings_append_null(&builder)
                    else:
                        size = kind_size(kinds[i])
                        if present:
                            memcpy(column.values + row * size, at, size)
                        else:
                            memset(column.values + row * size, 0, size)
                            if column.valid == NULL:
                                column_alloc_valid(column, block.n)
                            column.valid[row] = 0
                at += length
        done = 1
    finally:
        if not done:
            strings_free(&builder)
    return strings_finish(&builder, column) if text else 0
