"""See panes.pxd."""
from math import gcd

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t
from libc.string cimport memset

from streamdsl._native.aggregates.cell cimport ByteReader, read_i64, write_i64
from streamdsl._native.includes.decimal cimport dec_high, dec_low, int128
from streamdsl._native.state.write_stream cimport ByteWriter
from streamdsl._native.windows.assign cimport floor_mod, since_start, window_number, windows_of
from streamdsl._native.windows.contents cimport Contents
from streamdsl._native.windows.window_list cimport KeyWindows, WindowEntry, WindowField

cdef enum:
    FEWEST_WINDOWS = 3         # of a moment: with fewer, to add a record to each of them is cheaper
    PANE_BYTES = 16            # of a pane that is stored, at least: number and flags


def takes_panes(spec):
    """Return whether windows like these (`spec`: a PhysicalWindowAggregate) are put together from panes."""
    window = spec.window
    if window.kind != "hopping" or window.emit != "close" or window.size_ms < FEWEST_WINDOWS * window.every_ms:
        return False
    if spec.errors != "fail" and any(_may_refuse(one) for one in spec.aggregates):
        return False           # a record that is refused must leave no trace in any window
    return all(_puts_together(one) for one in spec.aggregates)


def _may_refuse(aggregate):
    return (aggregate.kind == "sum" and aggregate.input_kind != "f64") or (aggregate.kind == "mean" and aggregate.input_kind == "dec")


def _puts_together(aggregate):
    """Return whether an aggregate says the same, however it was put together."""
    return aggregate.kind not in ("product", "custom") and not dict(aggregate.params).get("approximate")


cdef class PaneField(WindowField):
    def __init__(self, str name not None, Contents contents not None):
        WindowField.__init__(self, name, contents, 0, True)
        self.layout = f"panes/3|{contents.layout}"
        self.total_at = self.size
        self.least = PANE_BYTES
        self.size += (contents.size + 7) & ~<int64_t>7

    cdef bint has_total(self, KeyWindows* windows) noexcept nogil:
        cdef int64_t i
        for i in range(windows.n - 1, -1, -1):
            if self.at(windows, i).flags & PANE_IN_TOTAL:
                return True
        return False

    cdef int clear_total(self, KeyWindows* windows) except -1 nogil:
        self.contents.clear(self.total(windows))
        memset(self.total(windows), 0, self.contents.size)
        return 0

    cdef int save_entry(self, const WindowEntry* entry, ByteWriter* out) except -1 nogil:
        write_i64(entry.id, out)
        return write_i64(entry.flags, out)

    cdef int read_entry(self, WindowEntry* entry, ByteReader* source) except -1 nogil:
        entry.id = read_i64(source)
        entry.flags = <int32_t>read_i64(source)
        return 0

    cdef int save_rest(self, KeyWindows* windows, ByteWriter* out) except -1 nogil:
        return self.contents.write(self.total(windows), out) if self.has_total(windows) else 0

    cdef int read_rest(self, KeyWindows* windows, ByteReader* source) except -1 nogil:
        return self.contents.read(self.total(windows), source) if self.has_total(windows) else 0

    cdef int clear(self, char* field) except -1 nogil:
        self.clear_total(<KeyWindows*>field)
        return WindowField.clear(self, field)

    cdef int64_t heap_bytes(self, char* field):
        return WindowField.heap_bytes(self, field) + self.contents.heap_bytes(self.total(<KeyWindows*>field))


cdef inline int64_t clamped(int128 value) noexcept nogil:
    if dec_high(value) != (-1 if <int64_t>dec_low(value) < 0 else 0):
        return INT64_MIN if dec_high(value) < 0 else INT64_MAX
    return <int64_t>dec_low(value)


cdef inline int64_t floor_div(int128 value, int64_t divisor) noexcept nogil:
    return clamped(value // divisor - (value % divisor < 0))


cdef class Panes:
    """`window` is a `WindowSpec` of the physical plan."""

    def __init__(self, window):
        self.grace_ms = window.grace_ms
        self.size_ms, self.every_ms, self.offset_ms = window.size_ms, window.every_ms, window.offset_ms
        self.pane_ms = gcd(self.size_ms, self.every_ms)
        self.step = self.every_ms // self.pane_ms
        self.count = self.size_ms // self.pane_ms

    cdef int64_t pane_at(self, int64_t time) noexcept nogil:
        return clamped(<int128>self.last_window(time) * self.step + since_start(time, self.every_ms, self.offset_ms) // self.pane_ms)

    cdef int64_t last_window(self, int64_t time) noexcept nogil:
        return window_number(time, self.every_ms, self.offset_ms)

    cdef int64_t windows_at(self, int64_t time) noexcept nogil:
        return windows_of(time, self.size_ms, self.every_ms, self.offset_ms)

    cdef int64_t start_of(self, int64_t window) noexcept nogil:
        return clamped(<int128>window * self.every_ms + floor_mod(self.offset_ms, self.every_ms))

    cdef int64_t last_of(self, int64_t window) noexcept nogil:
        return clamped(<int128>window * self.every_ms + floor_mod(self.offset_ms, self.every_ms) + self.size_ms - 1)

    cdef int64_t first_with(self, int64_t pane) noexcept nogil:
        if self.step == 1 and pane > INT64_MIN + self.count:
            return pane - self.count + 1
        return floor_div(<int128>pane - self.count, self.step) + 1

    cdef bint has(self, int64_t window, int64_t pane) noexcept nogil:
        return <int128>window * self.step <= <int128>pane and <int128>pane < <int128>window * self.step + self.count

    cdef int64_t place_in(self, WindowField field, KeyWindows* windows, int64_t window, int64_t more) noexcept nogil:
        cdef int128 pane = <int128>window * self.step + more
        if dec_high(pane) > 0 or (dec_high(pane) == 0 and <int64_t>dec_low(pane) < 0):       # behind the last number
            return windows.n
        return field.place_of(windows, clamped(pane))
