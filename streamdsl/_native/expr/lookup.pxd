"""Constant hash tables: `replace` and `is_in`."""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.expr.vector cimport Kernel, Vector
from streamdsl._native.includes.short_text cimport Words

cdef struct Table:
    int key_kind
    int32_t n                                # different keys
    int64_t mask                             # slots - 1; slots are a power of two
    int32_t* slots                           # entry, -1 = free
    uint64_t* keys                           # not text: the normalised bits
    char* text                               # text: all keys one after another
    int32_t* ends                            # entry's end in text
    Words* words                             # text: the first 16 bytes of each entry
    bint null_key                            # is_in: null is one of the values
    Vector values                            # replace: one row for each entry

cdef Kernel lookup_kernel(int op) noexcept           # NULL: the operation is not of this family
cdef Table* table_new(list keys, int key_kind) except NULL        # GIL; keys that the kind cannot have match nothing
cdef int table_set_values(Table* table, list keys, list values, int kind) except -1   # the keys of table_new
cdef void table_free(Table* table) noexcept
