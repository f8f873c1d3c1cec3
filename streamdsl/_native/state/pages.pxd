"""Memory of rows: pages of so many rows, which never move."""
from libc.stdint cimport int64_t

cdef enum:
    PAGE_BITS = 10
    PAGE_ROWS = 1024


cdef struct Pages:
    char** at
    int64_t n
    int64_t capacity
    void** blocks              # memory the pages are cut from
    int64_t n_blocks
    char* cursor
    int64_t left               # pages left in the newest block

cdef int pages_add(Pages* pages, int64_t stride) except -1 nogil      # one more; a row has `stride` bytes
cdef void pages_free(Pages* pages) noexcept nogil
