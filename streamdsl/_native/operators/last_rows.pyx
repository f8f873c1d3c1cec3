"""See last_rows.pxd."""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset


cdef class LastRows:
    def __dealloc__(self):
        free(self.table)

    cdef int32_t find(self, const int64_t* slots, int32_t n, int32_t* found) except -1 nogil:
        cdef int64_t capacity = 16, at
        cdef int64_t* table
        cdef int32_t row, count = 0
        while capacity < 2 * n:
            capacity *= 2
        if capacity > self.capacity:
            table = <int64_t*>realloc(self.table, capacity * sizeof(int64_t))
            if table == NULL:
                with gil:
                    raise MemoryError("no memory left for an aggregation")
            self.table = table
            self.capacity = capacity
        memset(self.table, 0, capacity * sizeof(int64_t))
        for row in range(n - 1, -1, -1):
            at = <int64_t>((<uint64_t>slots[row] * <uint64_t>0x9E3779B97F4A7C15u) >> 32) & (capacity - 1)
            while self.table[at] != 0 and self.table[at] != 1 + slots[row]:
                at = (at + 1) & (capacity - 1)
            if self.table[at] == 0:
                self.table[at] = 1 + slots[row]
                found[count] = row
                count += 1
        for row in range(count // 2):
            found[row], found[count - 1 - row] = found[count - 1 - row], found[row]
        return count
