"""One output, several readers: each gets every batch."""
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport (
    KIND_I64, KIND_NONE, SYS_ORDINAL, Batch, batch_release, batch_share, column_alloc, column_share, i64,
)


cdef class Fork(Operator):
    """Calls its targets in order; with `numbered`, rows get an ordinal by which a merge restores the record's order."""

    def __init__(self, list targets, bint numbered):
        cdef int i
        self.targets = targets
        self.size = len(targets)
        self.numbered = numbered
        self.refs = <void**>calloc(self.size, sizeof(void*))
        if self.refs == NULL:
            raise MemoryError("no memory left for a fork")
        for i in range(self.size):
            self.refs[i] = <void*>targets[i]

    def __dealloc__(self):
        free(self.refs)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int i
        cdef int64_t row
        cdef int64_t* ordinals
        cdef Batch* numbered = NULL
        if self.numbered and batch.sys[SYS_ORDINAL].kind == KIND_NONE:
            numbered = batch_share(batch, batch.width)
            for i in range(batch.width):
                column_share(&numbered.columns[i], &batch.columns[i])
            column_alloc(&numbered.sys[SYS_ORDINAL], KIND_I64, batch.n, 0)
            ordinals = i64(&numbered.sys[SYS_ORDINAL])
            for row in range(batch.n):
                ordinals[row] = self.ordinal + row
            self.ordinal += batch.n
        try:
            for i in range(self.size):
                (<Operator>self.refs[i]).process(batch if numbered == NULL else numbered)
        finally:
            if numbered != NULL:
                batch_release(numbered)
        return 0

    cdef int end_batch(self) except -1 nogil:
        cdef int i
        for i in range(self.size):
            (<Operator>self.refs[i]).end_batch()
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        cdef int i
        for i in range(self.size):
            (<Operator>self.refs[i]).on_watermark(watermark)
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        cdef int i
        for i in range(self.size):
            (<Operator>self.refs[i]).on_idle(idle)
        return 0
