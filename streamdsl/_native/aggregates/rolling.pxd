"""Rolling aggregates: of a key its last records are kept, in order of arrival."""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Column
from streamdsl._native.aggregates.cell cimport ByteReader
from streamdsl._native.aggregates.rolling_index cimport Ring, RollingIndex, Slot
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter

# What an aggregate makes of the partial result of its frame.
cdef enum Outcome:
    OUTCOME_OTHER = 0        # what the accumulator says of the records that were chosen
    OUTCOME_SUM = 1
    OUTCOME_MEAN = 2
    OUTCOME_VAR = 3
    OUTCOME_STD = 4

cdef struct RollingAggregate:
    void* accumulator                        # borrowed: see RollingFrame.accumulators
    int64_t size_ms
    bint exclude_current
    bint refuses                             # a record may fail in it
    bint counts_rows                         # count() without a condition: the times are enough
    int argument                             # cell of the entry, -1 = none
    int by
    int where
    Outcome outcome
    int64_t ddof


cdef class RollingFrame:
    """All rolling aggregates of one operator, over one ring a key."""
    cdef readonly list accumulators
    cdef readonly str layout
    cdef readonly int64_t size_ms            # the longest
    cdef Arena arena
    cdef RollingAggregate* aggregates
    cdef int n_aggregates
    cdef int* cell_columns                   # which argument column each cell of an entry holds
    cdef int* cell_kinds
    cdef int n_cells
    cdef int64_t stride                      # bytes an entry
    cdef RollingIndex index
    cdef char* scratch                       # one accumulator's state
    cdef Column* arguments                   # of the batch at hand
    cdef bint refuses                        # one of the aggregates does
    cdef bint counts_only                    # one aggregate, count(): see count_batch

    cdef int begin(self, Column* arguments, int64_t n_results) except -1 nogil
    # One record: drops what no record above the watermark can see, gives a result of each aggregate, keeps the record. One that
    # is refused has not been kept; `truncate` then.
    cdef int run(self, Ring* ring, int64_t row, int64_t time, int64_t watermark) except -1 nogil
    # Many records, where one watermark holds for all: rings[i] + offset is the ring of record i.
    cdef int run_batch(self, char** rings, int64_t offset, const int64_t* times, int64_t n, int64_t watermark) except -1 nogil
    # A result of each aggregate over what the ring holds, at the time of its last record.
    cdef int show(self, Ring* ring) except -1 nogil
    cdef int clear(self, Ring* ring) except -1 nogil
    cdef int write(self, Ring* ring, ByteWriter* out) except -1 nogil
    cdef int read(self, Ring* ring, ByteReader* source) except -1 nogil

    cdef int count_batch(self, char** rings, int64_t offset, const int64_t* times, int64_t n, int64_t watermark) except -1 nogil
    cdef bint is_over(self, const Ring* ring, int64_t watermark) noexcept nogil      # no record above the watermark sees any of it
    cdef int purge(self, Ring* ring, int64_t watermark) except -1 nogil
    cdef int append(self, Ring* ring, int64_t row, int64_t time) except -1 nogil
    # `included`: the record at hand counts, though the ring does not have it yet.
    cdef int evaluate(self, int k, Ring* ring, int64_t row, int64_t time, bint included) except -1 nogil
    cdef int add_current(self, int k, int64_t row) except -1 nogil       # the record at hand, to what the index or scratch holds
    cdef void truncate(self, int64_t n) noexcept nogil               # forget the results n ..
    cdef int add_entries(self, RollingAggregate* aggregate, Ring* ring, int32_t start, bint sorted,
                         int64_t time) except -1 nogil
    cdef int add_chosen(self, RollingAggregate* aggregate, Ring* ring, const int64_t* numbers, int64_t n) except -1 nogil
    cdef int put(self, int k, Ring* ring) except -1 nogil            # the result of what the index has collected
    cdef int put_decimal(self, RollingAggregate* aggregate, const int64_t* held) except -1 nogil
    cdef int compact(self, Ring* ring, int64_t watermark) except -1 nogil
    cdef int resize(self, Ring* ring, int32_t capacity) except -1 nogil
    cdef int free_entry(self, char* entry) except -1 nogil
