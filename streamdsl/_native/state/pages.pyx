"""See pages.pxd."""
from libc.stdlib cimport free, malloc, realloc

from streamdsl._native.state.key_hash cimport huge_alloc

cdef enum:
    SINGLE_PAGES = 32          # allocated one by one before whole blocks are taken
    BLOCK_PAGES = 32
    HUGE_PAGE = 2097152


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for rows of state")


cdef int pages_add(Pages* pages, int64_t stride) except -1 nogil:
    cdef void* block
    cdef void** grown
    cdef int64_t bytes_a_page = stride << PAGE_BITS
    cdef int64_t size
    if pages.n == pages.capacity:
        grown = <void**>realloc(pages.at, (pages.capacity * 2 + 16) * sizeof(char*))
        if grown == NULL:
            no_memory()
        pages.at = <char**>grown
        pages.capacity = pages.capacity * 2 + 16
    if pages.left == 0:
        grown = <void**>realloc(pages.blocks, (pages.n_blocks + 1) * sizeof(void*))
        if grown == NULL:
            no_memory()
        pages.blocks = grown
        if pages.n < SINGLE_PAGES:
            size = bytes_a_page
            block = malloc(size)
        else:
            size = (bytes_a_page * BLOCK_PAGES + HUGE_PAGE - 1) & ~<int64_t>(HUGE_PAGE - 1)
            block = huge_alloc(size)
        if block == NULL:
            no_memory()
        pages.left = size // bytes_a_page      # all of it: it is resident as a whole
        pages.blocks[pages.n_blocks] = block
        pages.n_blocks += 1
        pages.cursor = <char*>block
    pages.at[pages.n] = pages.cursor
    pages.cursor += bytes_a_page
    pages.left -= 1
    pages.n += 1
    return 0


cdef void pages_free(Pages* pages) noexcept nogil:
    cdef int64_t i
    for i in range(pages.n_blocks):
        free(pages.blocks[i])
    free(pages.blocks)
    free(pages.at)
