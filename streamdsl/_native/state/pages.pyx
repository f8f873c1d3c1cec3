"""See pages.pxd."""
from libc.stdlib cimport free, malloc, realloc

from libc.string cimport memset

from streamdsl._native.state.key_hash cimport huge_alloc, prefetch, release_memory

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
        grown = <void**>realloc(pages.rows, (pages.capacity * 2 + 16) * sizeof(PageRows))
        if grown == NULL:
            no_memory()
        pages.rows = <PageRows*>grown
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
    memset(&pages.rows[pages.n], 0, sizeof(PageRows))
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
    free(pages.rows)


cdef int64_t pages_take(Pages* pages, int64_t stride) noexcept nogil:
    cdef PageRows* page
    cdef int64_t row
    if pages.n_free == 0:
        return -1
    while pages.rows[pages.lowest].free == 0:
        pages.lowest += 1
    page = &pages.rows[pages.lowest]
    if page.free == PAGE_ROWS and page.first == 0:
        pages.n_released -= PAGE_ROWS
    if page.first > 0:
        row = page.first - 1
        page.first = <int32_t>(<int64_t*>(pages.at[pages.lowest] + row * stride))[0]
        if page.first > 0:                   # likely the next one to be taken
            prefetch(pages.at[pages.lowest] + (page.first - 1) * stride)
            prefetch(pages.at[pages.lowest] + (page.first - 1) * stride + 64)
    else:
        row = page.blank
        page.blank += 1
    page.free -= 1
    pages.n_free -= 1
    return (pages.lowest << PAGE_BITS) + row


cdef bint pages_give(Pages* pages, int64_t stride, int64_t row) noexcept nogil:
    cdef PageRows* page = &pages.rows[row >> PAGE_BITS]
    (<int64_t*>(pages.at[row >> PAGE_BITS] + (row & (PAGE_ROWS - 1)) * stride))[0] = page.first
    page.first = <int32_t>(row & (PAGE_ROWS - 1)) + 1
    page.free += 1
    pages.n_free += 1
    pages.lowest = min(pages.lowest, row >> PAGE_BITS)
    return page.free == PAGE_ROWS


cdef void pages_release(Pages* pages, int64_t stride, int64_t page) noexcept nogil:
    pages.rows[page].first = pages.rows[page].blank = 0
    pages.n_released += PAGE_ROWS
    release_memory(pages.at[page], stride << PAGE_BITS)


cdef void pages_clear(Pages* pages) noexcept nogil:
    if pages.n > 0:
        memset(pages.rows, 0, pages.n * sizeof(PageRows))
    pages.n_free = pages.n_released = pages.lowest = 0
