"""See contents.pxd."""
from streamdsl._native.state.write_stream cimport bytes_free, bytes_init


cdef class Contents:
    """Base: a window that keeps nothing."""

    def __cinit__(self, *args, **kwargs):
        bytes_init(&self.scratch, 0)
        self.layout = ""

    def __dealloc__(self):
        bytes_free(&self.scratch)

    cdef int add(self, char* state, Batch* batch, int32_t row) except -1 nogil:
        return 0

    cdef int add_many(self, char** states, const int32_t* rows, int64_t n) except -1 nogil:
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        return 0

    cdef int copy(self, char* into, char* source) except -1 nogil:
        cdef ByteReader reader
        self.scratch.used = 0
        self.write(source, &self.scratch)
        reader.at = self.scratch.data
        reader.end = self.scratch.data + self.scratch.used
        return self.read(into, &reader)

    cdef int clear(self, char* state) except -1 nogil:
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        return 0

    cdef int64_t heap_bytes(self, char* state):
        return 0

    cdef int open(self, Column* columns, int64_t most, int64_t arrived) except -1 nogil:
        return 0

    cdef int show(self, char* state, const Shown* shown) except -1 nogil:
        return 0

    cdef int take_back(self, int64_t n) except -1 nogil:
        return 0

    cdef int finish(self, Column* columns) except -1 nogil:
        return 0

    cdef int send(self, Batch* batch) except -1 nogil:
        return 0

    cdef list values(self, list states):
        return [{} for _ in states]
