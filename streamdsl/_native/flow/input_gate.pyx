"""The inputs of a task. The gate does not know why an input is blocked: the task tells it."""
from libc.stdlib cimport calloc, free


cdef class InputGate:
    """Reads its channels in turn; with a seed, in an order that the seed decides."""

    def __cinit__(self, list channels, seed=None):
        cdef int i
        self.channels = channels
        self.size = len(channels)
        self.refs = <void**>calloc(self.size + 1, sizeof(void*))
        self.blocked = <bint*>calloc(self.size + 1, sizeof(bint))
        if self.refs == NULL or self.blocked == NULL:
            raise MemoryError("no memory left for an input gate")
        for i in range(self.size):
            self.refs[i] = <void*>channels[i]
        self.random = 0 if seed is None else (2 * seed + 1) & 0xFFFFFFFFFFFFFFFF

    def __dealloc__(self):
        free(self.refs)
        free(self.blocked)

    cdef int next(self, StreamElement* element) except -2 nogil:
        cdef int i, at
        if self.random:
            self.random = self.random * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
            self.turn = <int>((self.random >> 33) % <uint64_t>self.size)
        for i in range(self.size):
            at = self.turn + i
            if at >= self.size:
                at -= self.size
            if not self.blocked[at] and (<Channel>self.refs[at]).poll(element):
                self.turn = at + 1 if at + 1 < self.size else 0
                return at
        return -1

    cdef void block(self, int input) noexcept nogil:
        self.blocked[input] = True

    cdef void unblock_all(self) noexcept nogil:
        cdef int i
        for i in range(self.size):
            self.blocked[i] = False
