"""The one ordered write stream of a store: put, delete, MARK n. Written by the task, read by the store's writer.

An entry is an EntryHeader, the database key (shard u16 BE, table id u16 BE, key bytes) and the value, without padding.
"""
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t
from libc.string cimport memcpy

cdef enum:
    ENTRY_PUT = 1
    ENTRY_DELETE = 2
    ENTRY_MARK = 3                           # no key; the value is the checkpoint id, int64
    LONGEST_KEY = 16777216                   # bytes, without shard and table id


cdef struct EntryHeader:
    uint32_t kind                            # ENTRY_*
    uint32_t key_size                        # bytes of the database key: shard and table id included
    uint32_t value_size


cdef struct ByteWriter:
    char* data
    int64_t used
    int64_t capacity

cdef int bytes_init(ByteWriter* writer, int64_t capacity) except -1 nogil
cdef int bytes_resize(ByteWriter* writer, int64_t capacity) except -1 nogil    # at least `used`
cdef int bytes_grow(ByteWriter* writer, int64_t size) except -1 nogil          # room for `size` more at least
cdef void bytes_free(ByteWriter* writer) noexcept nogil


cdef inline char* bytes_reserve(ByteWriter* writer, int64_t size) except NULL nogil:
    """Room at the end; add to `used` what is filled. At least one byte, so that the address is never NULL."""
    if writer.data == NULL or writer.capacity - writer.used < size:
        bytes_grow(writer, size if size > 0 else 1)
    return writer.data + writer.used


cdef inline int bytes_append(ByteWriter* writer, const void* data, int64_t size) except -1 nogil:
    if writer.capacity - writer.used < size:
        bytes_grow(writer, size)
    if size > 0:
        memcpy(writer.data + writer.used, data, size)
        writer.used += size
    return 0


# Appends header and key of an entry; the value follows. Offsets, not pointers: the buffer moves as it grows.
cdef int64_t entry_open(ByteWriter* writer, uint32_t kind, uint16_t shard, uint16_t table, const char* key,
                        int32_t key_size) except -1 nogil                      # returns the entry's offset
cdef int entry_close(ByteWriter* writer, int64_t entry) except -1 nogil        # sets the size of the value


cdef class WriteStream:
    cdef void* lock                          # guards everything below; held for a copy or a swap, never for I/O
    cdef ByteWriter entries                  # what no reader has taken yet
    cdef bint marked                         # a MARK is among them
    cdef readonly int64_t appended           # entries ever
    cdef readonly int64_t bytes_waiting      # bytes in memory: not yet read by all readers
    # These three only grow; each has one writer, and any thread may look at them without the lock.
    cdef readonly int64_t appended_bytes     # ever appended, MARKs included
    cdef readonly int64_t applied_bytes      # of those, from the first on, what the database has
    cdef readonly int64_t wanted_bytes       # the database is asked to come as far as this

    cdef int put(self, uint16_t shard, uint16_t table, const char* key, int32_t key_size,
                 const char* value, int32_t value_size) except -1 nogil
    cdef int delete(self, uint16_t shard, uint16_t table, const char* key, int32_t key_size) except -1 nogil
    cdef int mark(self, int64_t checkpoint_id) except -1 nogil
    cdef int append(self, const char* entries, int64_t size, int64_t n) except -1 nogil   # n encoded entries at once
    cdef void swap(self, ByteWriter* other) noexcept nogil          # other's buffer for the waiting one; other.used = 0 before
    cdef bint pressing(self) noexcept nogil                         # what waits should be taken whether or not it is much
    cdef void applied(self, int64_t size) noexcept nogil            # a reader is done with that many bytes
    cdef void want_applied(self) noexcept nogil                     # the database is to have all that stands here now, soon
