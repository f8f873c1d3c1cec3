"""See pages.pxd."""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from streamdsl._native.state.key_hash cimport CACHE_LINE, aligned_alloc, huge_alloc, lowest_bit, prefetch, release_memory

cdef enum:
    SINGLE_PAGES = 32          # allocated one by one before whole blocks are taken
    BLOCK_PAGES = 32
    HUGE_PAGE = 2097152
    AHEAD = 4                  # rows between asking for one's memory and using it


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
            block = aligned_alloc(size)
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
    cdef char* next
    if pages.n_free == 0:
        return -1
    while pages.rows[pages.lowest].free == 0:
        pages.lowest += 1
    page = &pages.rows[pages.lowest]
    if page.released:
        page.released = False
        pages.n_released -= PAGE_ROWS
    while page.bits[page.word] == 0:
        page.word += 1
    row = 64 * page.word + lowest_bit(page.bits[page.word])
    page.bits[page.word] &= page.bits[page.word] - 1
    page.free -= 1
    pages.n_free -= 1
    pages.idle = min(pages.idle, pages.n_free - pages.n_released)
    if row + AHEAD < PAGE_ROWS:              # likely to be taken soon
        next = pages.at[pages.lowest] + (row + AHEAD) * stride
        prefetch(next)
        prefetch(next + CACHE_LINE)
    return (pages.lowest << PAGE_BITS) + row


cdef void pages_give(Pages* pages, int64_t row) noexcept nogil:
    cdef PageRows* page = &pages.rows[row >> PAGE_BITS]
    cdef int32_t word = <int32_t>((row & (PAGE_ROWS - 1)) >> 6)
    page.bits[word] |= <uint64_t>1 << (row & 63)
    page.word = min(page.word, word)
    page.free += 1
    pages.emptied = pages.emptied or page.free == PAGE_ROWS
    pages.n_free += 1
    pages.lowest = min(pages.lowest, row >> PAGE_BITS)


cdef int64_t pages_settle(Pages* pages) noexcept nogil:
    cdef int64_t idle = pages.idle
    pages.idle = pages.n_free - pages.n_released
    return idle


cdef void pages_release(Pages* pages, int64_t stride, int64_t first, int64_t end) noexcept nogil:
    cdef int64_t page
    for page in range(first, end):
        pages.rows[page].released = True
    pages.n_released += (end - first) << PAGE_BITS
    release_memory(pages.at[first], (end - first) * (stride << PAGE_BITS))


cdef void pages_clear(Pages* pages) noexcept nogil:
    if pages.n > 0:
        memset(pages.rows, 0, pages.n * sizeof(PageRows))
    pages.n_free = pages.n_released = pages.lowest = pages.idle = 0
    pages.emptied = False
