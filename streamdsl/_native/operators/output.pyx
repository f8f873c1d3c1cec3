"""The end of a chain whose rows go to other tasks: by key (shards), or in turn.

A chain cannot stop half-way through a batch, so what does not fit into a channel waits here, and the task reads no
further input until it is gone: that is the back-pressure.
"""
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

from streamdsl._native.event_time.read_order cimport Place, places
from streamdsl._native.flow.batch cimport (
    KIND_DEC, SYS_KEY, SYS_ORDINAL, SYS_TIME, Batch, Column, batch_release, batch_retain, batch_share, batch_take, column_alloc,
    column_clear, column_share, i64,
)
from streamdsl._native.flow.channel cimport RECORDS, STATUS, WATERMARK, Channel
from streamdsl._native.includes.atomic cimport atomic_load
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.state.murmur2 cimport shard_of


cdef Batch* with_places(Batch* batch) except NULL nogil:
    """Return the rows, which no record has made but time, behind all records of their time."""
    cdef int32_t row
    cdef Place* place
    cdef Batch* out = batch_share(batch, batch.width)
    for row in range(batch.width):
        column_share(&out.columns[row], &batch.columns[row])
    column_clear(&out.sys[SYS_ORDINAL])
    column_alloc(&out.sys[SYS_ORDINAL], KIND_DEC, batch.n, 0)
    for row in range(batch.n):
        place = places(&out.sys[SYS_ORDINAL]) + row
        place.time, place.number = i64(&batch.sys[SYS_TIME])[row], INT64_MAX
    return out


cdef class Output(Operator):
    """Sends rows to `channels`, one for each downstream task."""

    def __init__(self, str name, list channels, bint hashed, int shards, bint placed):
        cdef int i
        self.name = name
        self.channels = channels
        self.targets = len(channels)
        self.hashed = hashed and self.targets > 1
        self.shards = shards
        self.placed = placed
        self.refs = <void**>calloc(self.targets, sizeof(void*))
        if self.refs == NULL:
            raise MemoryError("no memory left for an output")
        for i in range(self.targets):
            self.refs[i] = <void*>channels[i]

    def to_all(self):
        """Send each row to every task."""
        self.hashed = False
        self.turn = -1

    cdef bint drained(self) noexcept nogil:
        cdef int i
        if self.n_waiting:
            return False
        for i in range(self.targets):
            if atomic_load(&(<Channel>self.refs[i]).count):
                return False
        return True

    def __dealloc__(self):
        cdef int64_t i
        for i in range(self.n_waiting):
            batch_release(self.waiting[i].batch)
        free(self.refs)
        free(self.waiting)
        free(self.waiting_target)
        free(self.rows)

    cdef int send(self, int target, StreamElement* element) except -1 nogil:
        CHECK(0 <= target < self.targets, "rows go to a task that exists")
        if self.n_waiting == 0 and (<Channel>self.refs[target]).offer(element):
            return 0
        if self.n_waiting == self.waiting_capacity:
            self.waiting_capacity = 2 * self.waiting_capacity + 16
            self.waiting = <StreamElement*>realloc(self.waiting, self.waiting_capacity * sizeof(StreamElement))
            self.waiting_target = <int*>realloc(self.waiting_target, self.waiting_capacity * sizeof(int))
            if self.waiting == NULL or self.waiting_target == NULL:
                with gil:
                    raise MemoryError("no memory left for waiting output")
        self.waiting[self.n_waiting] = element[0]
        self.waiting_target[self.n_waiting] = target
        self.n_waiting += 1
        return 0

    cdef int broadcast(self, int kind, int64_t value) except -1 nogil:
        cdef int target
        cdef StreamElement element
        element.kind = kind
        element.value = value
        element.round, element.part = self.round, self.part
        element.batch = NULL
        for target in range(self.targets):
            self.send(target, &element)
        return 0

    cdef int flush(self) except -1 nogil:
        cdef int64_t i = 0
        while i < self.n_waiting and (<Channel>self.refs[self.waiting_target[i]]).offer(&self.waiting[i]):
            i += 1
        if i == 0:
            return 0
        self.n_waiting -= i
        memmove(self.waiting, self.waiting + i, self.n_waiting * sizeof(StreamElement))
        memmove(self.waiting_target, self.waiting_target + i, self.n_waiting * sizeof(int))
        return 1

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef Batch* placed
        self.sent += batch.n
        if not self.placed or batch.sys[SYS_ORDINAL].kind == KIND_DEC:
            return self.emit_batch(batch)
        placed = with_places(batch)
        try:
            self.emit_batch(placed)
        finally:
            batch_release(placed)
        return 0

    cdef int emit_batch(self, Batch* batch) except -1 nogil:
        cdef int target
        cdef StreamElement element
        if self.hashed:
            return self.partition(batch)
        element.kind = RECORDS
        element.value = 0
        element.round, element.part = self.round, self.part
        element.batch = batch
        if self.turn < 0:
            for target in range(self.targets):
                batch_retain(batch)
                self.send(target, &element)
            return 0
        batch_retain(batch)
        self.send(self.turn, &element)
        self.turn = self.turn + 1 if self.turn + 1 < self.targets else 0
        return 0

    cdef int partition(self, Batch* batch) except -1 nogil:
        # Two passes: how many rows each target gets, then their numbers, target after target.
        cdef int32_t* target_of
        cdef int32_t* rows
        cdef int32_t counts[1024]
        cdef int32_t starts[1025]
        cdef int32_t i, target
        cdef StreamElement element
        cdef Column* key = &batch.sys[SYS_KEY]
        if self.rows_capacity < 2 * batch.n:
            free(self.rows)
            self.rows_capacity = 2 * batch.n
            self.rows = <int32_t*>malloc(self.rows_capacity * sizeof(int32_t))
            if self.rows == NULL:
                with gil:
                    raise MemoryError("no memory left to partition a batch")
        target_of = self.rows
        rows = self.rows + batch.n
        memset(counts, 0, sizeof(counts))
        for i in range(batch.n):
            target = 0      # null keys: the keyed task drops and counts them
            if key.valid == NULL or key.valid[i]:
                target = shard_of(key.values + key.offsets[i], key.offsets[i + 1] - key.offsets[i], self.shards) % self.targets
            target_of[i] = target
            counts[target] += 1
        starts[0] = 0
        for target in range(self.targets):
            starts[target + 1] = starts[target] + counts[target]
            counts[target] = starts[target]
        for i in range(batch.n):
            rows[counts[target_of[i]]] = i
            counts[target_of[i]] += 1
        element.kind = RECORDS
        element.value = 0
        element.round, element.part = self.round, self.part
        for target in range(self.targets):
            if starts[target + 1] > starts[target]:
                element.batch = batch_take(batch, rows + starts[target], starts[target + 1] - starts[target])
                self.send(target, &element)
        return 0

    cdef int end_batch(self) except -1 nogil:
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        return self.broadcast(WATERMARK, watermark)

    cdef int on_idle(self, bint idle) except -1 nogil:
        return self.broadcast(STATUS, 1 if idle else 0)

    def metrics(self):
        return {"sent": self.sent, "waiting": self.n_waiting}
