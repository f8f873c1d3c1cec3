from libc.stdint cimport int32_t, int64_t

from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.operators.base cimport Operator


cdef class KeyEncodeOperator(Operator):
    cdef int n_keys
    cdef int* keys                           # column indices
    cdef bint plain                          # one string column: the key is its bytes

    cdef int encode(self, Batch* batch, Column* out) except -1 nogil

# The component tags of an encoded key.
cdef enum:
    TAG_BOOL = 1
    TAG_I64 = 2
    TAG_U64 = 3
    TAG_F64 = 4
    TAG_STR = 5
    TAG_DEC = 6

cdef int64_t component_size(const Column* column, int64_t row) noexcept nogil
cdef char* put_component(char* out, const Column* column, int64_t row) noexcept nogil
