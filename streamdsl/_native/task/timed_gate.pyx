"""See timed_gate.pxd.

Nothing is waited for: an input that is empty holds nobody up. Watermarks, statuses and barriers are read as they come.
"""
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport calloc, free, malloc

from streamdsl._native.flow.batch cimport SYS_TIME, Batch, batch_release, batch_take, i64
from streamdsl._native.flow.channel cimport RECORDS, Channel


cdef class TimedGate(InputGate):
    """Reads nothing before `order`."""

    def order(self, list ports, bint bootstraps):
        """Say which port each input belongs to, and whether sources of tables are read before the others."""
        cdef int i
        self.ports = <int*>calloc(self.size + 1, sizeof(int))
        self.at = <int32_t*>calloc(self.size + 1, sizeof(int32_t))
        self.heads = <StreamElement*>calloc(self.size + 1, sizeof(StreamElement))
        self.first = <bint*>calloc(self.size + 1, sizeof(bint))
        self.bootstraps = bootstraps
        if self.ports == NULL or self.at == NULL or self.heads == NULL or self.first == NULL:
            raise MemoryError("no memory left for an input gate")
        for i in range(self.size):
            self.ports[i] = ports[i]

    def __dealloc__(self):
        cdef int i
        for i in range(self.size if self.heads != NULL else 0):
            if self.heads[i].kind == RECORDS:
                batch_release(self.heads[i].batch)
        free(self.heads)
        free(self.at)
        free(self.first)
        free(self.ports)

    cdef void begin(self) noexcept nogil:
        # The stream was held until all that a table had at first was taken out of the channels: it waits here, or has been read.
        cdef int i
        self.begun = True
        for i in range(self.size):
            self.first[i] = self.ports[i] > 0 and self.heads[i].kind == RECORDS

    cdef int64_t time_of(self, int input) noexcept nogil:
        if self.first[input] or self.heads[input].kind != RECORDS or self.heads[input].batch.n == 0:
            return INT64_MIN
        return i64(&self.heads[input].batch.sys[SYS_TIME])[self.at[input]]

    cdef bint before(self, int input, int other) noexcept nogil:
        cdef int64_t mine = self.time_of(input), theirs = self.time_of(other)
        return mine < theirs or (mine == theirs and self.ports[input] > self.ports[other])

    cdef int next(self, StreamElement* element) except -2 nogil:
        cdef int i, best = -1, second = -1
        for i in range(self.size):
            if self.blocked[i]:
                continue
            if self.heads[i].kind == 0:
                self.at[i] = 0
                if not (<Channel>self.refs[i]).poll(&self.heads[i]):
                    self.heads[i].kind = 0
                    continue
            if self.heads[i].kind != RECORDS:
                element[0] = self.heads[i]
                self.heads[i].kind = 0
                return i
            if self.bootstraps and not self.begun and self.ports[i] == 0:
                self.begin()
        for i in range(self.size):
            if self.blocked[i] or self.heads[i].kind == 0:
                continue
            if best < 0 or self.before(i, best):
                second = best
                best = i
            elif second < 0 or self.before(i, second):
                second = i
        if best >= 0:
            self.emit(best, second, element)
        return best

    cdef int emit(self, int input, int second, StreamElement* element) except -1 nogil:
        """Hand on the rows of `input` that come before the next one of `second`, which may be -1."""
        cdef Batch* batch = self.heads[input].batch
        cdef int32_t first = self.at[input], n = 0, i
        cdef int32_t* rows
        while first + n < batch.n:
            self.at[input] = first + n
            if n > 0 and second >= 0 and not self.before(input, second):
                break
            n += 1
        element[0] = self.heads[input]
        if first + n == batch.n:
            self.heads[input].kind = 0
            self.first[input] = False
            if first == 0:
                return 0
        rows = <int32_t*>malloc((n + 1) * sizeof(int32_t))
        if rows == NULL:
            with gil:
                raise MemoryError("no memory left for rows that wait for others of their time")
        for i in range(n):
            rows[i] = first + i
        element.batch = batch_take(batch, rows, n)
        free(rows)
        self.at[input] = first + n
        if self.heads[input].kind == 0:
            batch_release(batch)
        return 0
