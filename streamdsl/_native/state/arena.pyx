"""See arena.pxd for what each method promises.

Classes 0..31 hold 8, 16, .. 256 bytes; from there on eight classes a doubling, up to 32 KiB. A freed block is the next
one handed out of its class. What is larger goes to malloc, whose realloc can grow a long list in place.

Chunks have pages of the usual size. What stands here is written once and read seldom, so that large pages gain little; and
a large page costs more at its first use, above all where a hypervisor has taken the free ones back.
"""
from libc.stdlib cimport free as c_free, malloc, realloc as c_realloc
from libc.string cimport memcpy, memset
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.state.key_hash cimport map_memory, prefetch, unmap_memory

cdef enum:
    SMALL_LIMIT = 256
    SMALL_CLASSES = 32
    SMALL_POWER = 8            # 2**8 = SMALL_LIMIT
    CLASS_LIMIT = 32768
    SMALL_CHUNKS = 5           # the first ones: 32 KiB, and each twice the one before
    CHUNK = 1048576


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
    power = log2_floor(size - 1)             # 2**power < size <= 2**(power + 1)
    return SMALL_CLASSES + (power - SMALL_POWER) * 8 + <int>((size - 1 - (<int64_t>1 << power)) >> (power - 3))


cdef inline int64_t class_size(int index) noexcept nogil:
    cdef int power
    if index < SMALL_CLASSES:
        return (index + 1) * 8
    power = SMALL_POWER + (index - SMALL_CLASSES) // 8
    return (<int64_t>1 << power) + (<int64_t>((index - SMALL_CLASSES) % 8 + 1) << (power - 3))


cdef class Arena:
    """Allocator of one task's state."""

    def __cinit__(self):
        memset(self.free_lists, 0, sizeof(self.free_lists))

    def __dealloc__(self):
        self.drop()

    cdef void drop(self) noexcept nogil:
        cdef int64_t i
        cdef LargeBlock* block = self.large
        cdef LargeBlock* following
        while block != NULL:
            following = block.next
            c_free(block)
            block = following
        for i in range(self.n_chunks):
            if i < SMALL_CHUNKS:
                c_free(self.chunks[i])
            else:
                unmap_memory(self.chunks[i], CHUNK)
        c_free(self.chunks)
        memset(self.free_lists, 0, sizeof(self.free_lists))
        self.chunks = NULL
        self.cursor = self.limit = NULL
        self.large = NULL
        self.n_chunks = self.chunk_capacity = self.used = self.reserved = 0
        self.dropped = True

    cdef int add_chunk(self) except -1 nogil:
        cdef void* chunk
        cdef void** grown
        cdef int64_t size = CHUNK
        if self.n_chunks == self.chunk_capacity:
            grown = <void**>c_realloc(self.chunks, (self.chunk_capacity * 2 + 16) * sizeof(void*))
            if grown == NULL:
                no_memory()
            self.chunks = grown
            self.chunk_capacity = self.chunk_capacity * 2 + 16
        # Small jobs stay small, large ones do not pay for many chunks.
        if self.n_chunks < SMALL_CHUNKS:
            size = <int64_t>CLASS_LIMIT << self.n_chunks
            chunk = malloc(size)
        else:
            chunk = map_memory(NULL, 0, size)
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
        if block == NULL or self.dropped:
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
