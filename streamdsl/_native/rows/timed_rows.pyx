"""See timed_rows.pxd."""
from libc.stdint cimport INT32_MAX, INT64_MIN
from libc.string cimport memcpy, memmove

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_reserve

from streamdsl.errors import StateError

cdef enum:
    HEAD_BYTES = 16          # of a stored row: its time, its size, its mark
    AHEAD = 4                # rows that are fetched before they are copied


cdef int too_many_rows(str name) except -1 nogil:
    with gil:
        raise StateError(f"{name}: more rows of one key wait than memory can hold", remedy="narrow the bounds in time, or the key")


cdef int damaged(str name) except -1 nogil:
    with gil:
        raise StateError(f"rows that {name} keeps are damaged", remedy="restore from another checkpoint")


cdef int32_t rows_below(const TimedRows* side, int64_t time) noexcept nogil:
    cdef int32_t low = 0, high = side.n, middle
    cdef const TimedRow* rows = side.rows + side.head
    if high == 0 or rows[high - 1].time < time:
        return high                          # most that are asked for stand at one end
    if rows[0].time >= time:
        return 0
    while low < high:
        middle = (low + high) >> 1
        if rows[middle].time < time:
            low = middle + 1
        else:
            high = middle
    return low


cdef class TimedRowsField(RowField):
    """`columns` says in words what a row of each side is made of, `kind` what they are kept for."""

    def __init__(self, str name not None, list columns not None, str kind not None):
        RowField.__init__(self, name, f"4|rows|{kind}|" + "|".join(columns), len(columns) * sizeof(TimedRows))
        self.sides = len(columns)
        self.useless_until[0] = self.useless_until[1] = INT64_MIN

    cdef int insert(self, TimedRows* side, int64_t time, const char* data, int64_t size, bint marked) except -1 nogil:
        cdef int32_t at = side.n
        cdef TimedRow* row
        cdef int64_t more
        if size > INT32_MAX:
            too_many_rows(self.name)
        if side.head + side.n == side.capacity:
            if side.head > side.n:           # the front is free: rows leave in order of time
                memmove(side.rows, side.rows + side.head, side.n * sizeof(TimedRow))
                side.head = 0
            else:
                more = 2 * <int64_t>side.capacity + 2
                if more > INT32_MAX:
                    too_many_rows(self.name)
                side.rows = <TimedRow*>self.table.arena.realloc(
                    <char*>side.rows, side.capacity * <int64_t>sizeof(TimedRow), more * <int64_t>sizeof(TimedRow))
                side.capacity = <int32_t>more
        if at > 0 and side.rows[side.head + at - 1].time > time - PLANTED("ties-reversed"):
            at = rows_below(side, time)
            while at < side.n and side.rows[side.head + at].time == time and not PLANTED("ties-reversed"):
                at += 1
            memmove(side.rows + side.head + at + 1, side.rows + side.head + at, (side.n - at) * sizeof(TimedRow))
        row = side.rows + side.head + at
        side.n += 1
        row.time = time
        row.size = 0
        row.data = NULL
        row.marked = marked
        if size > 0:
            row.data = self.table.arena.alloc(size)
            memcpy(row.data, data, size)
            row.size = <int32_t>size
        return 0

    cdef void drop_first(self, TimedRows* side, int32_t n) noexcept nogil:
        cdef int32_t i
        for i in range(side.head, side.head + n):
            self.table.arena.free(side.rows[i].data, side.rows[i].size)
        side.head += n
        side.n -= n
        if side.n == 0:
            self.table.arena.free(<char*>side.rows, side.capacity * <int64_t>sizeof(TimedRow))
            side.rows = NULL
            side.head = side.capacity = 0

    cdef void drop_one(self, TimedRows* side, int32_t at) noexcept nogil:
        cdef TimedRow* row = side.rows + side.head + at
        if at == 0 or side.n == 1:
            self.drop_first(side, 1)
            return
        self.table.arena.free(row.data, row.size)
        side.n -= 1
        memmove(row, row + 1, (side.n - at) * sizeof(TimedRow))

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        cdef int i
        cdef int32_t k
        cdef int64_t n
        cdef int64_t size = 8 * self.sides
        cdef TimedRows* side
        cdef TimedRow* row
        cdef char* at
        for i in range(self.sides):
            side = <TimedRows*>field + i
            for k in range(side.head, side.head + side.n):
                size += HEAD_BYTES + side.rows[k].size
                if k < side.head + AHEAD:
                    prefetch(side.rows[k].data)
        at = bytes_reserve(out, size)
        for i in range(self.sides):
            side = <TimedRows*>field + i
            n = side.n
            memcpy(at, &n, 8)
            at += 8
            for k in range(side.head, side.head + side.n):
                row = side.rows + k
                if k + AHEAD < side.head + side.n:
                    prefetch(side.rows[k + AHEAD].data)
                memcpy(at, &row.time, 8)
                memcpy(at + 8, &row.size, 4)
                memcpy(at + 12, &row.marked, 4)
                if row.size > 0:
                    memcpy(at + HEAD_BYTES, row.data, row.size)
                at += HEAD_BYTES + row.size
        out.used += size
        return 0

    cdef void prefetch_parts(self, char* field) noexcept nogil:
        cdef int i
        for i in range(self.sides):
            prefetch((<TimedRows*>field + i).rows + (<TimedRows*>field + i).head)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef int i
        cdef int64_t n, time, _
        cdef int32_t length, marked
        cdef const char* end = data + size
        self.clear(field)                    # a later entry of the same key replaces what was read before
        for i in range(self.sides):
            if end - data < 8:
                damaged(self.name)
            memcpy(&n, data, 8)
            data += 8
            for _ in range(n):
                if end - data < HEAD_BYTES:
                    damaged(self.name)
                memcpy(&time, data, 8)
                memcpy(&length, data + 8, 4)
                memcpy(&marked, data + 12, 4)
                data += HEAD_BYTES
                if length < 0 or length > end - data:
                    damaged(self.name)
                self.insert(<TimedRows*>field + i, time, data, length, marked != 0 and not PLANTED("join-match-not-restored"))
                data += length
        return damaged(self.name) if data != end else 0

    cdef int clear(self, char* field) except -1 nogil:
        cdef int i
        for i in range(self.sides):
            self.drop_first(<TimedRows*>field + i, (<TimedRows*>field + i).n)
        return 0

    cdef bint empty(self, char* field) noexcept nogil:
        cdef int i
        cdef TimedRows* side
        if (<TimedRows*>field).listed > 0:   # its slot is named
            return False
        for i in range(self.sides):
            side = <TimedRows*>field + i
            if side.n > 0 and not self.useless(i, side.rows[side.head + side.n - 1].time):
                return False
        return True

    cdef inline bint useless(self, int side, int64_t time) noexcept nogil:
        return self.useless_until[side] > INT64_MIN and time <= self.useless_until[side]

    cdef bint some_useless(self, const char* field) noexcept nogil:
        cdef int i
        cdef const TimedRows* side
        for i in range(self.sides):
            side = <const TimedRows*>field + i
            if side.n > 0 and self.useless(i, side.rows[side.head].time):
                return True
        return False

    cdef bint stored_useless(self, const char* data, int64_t size) noexcept nogil:
        cdef int i
        cdef int64_t n, time, _
        cdef int32_t length
        cdef const char* end = data + size
        for i in range(self.sides):
            if end - data < 8:
                return False                 # who reads it tells of the damage
            memcpy(&n, data, 8)
            data += 8
            for _ in range(n):
                if end - data < HEAD_BYTES:
                    return False
                memcpy(&time, data, 8)
                memcpy(&length, data + 8, 4)
                if length < 0 or length > end - data - HEAD_BYTES or not self.useless(i, time):
                    return False
                data += HEAD_BYTES + length
        return data == end
