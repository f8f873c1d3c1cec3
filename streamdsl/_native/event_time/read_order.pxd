"""In which order the bounded splits of a job are read: rounds of event time, the same for all source tasks.

In a round every split emits its rows up to one moment, a batch at most. Two splits are never further apart. Tasks behind them
wait for the end of a round and emit its rows in the order of their places (ordered_gate.pxd): by event time; of equal times by
the place of the source as it was declared, then by split, then as they stand in the split. A place travels with its row.
"""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Column

# Where a row stands among those of a round. A column of them is SYS_ORDINAL with KIND_DEC: 16 bytes each.
cdef struct Place:
    int64_t time         # ms: the greatest of its split up to the row, so a row counts as late as those before it
    int64_t number       # number of the split << 32, and of the row among those that the split emits in the round

cdef enum:
    SPLIT_BITS = 32      # bits below the number of the split


cdef inline Place* places(const Column* column) noexcept nogil:
    return <Place*>column.values


cdef inline bint not_after(const Place* left, const Place* right) noexcept nogil:
    return left.time < right.time or (left.time == right.time and left.number <= right.number)

cdef enum:
    OFFER_NONE = 0       # takes no part: ended, idle, live with nothing to read
    OFFER_WANTED = 1     # more will come, and it is not known when from
    OFFER_MADE = 2

cdef struct Offer:
    int64_t state        # atomic: OFFER_*
    int64_t first        # atomic: ms, of the next row, or how far the split has come; a row counts as late as those before it
    int64_t last         # ms, of the last row that the split can emit in the next round
    int rank             # among the sources as they were declared; -1: a live one, which no round waits for
    int split            # among the splits of its source
    int number           # among all splits of bounded sources, by rank and split

cdef struct Reader:      # a source task
    int task             # its number
    int64_t ready        # the round behind which its offers are made; INT64_MAX: it has left
    int64_t barrier      # the last checkpoint whose barrier it has emitted


cdef class ReadOrder:
    cdef void* lock
    cdef readonly int n_tasks
    cdef readonly int n_splits
    cdef readonly int n_readers
    cdef Offer* offers                       # by split
    cdef Reader* readers
    cdef int64_t* done                       # atomic, by task: the round whose rows are all in its output channels
    cdef int64_t round                       # atomic: the round that is open, or was last
    cdef int64_t until                       # ms: where it ends
    cdef int until_number                    # splits behind it emit only what is before `until`

    cdef void offer(self, int split, int state, int64_t first, int64_t last) noexcept nogil
    cdef void announce(self, int reader, int64_t round) noexcept nogil         # the offers behind `round` are made
    cdef bint try_open(self) noexcept nogil                                    # 1: a round was opened
    cdef bint open_round(self) noexcept nogil                                  # the same, under the lock
    cdef bint may_snapshot(self, int reader, int64_t checkpoint_id) noexcept nogil   # not within a round; no round opens until all have
    cdef bint takes_part(self, int split) noexcept nogil                       # whether its first row lies in the open round
    cdef int64_t until_of(self, int split) noexcept nogil                      # ms: the last that it emits, if it takes part
    cdef void finish(self, int task, int64_t round) noexcept nogil
    cdef void leave(self, int reader) noexcept nogil
    cdef int64_t reach(self, int split, int64_t drift) noexcept nogil          # ms: no more than `drift` ahead of any other that has more
