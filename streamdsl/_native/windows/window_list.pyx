"""See window_list.pxd.

A key's windows are found without a look-up of their own: the key's row has been looked up already. The first few stand in
the row itself, more of them in a block of the arena.
"""
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.aggregates.cell cimport ByteReader, damaged_state, read_bytes, read_i64, write_i64
from streamdsl._native.includes.checked cimport CHECK, PLANTED
from streamdsl._native.state.write_stream cimport bytes_append


cdef enum:
    FEW = 8                    # so many windows are doubled when there is no room for more; of others there will be half as many again


cdef class WindowField(RowField):
    """`inside`: so many windows of a key are kept in its row; the others cost a look into the arena. `numbered`: keys have a number."""

    def __init__(self, str name not None, Contents contents not None, int inside, bint numbered):
        self.contents = contents
        self.stride = sizeof(WindowEntry) + ((contents.size + 7) & ~<int64_t>7)
        self.inside = inside
        self.least = sizeof(WindowEntry)
        self.looked_at = sizeof(KeyWindows) + min(inside, 1) * self.stride + numbered * sizeof(int64_t)
        self.on_heap = contents.on_heap
        size = sizeof(KeyWindows) + inside * self.stride
        self.seen_at = size if numbered else 0
        RowField.__init__(self, name, f"windows/3|{contents.layout}", size + numbered * sizeof(int64_t))

    cdef bint stays(self, KeyWindows* windows, int64_t i) noexcept nogil:
        cdef int32_t room = windows.capacity if windows.block != NULL else self.inside
        return i == windows.n and windows.first + windows.n < room

    cdef WindowEntry* insert(self, KeyWindows* windows, int64_t i) except NULL nogil:
        cdef WindowEntry* entry
        if windows.first + windows.n == (windows.capacity if windows.block != NULL else self.inside):
            self.grow(windows)
        entry = self.at(windows, i)
        memmove(<char*>entry + self.stride, entry, (windows.n - i) * self.stride)
        memset(entry, 0, self.stride)
        windows.n += 1
        return entry

    cdef int grow(self, KeyWindows* windows) except -1 nogil:
        cdef int32_t capacity
        cdef char* block
        if windows.block != NULL and windows.first > windows.capacity >> 2:      # windows have closed in front: there is room
            memmove(windows.block, self.at(windows, 0), windows.n * self.stride)
            windows.first = 0
            return 0
        capacity = max(windows.n + min(windows.n, max(FEW, windows.n >> 1)), 2)
        block = self.table.arena.alloc(capacity * self.stride)
        memcpy(block, self.at(windows, 0), windows.n * self.stride)
        if windows.block != NULL:
            self.table.arena.free(windows.block, windows.capacity * self.stride)
        windows.block = block
        windows.capacity = capacity
        windows.first = 0
        return 0

    cdef int remove(self, KeyWindows* windows, int64_t i) except -1 nogil:
        cdef WindowEntry* entry = self.at(windows, i)
        CHECK(0 <= i < windows.n, "a window that is removed is there")
        if not self.contents.flat:
            self.contents.clear(contents_of(entry))
        windows.n -= 1
        if windows.n == 0:
            if windows.block != NULL:
                self.table.arena.free(windows.block, windows.capacity * self.stride)
            windows.block = NULL
            windows.first = windows.capacity = 0
        elif i == 0 and windows.block != NULL:
            windows.first += 1
        else:
            memmove(entry, <char*>entry + self.stride, (windows.n - i) * self.stride)
        return 0

    # The field of a row ------------------------------------------------------------------------------------------

    cdef bint empty(self, char* field) noexcept nogil:
        return (<KeyWindows*>field).n == 0 and (self.seen_at == 0 or self.seen(<KeyWindows*>field)[0] == 0)

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        return self.save(<KeyWindows*>field, out)

    cdef int save(self, KeyWindows* windows, ByteWriter* out) except -1 nogil:
        cdef int64_t i
        cdef WindowEntry* entry
        if self.seen_at > 0:
            write_i64(self.seen(windows)[0], out)
        write_i64(windows.n, out)
        for i in range(windows.n):
            entry = self.at(windows, i)
            self.save_entry(entry, out)
            self.contents.write(contents_of(entry), out)
        return self.save_rest(windows, out)

    cdef int save_entry(self, const WindowEntry* entry, ByteWriter* out) except -1 nogil:
        return bytes_append(out, entry, sizeof(WindowEntry))

    cdef int read_entry(self, WindowEntry* entry, ByteReader* source) except -1 nogil:
        memcpy(entry, read_bytes(source, sizeof(WindowEntry)), sizeof(WindowEntry))
        return 0

    cdef int save_rest(self, KeyWindows* windows, ByteWriter* out) except -1 nogil:
        return 0

    cdef int read_rest(self, KeyWindows* windows, ByteReader* source) except -1 nogil:
        return 0

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef KeyWindows* windows = <KeyWindows*>field
        cdef ByteReader source
        cdef int64_t n, i
        cdef WindowEntry* entry
        source.at = data
        source.end = data + size
        self.clear(field)                    # a later entry of the same key replaces what was read before
        if self.seen_at > 0:
            n = read_i64(&source)
            self.seen(windows)[0] = 0 if PLANTED("seen-not-restored") else n
        n = read_i64(&source)
        if n < 0 or n > size // self.least:
            damaged_state()
        for i in range(n):
            entry = self.insert(windows, i)
            self.read_entry(entry, &source)
            if i > 0 and self.at(windows, i - 1).id >= entry.id:
                damaged_state()
            self.contents.read(contents_of(entry), &source)
        self.read_rest(windows, &source)
        return damaged_state() if source.at != source.end else 0

    cdef int clear(self, char* field) except -1 nogil:
        cdef KeyWindows* windows = <KeyWindows*>field
        while windows.n > 0:
            self.remove(windows, windows.n - 1)
        windows.pending = 0
        if self.seen_at > 0:
            self.seen(windows)[0] = 0
        return 0

    cdef int64_t heap_bytes(self, char* field):
        cdef KeyWindows* windows = <KeyWindows*>field
        cdef int64_t i, size = 0
        for i in range(windows.n):
            size += self.contents.heap_bytes(contents_of(self.at(windows, i)))
        return size
