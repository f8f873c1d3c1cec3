"""See stream_reader.pxd."""
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.state.entry_sort cimport SortItem, compare_items, sort_entries
from streamdsl._native.state.key_hash cimport hash_bytes, prefetch
from streamdsl._native.state.write_stream cimport (
    ENTRY_DELETE, ENTRY_MARK, ENTRY_PUT, LONGEST_KEY, EntryHeader, bytes_append, bytes_free, bytes_init, bytes_resize,
)

cdef enum:
    BLOCK = 16                 # entries looked up together
    AHEAD = 8                  # entries that are fetched before they are copied
    LONGEST_RUN = 131072       # keys sorted at once
    SEGMENT_BYTES = 1048576    # room of a segment: what comes in smaller pieces is gathered in one
    CHUNK_BYTES = 1048576      # a chunk for the database ends behind the entry that reaches this


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for a store's writer")


cdef inline uint64_t big_endian(const char* data, int64_t size) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(8):
        value = value << 8 | (<uint8_t>data[i] if i < size else 0)
    return value


cdef inline EntryHeader header_at(const char* entry) noexcept nogil:
    cdef EntryHeader header
    memcpy(&header, entry, sizeof(EntryHeader))
    return header


cdef int64_t entry_size(const char* entry) noexcept nogil:
    cdef EntryHeader header = header_at(entry)
    return <int64_t>sizeof(EntryHeader) + header.key_size + header.value_size


def append_entries(WriteStream stream not None, bytes data not None, int64_t more):
    """Put the whole entries at the start of `data`, the bytes of a journal, into a stream.

    Parameters
    ----------
    stream : WriteStream
    data : bytes
        Begins with an entry.
    more : int
        So many bytes come behind `data`: an entry that would be longer than all that is left is refused.

    Returns
    -------
    tuple of int
        Bytes taken, and the checkpoint id of the last whole entry if that is a MARK (else -1).

    Raises
    ------
    ValueError
        There is something that no journal has.
    """
    cdef const char* entries = PyBytes_AS_STRING(data)
    cdef int64_t length = len(data)
    cdef int64_t at = 0
    cdef int64_t n = 0
    cdef int64_t size
    cdef int64_t mark = -1
    cdef EntryHeader header
    cdef bint good
    while length - at >= <int64_t>sizeof(EntryHeader):
        header = header_at(entries + at)
        if header.kind == ENTRY_MARK:
            good = header.key_size == 0 and header.value_size == 8
        else:
            good = 4 <= header.key_size <= LONGEST_KEY + 4
            good = good and (header.kind == ENTRY_PUT or (header.kind == ENTRY_DELETE and header.value_size == 0))
        size = entry_size(entries + at)
        if not good or size > length + more - at:
            raise ValueError(f"{at} bytes on stands no entry")
        if size > length - at:
            break
        mark = -1
        if header.kind == ENTRY_MARK:
            memcpy(&mark, entries + at + sizeof(EntryHeader), 8)
        at += size
        n += 1
    stream.append(entries, at, n)
    return at, mark


cdef class StreamReader:
    """The two readers of a stream: the journal in front, the database as far behind as it likes.

    A piece that one of them is given stays until it is confirmed. Used by one thread at a time.

    Parameters
    ----------
    stream : WriteStream
        The stream to read; nothing else reads it.
    gather : int
        Less than so many bytes are left in the stream until a MARK comes or the database is asked to come nearer.
    """

    def __cinit__(self, WriteStream stream not None, int64_t gather=0):
        self.stream = stream
        self.gather = gather
        self.seed = <uint64_t><size_t><void*>self
        bytes_init(&self.taken, 0)

    def __dealloc__(self):
        cdef int64_t i
        for i in range(self.n_segments):
            bytes_free(&self.segments[i])
        for i in range(self.n_spare):
            bytes_free(&self.spare[i])
        bytes_free(&self.taken)
        free(self.segments)
        free(self.run)
        free(self.seen)

    @property
    def backlog(self):
        """Bytes that the journal has passed and the database has not."""
        return self.journalled - self.stream.applied_bytes

    @property
    def applying(self):
        """Whether the database is in the middle of a run."""
        return self.run_at < self.n_run

    def peek_journal(self, int64_t max_bytes):
        """Return what comes next for the journal, without passing it.

        Returns
        -------
        memoryview | int | None
            Whole entries as they stand in the stream, up to the next MARK and at least one; or the id of a MARK; or None
            when the stream is empty. The same answer comes again until `confirm_journal` is called, or a longer one.
            The entries are not copied: nobody may keep them beyond that.
        """
        cdef ByteWriter* segment
        cdef const char* entry
        cdef int64_t size = 0
        cdef int64_t mark
        if self.find_journal() == 0:
            return None
        segment = &self.segments[self.journal_segment]
        while self.journal_at + size < segment.used and size < max_bytes:
            entry = segment.data + self.journal_at + size
            if header_at(entry).kind == ENTRY_MARK:
                if size > 0:
                    break
                memcpy(&mark, entry + sizeof(EntryHeader), 8)
                self.journal_offered = entry_size(entry)
                return mark
            size += entry_size(entry)
        self.journal_offered = size
        return PyMemoryView_FromMemory(segment.data + self.journal_at, size, PyBUF_READ)

    def confirm_journal(self):
        """Pass what the last `peek_journal` returned; from now on the database may have it."""
        self.journal_at += self.journal_offered
        self.journalled += self.journal_offered
        self.journal_offered = 0

    def peek_database(self, int64_t max_entries):
        """Return what comes next for the database, without passing it.

        Returns
        -------
        list of (bytes, bytes or None) | None
            Puts and deletes (value None) in key order, each key once with its last version; None when the database has
            all that the journal has passed. The same answer comes again until `confirm_database` is called.
        """
        cdef list entries = []
        cdef EntryHeader header
        cdef const char* entry
        cdef int64_t i
        cdef int64_t size = 0
        cdef object value
        if self.run_at == self.n_run:
            with nogil:
                self.prepare()
        i = self.run_at
        while i < self.n_run and i - self.run_at < max_entries and size < CHUNK_BYTES:
            if i + AHEAD < self.n_run:       # in order of their keys they stand anywhere
                prefetch(self.run[i + AHEAD].entry)
                prefetch(self.run[i + AHEAD].entry + 64)
                prefetch(self.run[i + AHEAD].entry + 128)
            entry = self.run[i].entry
            header = header_at(entry)
            entry += sizeof(EntryHeader)
            value = None if header.kind == ENTRY_DELETE else PyBytes_FromStringAndSize(entry + header.key_size, header.value_size)
            entries.append((PyBytes_FromStringAndSize(entry, header.key_size), value))
            size += header.key_size + header.value_size
            i += 1
        self.offered = i - self.run_at
        return entries or None

    def confirm_database(self):
        """Pass what the last `peek_database` returned: it has been applied."""
        self.run_at += self.offered
        self.offered = 0
        if self.run_at == self.n_run:
            self.finish_run()

    cdef bint find_journal(self) except -1:
        """Put the journal's place in front of an entry; 0: there is none."""
        while True:
            if self.journal_segment < self.n_segments:
                if self.journal_at < self.segments[self.journal_segment].used:
                    return 1
                if self.journal_segment + 1 < self.n_segments:
                    self.journal_segment += 1
                    self.journal_at = 0
                    continue
            if self.take() == 0:
                return 0

    cdef bint take(self) except -1:
        """Take what waits in the stream; 0: nothing does."""
        cdef ByteWriter* last
        cdef ByteWriter* grown
        if self.taken.used == 0:
            if self.stream.entries.used < self.gather and not self.stream.pressing():
                return 0
            if self.taken.capacity == 0 and self.n_spare > 0:
                self.n_spare -= 1
                self.taken = self.spare[self.n_spare]
            self.stream.swap(&self.taken)
            if self.taken.used == 0:
                return 0
        if self.n_segments > 0:
            last = &self.segments[self.n_segments - 1]
            if last.capacity - last.used >= self.taken.used:
                bytes_append(last, self.taken.data, self.taken.used)
                self.taken.used = 0
                if self.taken.capacity > SEGMENT_BYTES:
                    bytes_free(&self.taken)
                return 1
        grown = <ByteWriter*>realloc(self.segments, (self.n_segments + 1) * sizeof(ByteWriter))
        if grown == NULL:
            no_memory()
        self.segments = grown
        bytes_resize(&self.taken, max(self.taken.used, <int64_t>SEGMENT_BYTES))
        self.segments[self.n_segments] = self.taken
        self.n_segments += 1
        self.taken.data = NULL               # it is a segment now
        self.taken.used = 0
        self.taken.capacity = 0
        return 1

    cdef int finish_run(self) noexcept nogil:
        cdef int64_t i
        cdef ByteWriter* only
        self.stream.applied(self.run_bytes)
        self.run_bytes = 0
        self.n_run = 0
        self.run_at = 0
        self.database_at = self.end_at
        if self.end_segment > 0:
            for i in range(self.end_segment):
                self.give_back(&self.segments[i])
            self.n_segments -= self.end_segment
            memmove(self.segments, self.segments + self.end_segment, self.n_segments * sizeof(ByteWriter))
            self.journal_segment -= self.end_segment
            self.end_segment = 0
        if self.n_segments == 1:
            only = &self.segments[0]
            if self.database_at == only.used and self.journal_offered == 0:
                if only.capacity > SEGMENT_BYTES:
                    self.give_back(only)
                    self.n_segments = 0
                only.used = 0
                self.database_at = 0
                self.journal_at = 0
        return 0

    cdef void give_back(self, ByteWriter* segment) noexcept nogil:
        if segment.capacity == SEGMENT_BYTES and self.n_spare < MOST_SPARE:
            segment.used = 0
            self.spare[self.n_spare] = segment[0]
            self.n_spare += 1
        else:
            bytes_free(segment)

    cdef int prepare(self) except -1 nogil:
        """Sort the last version of each key that the journal has passed; what is only MARKs is passed at once."""
        cdef SortItem block[BLOCK]
        cdef int64_t at
        cdef int i, n
        self.n_run = 0
        self.run_at = 0
        self.offered = 0
        self.run_bytes = 0
        self.end_segment = 0
        self.end_at = self.database_at
        while self.n_run < LONGEST_RUN:
            n = self.read_block(block)
            if n == 0:
                break
            if 2 * (self.n_run + n) > self.n_seen:
                self.grow_run()
            # Looking a key up costs less than sorting its versions: of a busy one there may be many. Memory is asked for ahead.
            for i in range(n):
                prefetch(&self.seen[block[i].hash & (self.n_seen - 1)])
            for i in range(n):
                at = self.seen[block[i].hash & (self.n_seen - 1)]
                if at >= 0:
                    prefetch(&self.run[at])
            for i in range(n):
                at = self.find_seen(&block[i])
                if self.seen[at] < 0:
                    self.seen[at] = <int32_t>self.n_run
                    self.n_run += 1
                self.run[self.seen[at]] = block[i]
        if self.n_run > 0:
            sort_entries(self.run, self.n_run)
            memset(self.seen, 0xff, self.n_seen * sizeof(int32_t))
        elif self.run_bytes > 0:
            self.finish_run()
        return 0

    cdef int read_block(self, SortItem* block) noexcept nogil:
        """Read on over what the journal has passed; returns how many keys there were, 0: that was all."""
        cdef int n = 0
        cdef int64_t stop
        cdef EntryHeader header
        cdef SortItem* item
        while n < BLOCK and self.end_segment < self.n_segments:
            stop = self.journal_at if self.end_segment == self.journal_segment else self.segments[self.end_segment].used
            if self.end_at == stop:
                if self.end_segment == self.journal_segment:
                    break
                self.end_segment += 1
                self.end_at = 0
                continue
            item = &block[n]
            item.entry = self.segments[self.end_segment].data + self.end_at
            header = header_at(item.entry)
            self.end_at += entry_size(item.entry)
            self.run_bytes += entry_size(item.entry)
            if header.kind == ENTRY_MARK:
                continue
            item.key_size = header.key_size
            item.high = big_endian(item.entry + sizeof(EntryHeader), header.key_size)
            item.low = big_endian(item.entry + sizeof(EntryHeader) + 8, <int64_t>header.key_size - 8)
            item.hash = <uint32_t>hash_bytes(item.entry + sizeof(EntryHeader), <int32_t>header.key_size, self.seed)
            n += 1
        return n

    cdef int64_t find_seen(self, const SortItem* item) noexcept nogil:
        cdef int64_t at = item.hash & (self.n_seen - 1)
        while self.seen[at] >= 0 and (self.run[self.seen[at]].hash != item.hash
                                      or compare_items(&self.run[self.seen[at]], item) != 0):
            at = (at + 1) & (self.n_seen - 1)
        return at

    cdef int grow_run(self) except -1 nogil:
        """Room for twice as many keys: in the run, and where they are looked up."""
        cdef int64_t i, n_seen = max(2 * self.n_seen, <int64_t>512)
        cdef SortItem* run = <SortItem*>realloc(self.run, n_seen // 2 * sizeof(SortItem))
        cdef int32_t* seen
        if run == NULL:
            no_memory()
        self.run = run
        seen = <int32_t*>realloc(self.seen, n_seen * sizeof(int32_t))
        if seen == NULL:
            no_memory()
        self.seen = seen
        self.n_seen = n_seen
        memset(seen, 0xff, n_seen * sizeof(int32_t))
        for i in range(self.n_run):
            seen[self.find_seen(&run[i])] = <int32_t>i
        return 0
