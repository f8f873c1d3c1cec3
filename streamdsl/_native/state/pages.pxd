"""Memory of rows: pages of so many rows, which never move. Those that are free are found by page.

The lowest free row is the next to be used. So where rows leave and fewer come, the last pages empty, and their memory
can be given back; and rows that come together stand side by side. It is given back when nobody has wanted it for a while:
the system clears what it gives again, and no longer in large pages.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef enum:
    PAGE_BITS = 10
    PAGE_ROWS = 1024
    PAGE_WORDS = 16            # of 64 rows


cdef struct PageRows:
    uint64_t[PAGE_WORDS] bits   # a row that can be used again is a one
    int32_t free               # so many ones
    int32_t word               # none in front of this word
    bint released              # its memory was given back, and no row of it has been used since


cdef struct Pages:
    char** at
    PageRows* rows             # of each page
    int64_t n_free             # rows, of all pages
    int64_t n_released         # of those, rows of pages whose memory was given back
    int64_t lowest             # no page in front of this one has free rows
    int64_t idle               # so many free rows, those of released pages apart, were there at any time since the last `pages_settle`
    bint emptied               # there may be pages all of whose rows are free, with memory
    int64_t n
    int64_t capacity
    void** blocks              # memory the pages are cut from
    int64_t n_blocks
    char* cursor
    int64_t left               # pages left in the newest block

cdef int pages_add(Pages* pages, int64_t stride) except -1 nogil      # one more; a row has `stride` bytes
cdef void pages_free(Pages* pages) noexcept nogil
cdef int64_t pages_take(Pages* pages, int64_t stride) noexcept nogil                # a free row; -1: there is none
cdef void pages_give(Pages* pages, int64_t row) noexcept nogil
cdef int64_t pages_settle(Pages* pages) noexcept nogil        # a while has passed; returns how many free rows nobody has wanted in it
# The memory of these pages goes back: all of their rows are free, and they lie side by side.
cdef void pages_release(Pages* pages, int64_t stride, int64_t first, int64_t end) noexcept nogil
cdef void pages_clear(Pages* pages) noexcept nogil                                  # no row has ever been used
