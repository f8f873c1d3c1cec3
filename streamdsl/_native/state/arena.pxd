"""Memory of variable-length parts of state: size classes over large chunks, every byte counted.

One task owns an arena; nothing here is safe to use from two threads.
"""
from libc.stdint cimport int64_t


cdef struct LargeBlock:
    LargeBlock* previous
    LargeBlock* next


cdef class Arena:
    cdef readonly int64_t used               # bytes handed out (rounded to their size class)
    cdef readonly int64_t reserved           # bytes taken from the system
    cdef void** chunks
    cdef int64_t n_chunks
    cdef int64_t chunk_capacity
    cdef char* cursor                        # free part of the newest chunk
    cdef char* limit
    cdef void* free_lists[96]                # 88 classes
    cdef LargeBlock* large                   # blocks above the largest class, each from malloc
    cdef bint dropped

    cdef char* alloc(self, int64_t size) except NULL nogil       # 8-aligned, uninitialised
    cdef char* realloc(self, char* block, int64_t old_size, int64_t new_size) except NULL nogil   # a NULL block is allocated
    cdef void free(self, char* block, int64_t size) noexcept nogil                                # NULL is fine
    # All blocks at once, long before the arena itself goes: nobody may look at one again. To free one does nothing then.
    cdef void drop(self) noexcept nogil
    cdef int add_chunk(self) except -1 nogil
    cdef void give_back_rest(self) noexcept nogil
    cdef char* alloc_large(self, int64_t size) except NULL nogil
    cdef char* realloc_large(self, char* block, int64_t old_size, int64_t new_size) except NULL nogil
    cdef void free_large(self, char* block, int64_t size) noexcept nogil
