"""See write_stream.pxd for what each function promises."""
from cpython.pythread cimport (
    WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
)
from libc.stdint cimport UINT32_MAX
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from streamdsl._native.state.key_hash cimport map_memory, unmap_memory

from streamdsl.errors import StateError

cdef enum:
    MAPPED_BYTES = 262144      # from so many on, a buffer's memory is the system's own: what a long backlog took goes back


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for a store's write stream")


cdef int too_long(int64_t size) except -1 nogil:
    with gil:
        raise StateError(f"one row of state has {size} bytes; 4 GiB is the most that can be stored")


cdef int key_too_long(int64_t size) except -1 nogil:
    with gil:
        raise StateError(f"a key of state has {size} bytes; {LONGEST_KEY} is the most that can be stored")


cdef int bytes_init(ByteWriter* writer, int64_t capacity) except -1 nogil:
    writer.used = 0
    writer.capacity = 0
    writer.data = NULL
    return bytes_resize(writer, capacity) if capacity > 0 else 0


cdef bint try_resize(ByteWriter* writer, int64_t capacity) noexcept nogil:
    cdef char* data
    if capacity < MAPPED_BYTES and writer.capacity < MAPPED_BYTES:
        data = <char*>realloc(writer.data, capacity)
    elif writer.capacity >= MAPPED_BYTES:
        capacity = max(capacity, <int64_t>MAPPED_BYTES)
        data = <char*>map_memory(writer.data, writer.capacity, capacity)
    else:
        data = <char*>map_memory(NULL, 0, capacity)
        if data != NULL and writer.used > 0:
            memcpy(data, writer.data, writer.used)
        if data != NULL:
            free(writer.data)
    if data == NULL:
        return False
    writer.data = data
    writer.capacity = capacity
    return True


cdef bint try_grow(ByteWriter* writer, int64_t size) noexcept nogil:
    return try_resize(writer, max(writer.capacity * 2, writer.used + size, <int64_t>256))


cdef int bytes_resize(ByteWriter* writer, int64_t capacity) except -1 nogil:
    if not try_resize(writer, capacity):
        no_memory()
    return 0


cdef int bytes_grow(ByteWriter* writer, int64_t size) except -1 nogil:
    if not try_grow(writer, size):
        no_memory()
    return 0


cdef void bytes_free(ByteWriter* writer) noexcept nogil:
    if writer.capacity >= MAPPED_BYTES:
        unmap_memory(writer.data, writer.capacity)
    else:
        free(writer.data)
    writer.data = NULL
    writer.used = 0
    writer.capacity = 0


cdef int64_t entry_open(ByteWriter* writer, uint32_t kind, uint16_t shard, uint16_t table, const char* key,
                        int32_t key_size) except -1 nogil:
    cdef int64_t entry = writer.used
    cdef EntryHeader header
    cdef char* at
    if key_size > LONGEST_KEY:
        key_too_long(key_size)
    header.kind = kind
    header.key_size = <uint32_t>key_size + 4
    header.value_size = 0
    at = bytes_reserve(writer, sizeof(EntryHeader) + 4 + key_size)
    memcpy(at, &header, sizeof(EntryHeader))
    at += sizeof(EntryHeader)
    at[0] = <char>(shard >> 8)
    at[1] = <char>(shard & 255)
    at[2] = <char>(table >> 8)
    at[3] = <char>(table & 255)
    if key_size > 0:
        memcpy(at + 4, key, key_size)
    writer.used += sizeof(EntryHeader) + 4 + key_size
    return entry


cdef int entry_close(ByteWriter* writer, int64_t entry) except -1 nogil:
    cdef EntryHeader header
    cdef int64_t size
    memcpy(&header, writer.data + entry, sizeof(EntryHeader))
    size = writer.used - entry - <int64_t>sizeof(EntryHeader) - header.key_size
    if size > UINT32_MAX:
        too_long(size)
    header.value_size = <uint32_t>size
    memcpy(writer.data + entry, &header, sizeof(EntryHeader))
    return 0


cdef class WriteStream:
    """The ordered changes of one store's tables."""

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError("no memory left for a lock")
        bytes_init(&self.entries, 0)

    def __dealloc__(self):
        bytes_free(&self.entries)
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int put(self, uint16_t shard, uint16_t table, const char* key, int32_t key_size,
                 const char* value, int32_t value_size) except -1 nogil:
        cdef ByteWriter scratch
        cdef int64_t entry
        bytes_init(&scratch, sizeof(EntryHeader) + 4 + key_size + value_size)
        try:
            entry = entry_open(&scratch, ENTRY_PUT, shard, table, key, key_size)
            bytes_append(&scratch, value, value_size)
            entry_close(&scratch, entry)
            return self.append(scratch.data, scratch.used, 1)
        finally:
            bytes_free(&scratch)

    cdef int delete(self, uint16_t shard, uint16_t table, const char* key, int32_t key_size) except -1 nogil:
        cdef ByteWriter scratch
        bytes_init(&scratch, sizeof(EntryHeader) + 4 + key_size)
        try:
            entry_open(&scratch, ENTRY_DELETE, shard, table, key, key_size)
            return self.append(scratch.data, scratch.used, 1)
        finally:
            bytes_free(&scratch)

    cdef int mark(self, int64_t checkpoint_id) except -1 nogil:
        cdef char entry[20]                  # sizeof(EntryHeader) + 8
        cdef EntryHeader header
        header.kind = ENTRY_MARK
        header.key_size = 0
        header.value_size = 8
        memcpy(entry, &header, sizeof(EntryHeader))
        memcpy(entry + sizeof(EntryHeader), &checkpoint_id, 8)
        self.append(entry, sizeof(entry), 1)
        self.marked = True
        return 0

    cdef int append(self, const char* entries, int64_t size, int64_t n) except -1 nogil:
        # Nobody waits for the GIL while holding this lock (errors are raised behind it), so it may be waited for
        # with the GIL or without.
        cdef bint room
        PyThread_acquire_lock(self.lock, WAIT_LOCK)
        room = self.entries.capacity - self.entries.used >= size or try_grow(&self.entries, size)
        if room:
            memcpy(self.entries.data + self.entries.used, entries, size)
            self.entries.used += size
            self.appended += n
            self.bytes_waiting += size
            self.appended_bytes += size
        PyThread_release_lock(self.lock)
        if not room:
            no_memory()
        return 0

    cdef void swap(self, ByteWriter* other) noexcept nogil:
        cdef ByteWriter waiting
        PyThread_acquire_lock(self.lock, WAIT_LOCK)
        waiting = self.entries
        self.entries = other[0]
        self.marked = False
        PyThread_release_lock(self.lock)
        other[0] = waiting

    cdef bint pressing(self) noexcept nogil:
        return self.marked or self.wanted_bytes > self.applied_bytes

    cdef void applied(self, int64_t size) noexcept nogil:
        PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.bytes_waiting -= size
        self.applied_bytes += size
        PyThread_release_lock(self.lock)

    cdef void want_applied(self) noexcept nogil:
        self.wanted_bytes = self.appended_bytes
