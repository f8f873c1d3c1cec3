"""What is in a window: accumulators, one row, or rows. Zeroed memory is the contents of a window without records."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport ByteReader
from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.state.write_stream cimport ByteWriter

cdef enum Change:
    CHANGE_NONE = 0            # rows do not say what they are
    CHANGE_ADD = 1
    CHANGE_REPLACE = 2
    CHANGE_WITHDRAW = 3


# A row about a window, on its way out.
cdef struct Shown:
    int64_t slot               # of the key
    int64_t start              # ms
    int64_t end
    int64_t last               # the row's time
    int32_t row                # of the batch: the record that brought it, -1: time did
    Change change


cdef class Contents:
    cdef readonly int64_t size               # bytes of the fixed part
    cdef readonly str layout                 # what it holds, in words
    cdef readonly bint on_heap               # refers to Python objects
    cdef readonly bint refuses               # a record may fail in it
    cdef readonly bint bulk                  # records may be added later than they are assigned, many at once (add_many)
    cdef readonly bint flat                  # has no variable part: nothing is to be freed
    cdef readonly bint by_batch              # emit="update" shows a window once a batch, not once a record
    cdef readonly bint sends                 # rows leave by `send`; else as columns, by `finish`
    cdef ByteWriter scratch                  # of `copy`

    cdef int add(self, char* state, Batch* batch, int32_t row) except -1 nogil
    cdef int add_many(self, char** states, const int32_t* rows, int64_t n) except -1 nogil
    # Adds `other`, of the same key, to `into`; `other` is empty afterwards.
    cdef int merge(self, char* into, char* other) except -1 nogil
    cdef int copy(self, char* into, char* source) except -1 nogil        # `into` is empty
    cdef int clear(self, char* state) except -1 nogil
    cdef int write(self, char* state, ByteWriter* out) except -1 nogil
    cdef int read(self, char* state, ByteReader* source) except -1 nogil
    cdef int64_t heap_bytes(self, char* state)

    # Rows that leave. `open`: for so many at most, of records of a batch whose first one has this arrival number (columns NULL: of
    # no record). `show` appends one, `take_back` forgets those from n on; then `finish` or `send`.
    cdef int open(self, Column* columns, int64_t most, int64_t arrived) except -1 nogil
    cdef int show(self, char* state, const Shown* shown) except -1 nogil
    cdef int take_back(self, int64_t n) except -1 nogil
    cdef int finish(self, Column* columns) except -1 nogil
    cdef int send(self, Batch* batch) except -1 nogil
    cdef list values(self, list states)      # of these (addresses), as Python values for `state()`
