"""See stream_reader.pxd."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy

from streamdsl._native.state.write_stream cimport (
    ENTRY_DELETE, ENTRY_MARK, EntryHeader, bytes_append, bytes_free, bytes_init,
)

cdef enum:
    LONGEST_RUN = 262144       # entries sorted at once
    KEPT_BUFFER = 4194304      # bytes: a larger buffer is given back to the system once it is read
    CHUNK_BYTES = 1048576      # a chunk ends behind the entry that reaches this


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


cdef int compare_keys(const SortItem* a, const SortItem* b) noexcept nogil:
    cdef uint32_t size_a, size_b
    cdef int order
    if a.high != b.high:
        return -1 if a.high < b.high else 1
    if a.low != b.low:
        return -1 if a.low < b.low else 1
    size_a = header_at(a.entry).key_size
    size_b = header_at(b.entry).key_size
    order = memcmp(a.entry + sizeof(EntryHeader), b.entry + sizeof(EntryHeader), size_a if size_a < size_b else size_b)
    if order != 0:
        return order
    return (size_a > size_b) - (size_a < size_b)


cdef int compare_items(const void* left, const void* right) noexcept nogil:
    cdef const SortItem* a = <const SortItem*>left
    cdef const SortItem* b = <const SortItem*>right
    cdef int order = compare_keys(a, b)
    return order if order != 0 else (a.entry > b.entry) - (a.entry < b.entry)


cdef class StreamReader:
    """Hands out what a stream holds, piece by piece; a piece stays until it is confirmed.

    Parameters
    ----------
    stream : WriteStream
        The stream to read; it has one reader.
    """

    def __cinit__(self, WriteStream stream not None):
        self.stream = stream
        bytes_init(&self.taken, 0)

    def __dealloc__(self):
        bytes_free(&self.taken)
        free(self.run)

    def peek(self, int64_t max_entries):
        """Return what comes next, without passing it.

        Returns
        -------
        list of (bytes, bytes or None) | int | None
            Puts and deletes (value None) in key order, each key once; or the id of a MARK; or None when the stream
            is empty. The same answer comes again until `confirm` is called.
        """
        cdef EntryHeader header
        cdef int64_t mark
        with nogil:
            self.prepare()
        if self.run_end == self.at:
            return None
        header = header_at(self.taken.data + self.at)
        if header.kind == ENTRY_MARK:
            memcpy(&mark, self.taken.data + self.at + sizeof(EntryHeader), 8)
            self.offered = 0
            return mark
        return self._chunk(max_entries)

    def _chunk(self, int64_t max_entries):
        cdef list entries = []
        cdef EntryHeader header
        cdef const char* entry
        cdef int64_t i = self.run_at
        cdef int64_t size = 0
        cdef object value
        while i < self.n_run and i - self.run_at < max_entries and size < CHUNK_BYTES:
            entry = self.run[i].entry
            header = header_at(entry)
            entry += sizeof(EntryHeader)
            value = None if header.kind == ENTRY_DELETE else PyBytes_FromStringAndSize(entry + header.key_size, header.value_size)
            entries.append((PyBytes_FromStringAndSize(entry, header.key_size), value))
            size += header.key_size + header.value_size
            i += 1
        self.offered = i - self.run_at
        return entries

    def confirm(self):
        """Pass what the last `peek` returned: it has been dealt with."""
        self.run_at += self.offered
        self.offered = 0
        if self.run_at == self.n_run:
            self.finish_run()

    def marks(self):
        """Return the ids of all MARKs that wait in the stream, in order (what `peek` returned included)."""
        cdef list ids = []
        cdef ByteWriter waiting
        cdef int64_t at
        cdef int64_t mark
        # The run is prepared anew afterwards: applying a part of it twice changes nothing.
        self.run_end = self.at
        self.offered = 0
        bytes_init(&waiting, 0)
        self.stream.swap(&waiting)
        try:
            bytes_append(&self.taken, waiting.data, waiting.used)
        finally:
            bytes_free(&waiting)
        at = self.at
        while at < self.taken.used:
            if header_at(self.taken.data + at).kind == ENTRY_MARK:
                memcpy(&mark, self.taken.data + at + sizeof(EntryHeader), 8)
                ids.append(mark)
            at += entry_size(self.taken.data + at)
        return ids

    cdef int finish_run(self) noexcept nogil:
        self.stream.applied(self.run_end - self.at)
        self.at = self.run_end
        self.n_run = 0
        self.run_at = 0
        return 0

    cdef int prepare(self) except -1 nogil:
        cdef int64_t end, kept, i
        cdef EntryHeader header
        cdef SortItem* item
        cdef SortItem* grown
        if self.run_end != self.at:
            return 0
        self.n_run = 0
        self.run_at = 0
        self.offered = 0
        if self.at == self.taken.used:
            if self.taken.capacity > KEPT_BUFFER:
                bytes_free(&self.taken)
            self.taken.used = 0
            self.at = 0
            self.run_end = 0
            self.stream.swap(&self.taken)
            if self.taken.used == 0:
                return 0
        end = self.at
        while end < self.taken.used and self.n_run < LONGEST_RUN:
            header = header_at(self.taken.data + end)
            if header.kind == ENTRY_MARK:
                if end == self.at:           # a MARK is a run of its own
                    self.run_end = end + entry_size(self.taken.data + end)
                    return 0
                break
            if self.n_run == self.run_capacity:
                grown = <SortItem*>realloc(self.run, (self.run_capacity * 2 + 256) * sizeof(SortItem))
                if grown == NULL:
                    no_memory()
                self.run = grown
                self.run_capacity = self.run_capacity * 2 + 256
            item = &self.run[self.n_run]
            item.entry = self.taken.data + end
            item.high = big_endian(item.entry + sizeof(EntryHeader), header.key_size)
            item.low = big_endian(item.entry + sizeof(EntryHeader) + 8, <int64_t>header.key_size - 8)
            self.n_run += 1
            end += entry_size(self.taken.data + end)
        qsort(self.run, self.n_run, sizeof(SortItem), compare_items)
        kept = 0
        for i in range(self.n_run):
            if i + 1 < self.n_run and compare_keys(&self.run[i], &self.run[i + 1]) == 0:
                continue
            self.run[kept] = self.run[i]
            kept += 1
        self.n_run = kept
        self.run_end = end
        return 0
