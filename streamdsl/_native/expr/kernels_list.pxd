"""Functions of lists. At run time a list is the text of a JSON array; its items are found, not built."""
from libc.stdint cimport int64_t

from streamdsl._native.expr.vector cimport Vector

cdef enum:
    SPARE = 8                                # what `put_item` may write behind the text

cdef struct Items:
    const char* at                           # where the next item begins, NULL: the text is no list
    const char* end
    const char* item                         # the item at hand ...
    int64_t size                             # ... and its bytes

cdef Items items_of(const Vector* source, int64_t row) noexcept nogil
cdef bint next_item(Items* items) noexcept nogil                         # whether there is one more
cdef bint is_null_item(const Items* items) noexcept nogil
cdef int64_t put_item(const Items* items, char* out) noexcept nogil      # as text, a text without its quotes
