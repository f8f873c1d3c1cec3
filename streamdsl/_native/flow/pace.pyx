"""See pace.pxd. What waits between a source and a slow function is what a barrier, and so a stop, has to walk behind."""
from libc.stdlib cimport free, realloc

from streamdsl._native.includes.atomic cimport atomic_load, atomic_store


cdef class Pace:
    def __cinit__(self):
        self.most = FREE_ROWS

    def __dealloc__(self):
        free(self.rows)

    def join(self, bint by_row):
        """Return the number of a new member; before the tasks run. `by_row`: its user code is called for each row."""
        cdef int64_t* rows = <int64_t*>realloc(self.rows, (self.n + 1) * sizeof(int64_t))
        if rows == NULL:
            raise MemoryError("no memory left for a task")
        self.rows = rows
        self.rows[self.n] = 0
        self.n += 1
        if by_row:
            self.most = PACED_ROWS
        return self.n - 1

    cdef void tell(self, int member, int64_t rows) noexcept nogil:
        atomic_store(&self.rows[member], rows)

    cdef int64_t least(self, bint* all_known) noexcept nogil:
        cdef int64_t rows, found = 0
        cdef int i
        all_known[0] = True
        for i in range(self.n):
            rows = atomic_load(&self.rows[i])
            if rows == 0:
                all_known[0] = False
            elif found == 0 or rows < found:
                found = rows
        return found
