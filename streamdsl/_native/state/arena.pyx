"""See arena.pxd for what each method promises.

Classes 0..15 hold 8, 16, .. 128 bytes; from there on four classes a doubling, up to 32 KiB. A freed block is the next
one handed out of its class. What is larger goes to malloc, whose realloc can grow a long list in place.
"""
from libc.stdlib cimport free as c_free, malloc, realloc as c_realloc
from libc.string cimport memcpy, memset
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.state.key_hash cimport huge_alloc, prefetch

cdef enum:
    SMALL_LIMIT = 128
    CLASS_LIMIT = 32768
    LARGE_CHUNK = 1048576
    LARGE_CHUNKS = 8           # of those, before whole huge pages are taken
    HUGE_PAGE = 2097152


cdef extern from * nogil:
    """
    #define sd_log2(x) (63 - __builtin_clzll((unsigned long long)(x)))
    """
    int log2_floor "sd_log2"(int64_t x) noexcept


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for state")


cdef inline int class_of(int64_t size) noexcept nogil:
    cdef int power
    if size <= SMALL_LIMIT:
        return <int>((size + 7) >> 3) - 1 if size > 0 else 0
    power = log2_floor(size - 1)             # 2**power < size <= 2**(power + 1), power >= 7
    return 16 + (power - 7) * 4 + <int>((size - 1 - (<int64_t>1 << power)) >> (power - 2))


cdef inline int64_t class_size(int index) noexcept nogil:
    cdef int power
    if index < 16:
        return (index + 1) * 8
    power = 7 + (index - 16) // 4
    return (<int64_t>1 << power) + (<int64_t>((index - 16) % 4 + 1) << (power - 2))


cdef class Arena:
    """Allocator of one task's state."""

    def __cinit__(self):
        memset(self.free_lists, 0, sizeof(self.free_lists))

    def __dealloc__(self):
        cdef int64_t i
        cdef LargeBlock* block = self.large
        cdef LargeBlock* following
        while block != NULL:
            following = block.next
            c_free(block)
            block = following
        for i in range(self.n_chunks):
            c_free(self.chunks[i])
        c_free(self.chunks)

    cdef int add_chunk(self) except -1 nogil:
        cdef void* chunk
        cdef void** grown
        cdef int64_t size = LARGE_CHUNK
        if self.n_chunks == self.chunk_capacity:
            grown = <void**>c_realloc(self.chunks, (self.chunk_capacity * 2 + 16) * sizeof(void*))
            if grown == NULL:
                no_memory()
            self.chunks = grown
            self.chunk_capacity = self.chunk_capacity * 2 + 16
        # Small jobs stay small, large ones do not pay for many chunks.
        if self.n_chunks < 5:
            size = <int64_t>CLASS_LIMIT << self.n_chunks
        if self.n_chunks < 5 + LARGE_CHUNKS:
            chunk = malloc(size)
        else:
            size = HUGE_PAGE
            chunk = huge_alloc(size)
        if chunk == NULL:
            no_memory()
        self.give_back_rest()
        self.chunks[self.n_chunks] = chunk
        self.n_chunks += 1
        self.reserved += size
        self.cursor = <char*>chunk
        self.limit = self.cursor + size
        return 0

    cdef void give_back_rest(self) noexcept nogil:
        # The end of the old chunk becomes free blocks of the small classes.
        cdef int64_t size
        while self.limit - self.cursor >= 8:
            size = self.limit - self.cursor
            if size > SMALL_LIMIT:
                size = SMALL_LIMIT
            (<void**>self.cursor)[0] = self.free_lists[class_of(size)]
            self.free_lists[class_of(size)] = self.cursor
            self.cursor += size

    cdef char* alloc(self, int64_t size) except NULL nogil:
        cdef int index
        cdef int64_t rounded
        cdef char* block
        if size > CLASS_LIMIT:
            return self.alloc_large(size)
        index = class_of(size)
        rounded = class_size(index)
        CHECK(size >= 0 and rounded >= size, "a block is as large as was asked")
        self.used += rounded
        block = <char*>self.free_lists[index]
        if block != NULL:
            self.free_lists[index] = (<void**>block)[0]
            prefetch(self.free_lists[index])         # the next one was freed long ago, too
            return block
        if self.limit - self.cursor < rounded:
            self.add_chunk()
        block = self.cursor
        self.cursor += rounded
        return block

    cdef char* realloc(self, char* block, int64_t old_size, int64_t new_size) except NULL nogil:
        cdef char* moved
        if block == NULL:
            return self.alloc(new_size)
        if old_size > CLASS_LIMIT and new_size > CLASS_LIMIT:
            return self.realloc_large(block, old_size, new_size)
        if old_size <= CLASS_LIMIT and new_size <= CLASS_LIMIT and class_of(old_size) == class_of(new_size):
            return block
        moved = self.alloc(new_size)
        memcpy(moved, block, old_size if old_size < new_size else new_size)
        self.free(block, old_size)
        return moved

    cdef void free(self, char* block, int64_t size) noexcept nogil:
        cdef int index
        if block == NULL:
            return
        if size > CLASS_LIMIT:
            self.free_large(block, size)
            return
        index = class_of(size)
        CHECK(size >= 0 and self.used >= class_size(index), "no more is freed than was handed out")
        self.used -= class_size(index)
        (<void**>block)[0] = self.free_lists[index]
        self.free_lists[index] = block

    cdef char* alloc_large(self, int64_t size) except NULL nogil:
        cdef LargeBlock* block = <LargeBlock*>malloc(sizeof(LargeBlock) + size)
        if block == NULL:
            no_memory()
        block.previous = NULL
        block.next = self.large
        if self.large != NULL:
            self.large.previous = block
        self.large = block
        self.used += size
        self.reserved += size + sizeof(LargeBlock)
        return <char*>(block + 1)

    cdef char* realloc_large(self, char* block, int64_t old_size, int64_t new_size) except NULL nogil:
        cdef LargeBlock* moved = <LargeBlock*>c_realloc(<LargeBlock*>block - 1, sizeof(LargeBlock) + new_size)
        if moved == NULL:
            no_memory()
        if moved.previous == NULL:
            self.large = moved
        else:
            moved.previous.next = moved
        if moved.next != NULL:
            moved.next.previous = moved
        self.used += new_size - old_size
        self.reserved += new_size - old_size
        return <char*>(moved + 1)

    cdef void free_large(self, char* block, int64_t size) noexcept nogil:
        cdef LargeBlock* header = <LargeBlock*>block - 1
        if header.previous == NULL:
            self.large = header.next
        else:
            header.previous.next = header.next
        if header.next != NULL:
            header.next.previous = header.previous
        self.used -= size
        self.reserved -= size + sizeof(LargeBlock)
        c_free(header)
