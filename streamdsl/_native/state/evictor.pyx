"""See evictor.pxd.

The hand of a clock goes over the rows (CLOCK, Corbató 1968). A row that was looked up since it last came by is passed over;
any other has its last version written to the stream, if it is not there yet, and queues up. It leaves once the database has
applied the stream that far, unless it was wanted meanwhile. So what is not in memory is in the database, in its last
version: nobody has to look into the stream.
"""
from libc.stdint cimport INT64_MAX, UINT32_MAX, uint8_t, uint32_t
from libc.stdlib cimport free, malloc

from streamdsl._native.includes.atomic cimport atomic_load
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.pages cimport PAGE_BITS, PAGE_ROWS
from streamdsl._native.state.row_table cimport ROW_GONE, ROW_LEAVING, ROW_LIVE, ROW_QUEUED, ROW_RECENT, RowField, RowHeader

cdef enum:
    STEPS = 16384              # of the hand, in one go
    FREED = 8192               # rows freed in one go
    FLUSH_BYTES = 16384        # of rows for one append to the stream
    SAMPLE_EVERY = 512         # calls between two samples of what rows hold on Python's heap; fewer at the beginning
    SAMPLE_ROWS = 64
    INDEX_BYTES = 16           # of the index, a key


cdef class Evictor:
    """`tables` of the store come by way of `StateStore.add_table`."""

    def __cinit__(self, Arena arena not None, WriteStream stream not None):
        self.arena = arena
        self.stream = stream
        self.piece_rows = 1 << 40
        self.dry_at = -1

    def __dealloc__(self):
        free(self.queue)

    cdef Room make_room(self, bint barrier) except <Room>-1 nogil:
        cdef int64_t eighth, wanted, memory, applied, freed = self.freed, asked = self.stream.wanted_bytes
        cdef bint behind_barrier = False
        cdef int i
        self.take_retired()
        if self.n > 0:
            self.free_applied()
        for i in range(self.n_tables):
            if (<KeyTable>self.tables[i]).expires and (<KeyTable>self.tables[i]).placed > 0:
                (<KeyTable>self.tables[i]).forget_empty()
        if self.limit <= 0:
            return ROOM_ENOUGH
        self.calls += 1
        if self.heap_is_used and (self.calls % SAMPLE_EVERY == 0 or self.calls < SAMPLE_EVERY and not self.calls & (self.calls - 1)):
            with gil:
                self.sample_heap()
        # What cannot leave must not squeeze out all that can: a quarter is left to the rows in any case.
        eighth = max(self.limit - self.fixed(), self.limit >> 2) >> 3
        self.stream_room = 2 * eighth
        memory = self.movable()
        wanted = memory - 5 * eighth
        if wanted + self.spare() > 0:
            for i in range(self.n_tables):
                (<KeyTable>self.tables[i]).give_memory_back(INT64_MAX)
        if wanted <= 0:
            return ROOM_ENOUGH
        for i in range(self.n_tables):
            if (<KeyTable>self.tables[i]).listener is not None:
                (<KeyTable>self.tables[i]).listener.on_pressure()
        self.piece_rows = max(<int64_t>1, self.rows() * eighth // max(memory, <int64_t>1) // 2)
        wanted -= self.leaving_bytes
        # What is on its way needs room in the stream: no more of it than the stream may take.
        applied = atomic_load(&self.stream.applied_bytes)
        if wanted > 0 and self.stream.bytes_waiting < eighth and self.dry_at != applied:
            behind_barrier = self.sweep(min(wanted, eighth), barrier, applied)
            if self.n > 0:                   # rows that have not changed may go at once
                self.free_applied()
                memory = self.movable()
        if self.n > 0 or self.stream.bytes_waiting > 0:
            self.stream.want_applied()
        # Rows alone may not have all of it: memory that they have once had is never given back, and the stream needs some too.
        if memory > 7 * eighth or memory - self.stream.bytes_waiting > 6 * eighth:
            if behind_barrier:
                return ROOM_BEHIND_BARRIER
            # With nothing left to leave, waiting would not help: what is here is needed.
            if self.n > 0 or self.stream.bytes_waiting > 0:
                self.moved = self.freed != freed or self.stream.wanted_bytes != asked
                return ROOM_NONE
        self.dry_at = -1                     # what is processed now may bring rows that can leave
        return ROOM_ENOUGH

    cdef int take_retired(self) except -1 nogil:
        """Removed rows whose delete is in the stream leave as others do."""
        cdef int i
        cdef int64_t at, kept, slot
        cdef void* ref
        cdef RowHeader* header
        for i in range(self.n_tables):
            ref = self.tables[i]
            kept = 0
            for at in range((<KeyTable>ref).retired.n):
                slot = (<KeyTable>ref).retired.at[at]
                header = (<KeyTable>ref).header(slot)
                if header.flags & ROW_QUEUED:            # an earlier entry of its is still to come
                    (<KeyTable>ref).retired.at[kept] = slot
                    kept += 1
                elif header.flags & ROW_GONE and not header.flags & ((<KeyTable>ref).dirty_bit | (<KeyTable>ref).pending_bit):
                    self.leave(i, slot, self.stream.appended_bytes, 0)
            (<KeyTable>ref).retired.n = kept
        return 0

    cdef int free_applied(self) except -1 nogil:
        cdef int64_t applied = atomic_load(&self.stream.applied_bytes)
        cdef int64_t freed = 0
        cdef Leaver leaver
        cdef RowHeader* header
        cdef uint8_t flags
        if PLANTED("evicted-before-applied"):
            applied = self.stream.appended_bytes
        while self.n > 0 and self.queue[self.head].position <= applied and freed < FREED:
            leaver = self.queue[self.head]
            self.head = (self.head + 1) & (self.capacity - 1)
            self.n -= 1
            self.leaving_bytes -= leaver.bytes
            header = (<KeyTable>self.tables[leaver.table]).header(leaver.slot)
            flags = header.flags
            header.flags &= ~<uint8_t>(ROW_QUEUED | ROW_LEAVING)
            if not (flags & ROW_LEAVING or PLANTED("changed-row-evicted")) or (flags & ROW_RECENT and flags & ROW_LIVE):
                continue                                 # changed, or wanted, meanwhile
            if flags & ROW_GONE:
                (<KeyTable>self.tables[leaver.table]).free_row(leaver.slot)
            elif flags & ROW_LIVE:
                CHECK(not flags & ((<KeyTable>self.tables[leaver.table]).dirty_bit | (<KeyTable>self.tables[leaver.table]).pending_bit)
                      or PLANTED("changed-row-evicted"), "a row that leaves is in the database as it is")
                (<KeyTable>self.tables[leaver.table]).make_cold(leaver.slot)
                self.evicted += 1
            freed += 1
        self.freed += freed
        return 0

    cdef bint sweep(self, int64_t wanted, bint barrier, int64_t applied) except -1 nogil:
        """Send rows on their way; return whether some could not go because of the barrier, and none other was found."""
        cdef int64_t first = self.n, steps = 0, bytes, i
        cdef int turns = 0
        cdef bint held_back = False
        cdef void* ref
        cdef RowHeader* header
        try:
            while wanted > 0 and steps < STEPS and turns <= 2 * self.n_tables:
                ref = self.tables[self.hand_table]
                if not (<KeyTable>ref).evictable or (<KeyTable>ref).backend is None or self.hand >= (<KeyTable>ref).used:
                    (<KeyTable>ref).flush_scratch()
                    self.hand = 0
                    self.hand_table = (self.hand_table + 1) % self.n_tables
                    turns += 1
                    continue
                steps += 1
                if not self.hand & (PAGE_ROWS - 1) and (<KeyTable>ref).pages.rows[self.hand >> PAGE_BITS].free == PAGE_ROWS:
                    self.hand += PAGE_ROWS               # nothing is in it
                    continue
                header = (<KeyTable>ref).header(self.hand)
                self.hand += 1
                if not header.flags & (ROW_LIVE | ROW_GONE) or header.flags & ROW_QUEUED:
                    continue
                if header.flags & ROW_LIVE:
                    if header.held:
                        continue
                    if header.flags & ROW_RECENT:
                        header.flags &= ~<uint8_t>ROW_RECENT
                        continue
                    if (<KeyTable>ref).empty(self.hand - 1):      # all it had has expired
                        (<KeyTable>ref).remove(self.hand - 1)
                        continue
                if barrier and header.flags & (<KeyTable>ref).dirty_bit and not PLANTED("evicted-ahead-of-mark"):
                    held_back = True
                    continue
                bytes = self.row_bytes(self.hand_table)
                if header.flags & ((<KeyTable>ref).dirty_bit | (<KeyTable>ref).pending_bit):
                    (<KeyTable>ref).clean(self.hand - 1)
                    (<KeyTable>ref).count_leaving()
                    if (<KeyTable>ref).scratch.used >= FLUSH_BYTES:
                        (<KeyTable>ref).flush_scratch()
                self.leave(self.hand_table, self.hand - 1, 0, bytes)
                wanted -= bytes
            (<KeyTable>self.tables[self.hand_table]).flush_scratch()
        finally:
            # They all may go once the database has what stands in the stream now.
            for i in range(first, self.n):
                self.queue[(self.head + i) & (self.capacity - 1)].position = self.stream.appended_bytes
        self.dry_at = applied if self.n == first and turns > 2 * self.n_tables and not held_back else -1
        return held_back and self.n == 0

    cdef int leave(self, int table, int64_t slot, int64_t position, int64_t bytes) except -1 nogil:
        cdef Leaver* leaver
        bytes = min(bytes, <int64_t>UINT32_MAX)
        if self.n == self.capacity:
            self.grow()
        leaver = &self.queue[(self.head + self.n) & (self.capacity - 1)]
        leaver.table = table
        leaver.slot = <uint32_t>slot
        leaver.position = position
        leaver.bytes = <uint32_t>bytes
        self.n += 1
        self.leaving_bytes += bytes
        (<KeyTable>self.tables[table]).header(slot).flags |= ROW_QUEUED | ROW_LEAVING
        return 0

    cdef int grow(self) except -1 nogil:
        cdef int64_t i
        cdef Leaver* grown = <Leaver*>malloc(max(2 * self.capacity, <int64_t>64) * sizeof(Leaver))
        if grown == NULL:
            with gil:
                raise MemoryError("no memory left for the rows that leave memory")
        for i in range(self.n):
            grown[i] = self.queue[(self.head + i) & (self.capacity - 1)]
        free(self.queue)
        self.queue = grown
        self.head = 0
        self.capacity = max(2 * self.capacity, <int64_t>64)
        return 0

    cdef int64_t rows(self) noexcept nogil:
        cdef int i
        cdef int64_t rows = 1
        for i in range(self.n_tables):
            rows += (<KeyTable>self.tables[i]).count
        return rows

    cdef int64_t row_bytes(self, int table) noexcept nogil:
        cdef void* ref = self.tables[table]
        cdef int i
        cdef int64_t rows = 1                            # removed ones have their keys in the arena as well
        for i in range(self.n_tables):
            rows += (<KeyTable>self.tables[i]).used - (<KeyTable>self.tables[i]).pages.n_free
        return (<KeyTable>ref).stride + INDEX_BYTES + <int64_t>(<KeyTable>ref).heap_a_row + self.arena.used // rows

    cdef int sample_heap(self) except -1:
        """Estimate what the rows hold on Python's heap from a few of them."""
        cdef int i
        cdef int64_t slot, step, n, size
        cdef KeyTable table
        cdef RowField field
        for i in range(self.n_tables):
            table = <KeyTable>self.tables[i]
            fields = [field for field in table.fields if (<RowField>field).on_heap]
            if not fields or table.count == 0:
                continue
            n = size = 0
            step = table.used // SAMPLE_ROWS + 1
            slot = table.first_slot(self.calls % step)
            while slot >= 0 and n < SAMPLE_ROWS:
                for field in fields:
                    size += field.heap_bytes(table.row(slot) + field.offset)
                n += 1
                slot = table.first_slot(slot + step)
            if n > 0:
                table.heap_a_row = <double>size / n
        return 0

    cdef int64_t movable(self) noexcept nogil:
        cdef int64_t size = self.arena.used + self.stream.bytes_waiting
        cdef int i
        for i in range(self.n_tables):
            if (<KeyTable>self.tables[i]).evictable:
                size += (<KeyTable>self.tables[i]).row_memory()
        return size

    cdef int64_t spare(self) noexcept nogil:
        """Bytes that rows have had and have not now, and that the system does not have either."""
        cdef int64_t size = 0
        cdef int i
        for i in range(self.n_tables):
            size += (<KeyTable>self.tables[i]).spare_memory()
        return size

    cdef int64_t fixed(self) noexcept nogil:
        cdef int64_t size = self.capacity * sizeof(Leaver)
        cdef int i
        for i in range(self.n_tables):
            size += (<KeyTable>self.tables[i]).overhead()
            if not (<KeyTable>self.tables[i]).evictable:
                size += (<KeyTable>self.tables[i]).row_memory()
        return size
