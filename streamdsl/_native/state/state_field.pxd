"""State of Processors in rows: one field a Processor, one cell a declared state."""
cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from streamdsl._native.serdes.codec cimport CodecBuffer
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport RowField
from streamdsl._native.state.value_types cimport ValueType
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum:
    STATE_VALUE = 0
    STATE_LIST = 1
    STATE_MAP = 2
    DEFAULT_TTL = -2         # set() without ttl: the declared one
    NO_TTL = -1
    SWEEP_ROWS = 256         # rows looked at for expired values with each watermark

# An owned value: the value itself, an Elements or an Entries; NULL = never set or cleared.
cdef struct Cell:
    PyObject* value
    int64_t deadline         # ms; gone from then on; INT64_MAX = permanent


cdef class StateSpec:
    """One declared state."""
    cdef readonly str name
    cdef readonly str text                   # kind and type, as they stand in a checkpoint
    cdef readonly str form                   # the same without what may change: see `form_of`
    cdef int kind                            # STATE_*
    cdef ValueType key_type                  # of a map
    cdef ValueType type
    cdef int64_t ttl                         # ms; NO_TTL
    cdef bint wall_clock
    cdef int64_t slack                       # ms: an expired value is removed when the watermark is that far past it
    cdef int index                           # cell of the row; -1: declared after the rows were laid out
    cdef bytes head                          # name, then the head of (text, value, deadline), encoded


cdef class Elements:
    """The value of a list state."""
    cdef list values
    cdef list deadlines                      # None: all permanent


cdef class Entries:
    """The value of a map state."""
    cdef dict values
    cdef dict deadlines                      # of those that have one


cdef class LateCell:
    """A cell of a state that was declared after the rows were laid out."""
    cdef Cell cell


@cython.final
cdef class StateField(RowField):
    """`size` is known once the states are declared. Behind the cells: a dict of everything else by name, or NULL."""
    cdef dict specs                          # name -> StateSpec
    cdef list inline_specs                   # by index
    cdef int n_cells
    cdef bint any_ttl
    cdef CodecBuffer buffer

    # Asks for the memory of the values, which lie all over the heap; the cells themselves should have been asked for before.
    cdef inline void prefetch_values(self, char* field) noexcept:
        cdef Cell* cells = <Cell*>field
        cdef int i
        for i in range(self.n_cells):
            if cells[i].value != NULL:
                prefetch(<char*>cells[i].value - 16)     # Python's collector keeps its links in front

    cdef int write_row(self, char* field, ByteWriter* out) except -1
    cdef int read_row(self, char* field, const char* data, int64_t size) except -1
    cdef int clear_row(self, char* field) except -1
    cdef int write_cell(self, StateSpec spec, Cell* cell) except -1
    cdef int read_cell(self, StateSpec spec, Cell* cell, tuple kept) except -1
    cdef LateCell late_cell(self, char* field, StateSpec spec, bint create)


@cython.final
cdef class Scope:
    """The key (and time) that the handles of a Processor are bound to."""
    cdef StateField field
    cdef KeyTable table
    cdef int64_t slot                        # -1: no key at hand
    cdef char* cells                         # the field in the row of the slot; NULL: no key at hand
    cdef bint touched
    cdef int64_t now                         # event time of the record or timer, ms
    cdef int64_t reached                     # the operator's watermark
    cdef int64_t watermark                   # for the key at hand: the greater of that and its shard's before a restore
    cdef int64_t settled                     # ms: how far the operator had come before the advance that is under way
    cdef int64_t removing                    # for the key at hand, as `watermark`: what has expired by then is removed
    cdef const int64_t* floors               # by shard, what it had reached before a restore; NULL: less than `reached`
    cdef int64_t wall                        # the wall clock, ms, as of this batch
    cdef dict keys                           # in process_batch: key -> (slot, latest time), else None
    cdef int64_t sweep_at                    # next slot to look at for expired values
    cdef object undo                         # the UndoLog of the call at hand; None: what is written stays

    # The end of an input, which a later run goes on from, is no time that others could be behind.
    cdef inline int64_t floor_of(self, int shard) noexcept nogil:
        return INT64_MIN if self.floors == NULL or self.floors[shard] == INT64_MAX else self.floors[shard]

    # The operator has reached `watermark`; `floors` of the shards, of which `highest` is the greatest.
    cdef inline void follow(self, int64_t watermark, const int64_t* floors, int64_t highest) noexcept nogil:
        self.reached = self.watermark = watermark
        self.removing = self.settled
        self.floors = floors if watermark <= highest else NULL

    # All that an advance to `watermark` fires has fired: until then a timer or window sees the values of its own time. After the
    # end of an input nothing more expires: a later run goes on from there.
    cdef inline void settle(self, int64_t watermark) noexcept nogil:
        if watermark < INT64_MAX:
            self.settled = self.removing = watermark

    cdef inline void bind(self, int64_t slot, int64_t now) noexcept:
        self.slot = slot
        self.cells = self.table.row(slot) + self.field.offset
        self.touched = False
        self.now = now
        if self.floors != NULL:
            self.watermark = max(self.reached, self.floor_of(self.table.header(slot).shard))
            self.removing = max(self.settled, self.floor_of(self.table.header(slot).shard))

    cdef void unbind(self) noexcept
    cdef int touch(self) except -1
    cdef int64_t time_of(self, StateSpec spec) noexcept
    cdef bint gone(self, StateSpec spec, int64_t deadline) noexcept
    cdef bint removable(self, StateSpec spec, int64_t deadline) noexcept
    cdef int64_t deadline(self, StateSpec spec, int64_t ttl) noexcept
    cdef int sweep(self, int64_t n) except -1
    cdef bint sweep_cell(self, StateSpec spec, Cell* cell, bint remove)

cdef void cell_put(Cell* cell, object value, int64_t deadline) noexcept
cdef void cell_clear(Cell* cell) noexcept


cdef int64_t heap_size(object value)                             # bytes of a value and of what it holds, about
