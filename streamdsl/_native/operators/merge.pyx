"""Unites branches of one task: rows come out in the order of the records they were made from.

The branches run one after another, so a merge can only act once all of them have: its ports collect, and the task
calls `settle` when the chain in front of it has returned.
"""
from libc.stdint cimport INT64_MIN, int32_t
from libc.stdlib cimport calloc, free, malloc, realloc

from streamdsl._native.event_time.read_order cimport not_after, places
from streamdsl._native.flow.batch cimport (
    KIND_DEC, KIND_NONE, SYS_ORDINAL, Column, batch_concat, batch_release, batch_retain, batch_take, i64,
)
from streamdsl._native.includes.checked cimport PLANTED

from streamdsl._native.operators.declaration import Declaration


cdef class MergePort(Operator):
    """The end of one branch."""

    def __init__(self, str name):
        self.name = name
        self.watermark = INT64_MIN

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_batches):
            batch_release(self.batches[i])
        free(self.batches)

    cdef int process(self, Batch* batch) except -1 nogil:
        if self.n_batches == self.capacity:
            self.capacity = 2 * self.capacity + 4
            self.batches = <Batch**>realloc(self.batches, self.capacity * sizeof(Batch*))
            if self.batches == NULL:
                with gil:
                    raise MemoryError("no memory left for a merge")
        batch_retain(batch)
        self.batches[self.n_batches] = batch
        self.n_batches += 1
        return 0

    cdef int end_batch(self) except -1 nogil:
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        self.watermark = watermark
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        self.idle = idle
        return 0


cdef inline bint in_order(const Column* ordinals, int32_t left, int32_t right) noexcept nogil:
    if ordinals.kind == KIND_DEC:
        return not_after(places(ordinals) + left, places(ordinals) + right)
    return i64(ordinals)[left] <= i64(ordinals)[right]


cdef void sort_rows(int32_t* rows, int32_t* scratch, const Column* ordinals, int32_t n) noexcept nogil:
    # Bottom-up merge sort: stable, and nearly free on runs that already stand in order.
    cdef int32_t width = 1, start, middle, stop, left, right, out
    cdef int32_t* swap
    cdef int32_t* result = rows
    while width < n:
        start = 0
        while start < n:
            middle = min(start + width, n)
            stop = min(start + 2 * width, n)
            left, right, out = start, middle, start
            while left < middle or right < stop:
                if right >= stop or (left < middle and in_order(ordinals, rows[left], rows[right])):
                    scratch[out] = rows[left]
                    left += 1
                else:
                    scratch[out] = rows[right]
                    right += 1
                out += 1
            start += 2 * width
        swap = rows
        rows = scratch
        scratch = swap
        width *= 2
    if rows != result:
        for start in range(n):
            result[start] = rows[start]


cdef class MergeOperator(Operator):
    """Its ports end `size` branches, in the order in which equal ordinals come out."""

    def __init__(self, str name, int size):
        cdef int i
        self.name = name
        self.ports = [MergePort(f"{name}.{i}") for i in range(size)]
        self.size = size
        self.watermark = INT64_MIN
        self.refs = <void**>calloc(self.size, sizeof(void*))
        if self.refs == NULL:
            raise MemoryError("no memory left for a merge")
        for i in range(self.size):
            self.refs[i] = <void*>self.ports[i]

    def __dealloc__(self):
        free(self.refs)

    def declare(self):
        return Declaration(settles=True)

    def port(self, int number):
        return self.ports[number]

    cdef Batch* united(self) except? NULL nogil:
        """Return the waiting rows as one batch, sorted if they came from more than one batch; NULL if there are none."""
        cdef int i, j, n = 0
        cdef Batch** parts
        cdef Batch* all_rows
        cdef Batch* out
        cdef int32_t* rows
        for i in range(self.size):
            n += (<MergePort>self.refs[i]).n_batches
        if n == 0:
            return NULL
        parts = <Batch**>malloc(n * sizeof(Batch*))
        if parts == NULL:
            with gil:
                raise MemoryError("no memory left for a merge")
        n = 0
        for i in range(self.size):
            for j in range((<MergePort>self.refs[i]).n_batches):
                parts[n] = (<MergePort>self.refs[i]).batches[j]
                n += 1
            (<MergePort>self.refs[i]).n_batches = 0
        if n == 1:
            out = parts[0]
            free(parts)
            return out
        all_rows = batch_concat(parts, n)
        for i in range(n):
            batch_release(parts[i])
        free(parts)
        if all_rows.sys[SYS_ORDINAL].kind == KIND_NONE or PLANTED("merge-order-lost"):
            return all_rows
        rows = <int32_t*>malloc(2 * all_rows.n * sizeof(int32_t))
        if rows == NULL:
            with gil:
                raise MemoryError("no memory left for a merge")
        for i in range(all_rows.n):
            rows[i] = i
        sort_rows(rows, rows + all_rows.n, &all_rows.sys[SYS_ORDINAL], all_rows.n)
        out = batch_take(all_rows, rows, all_rows.n)
        batch_release(all_rows)
        free(rows)
        return out

    cdef int settle(self, bint ended_batch) except -1 nogil:
        cdef int i
        cdef int64_t low = (<MergePort>self.refs[0]).watermark
        cdef bint idle = True
        cdef Batch* batch = self.united()
        if batch != NULL:
            self.emit(batch)
        if ended_batch or batch != NULL:
            self.next.end_batch()
        for i in range(self.size):
            low = min(low, (<MergePort>self.refs[i]).watermark)
            idle = idle and (<MergePort>self.refs[i]).idle
        if low > self.watermark:
            self.watermark = low
            self.next.on_watermark(low)
        if idle != self.idle:
            self.idle = idle
            self.next.on_idle(idle)
        return 0
