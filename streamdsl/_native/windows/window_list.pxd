"""The open windows of each key, side by side in the key's row: bounds and contents, in the order of their ids."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport ByteReader
from streamdsl._native.state.row_table cimport RowField
from streamdsl._native.state.write_stream cimport ByteWriter
from streamdsl._native.windows.contents cimport Contents

cdef enum:
    WINDOW_SHOWN = 1           # a row of it has left: with other bounds than these it would have to be withdrawn
    WINDOW_ON_TIME = 2         # the watermark has passed its last moment, and its row has left (emit="on_time")
    WINDOW_CHANGED = 4         # since its last row (emit=throttle)
    WINDOW_CLOSED = 8          # kept only because other windows begin with what is in it
    WINDOW_AT_RECORD = 16      # it ends at the time of a record (sliding)
    WINDOW_DROPS = 32          # its deadline stands in the lane of those that are only dropped
    WINDOW_TOUCHED = 64        # by the batch at hand, behind which it is shown


cdef struct WindowEntry:
    int64_t id                 # ascends with the start; of a count window the number of its first record
    int64_t start              # ms
    int64_t last               # its last moment: it is open while the watermark is below `last` and the grace
    int64_t filed              # time under which its deadline stands; not later than `last`
    int32_t flags              # WINDOW_*
    int32_t n                  # records (count windows)
    # the contents follow


cdef struct KeyWindows:
    char* block                # in the arena; NULL: the entries stand behind this struct, in the row
    int32_t first              # of the entries in the block
    int32_t n
    int32_t capacity           # entries that have room
    int32_t pending            # the batch whose records are still to be added to some of them (not stored)


cdef class WindowField(RowField):
    cdef readonly Contents contents
    cdef int64_t stride        # bytes of an entry and its contents
    cdef int32_t inside        # entries that have room in the row
    cdef int64_t least         # bytes of a stored entry
    cdef int64_t seen_at       # of the field's bytes: its number; 0: it has none
    cdef int64_t looked_at     # bytes of the field that each record of a key touches, from its beginning

    cdef inline WindowEntry* at(self, KeyWindows* windows, int64_t i) noexcept nogil:
        cdef char* base = windows.block if windows.block != NULL else <char*>windows + sizeof(KeyWindows)
        return <WindowEntry*>(base + (windows.first + i) * self.stride)

    # A number of the key, where the field has one: the records so far (count windows), or the window that is next (panes).
    cdef inline int64_t* seen(self, KeyWindows* windows) noexcept nogil:
        return <int64_t*>(<char*>windows + self.seen_at)

    # The first of the key's windows whose id is not smaller; n: there is none.
    cdef inline int64_t place_of(self, KeyWindows* windows, int64_t id) noexcept nogil:
        cdef int64_t low = 0, high = windows.n, middle
        if high > 0 and self.at(windows, high - 1).id < id:          # most come in order
            return high
        if high > 0 and self.at(windows, 0).id >= id:                # most close in order
            return 0
        if high > 2 and self.at(windows, 1).id >= id:
            return 1
        if high > 2 and self.at(windows, high - 2).id < id:          # what is next to an end is in the cache
            return high - 1
        while low < high:
            middle = (low + high) >> 1
            if self.at(windows, middle).id < id:
                low = middle + 1
            else:
                high = middle
        return low

    # NULL: there is none of that id.
    cdef inline WindowEntry* find(self, KeyWindows* windows, int64_t id) noexcept nogil:
        cdef int64_t i = self.place_of(windows, id)
        if i == windows.n or self.at(windows, i).id != id:
            return NULL
        return self.at(windows, i)

    # Whether an insertion at that place leaves the entries in front of it where they are, and there are none behind it.
    cdef bint stays(self, KeyWindows* windows, int64_t i) noexcept nogil
    cdef WindowEntry* insert(self, KeyWindows* windows, int64_t i) except NULL nogil     # an entry without contents, zeroed
    cdef int remove(self, KeyWindows* windows, int64_t i) except -1 nogil                # its contents are freed
    cdef int save(self, KeyWindows* windows, ByteWriter* out) except -1 nogil            # for `read`
    # What is stored of an entry without its contents, and behind all of them.
    cdef int save_entry(self, const WindowEntry* entry, ByteWriter* out) except -1 nogil
    cdef int read_entry(self, WindowEntry* entry, ByteReader* source) except -1 nogil
    cdef int save_rest(self, KeyWindows* windows, ByteWriter* out) except -1 nogil
    cdef int read_rest(self, KeyWindows* windows, ByteReader* source) except -1 nogil
    cdef int grow(self, KeyWindows* windows) except -1 nogil


cdef inline char* contents_of(WindowEntry* entry) noexcept nogil:
    return <char*>entry + sizeof(WindowEntry)
