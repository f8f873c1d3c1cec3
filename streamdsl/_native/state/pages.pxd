"""Memory of rows: pages of so many rows, which never move. Those that are free are found by page.

The lowest free row is the next to be used. So where rows leave and fewer come, the last pages empty, and their memory
can be given back.
"""
from libc.stdint cimport int32_t, int64_t

cdef enum:
    PAGE_BITS = 10
    PAGE_ROWS = 1024


cdef struct PageRows:
    int32_t first              # free rows, chained by their first 8 bytes: the number of the first one + 1; 0: none
    int32_t blank              # rows from here on have no content: never used, or not since the page was given back
    int32_t free               # rows that have been used and can be used again


cdef struct Pages:
    char** at
    PageRows* rows             # of each page
    int64_t n_free             # rows, of all pages
    int64_t n_released         # of those, rows of pages whose memory was given back
    int64_t lowest             # no page in front of this one has free rows
    int64_t n
    int64_t capacity
    void** blocks              # memory the pages are cut from
    int64_t n_blocks
    char* cursor
    int64_t left               # pages left in the newest block

cdef int pages_add(Pages* pages, int64_t stride) except -1 nogil      # one more; a row has `stride` bytes
cdef void pages_free(Pages* pages) noexcept nogil
cdef int64_t pages_take(Pages* pages, int64_t stride) noexcept nogil                # a free row; -1: there is none
cdef bint pages_give(Pages* pages, int64_t stride, int64_t row) noexcept nogil      # whether all of its page is free now
cdef void pages_release(Pages* pages, int64_t stride, int64_t page) noexcept nogil  # all of it is free: its memory goes back
cdef void pages_clear(Pages* pages) noexcept nogil                                  # no row has ever been used
