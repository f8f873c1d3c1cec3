"""Small fields and a Python view of a table: what tests of state need, nothing that a job uses."""
from libc.stdint cimport int64_t

from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport RowField


cdef class IntField(RowField):
    pass


cdef struct Block:
    char* data                               # in the table's arena
    int64_t size


cdef class BytesField(RowField):
    pass


cdef class FailingField(RowField):
    cdef public bint fail_init
    cdef public bint fail_write


cdef class TableView:
    cdef readonly KeyTable table

    cdef char* _field(self, int64_t slot, int field) except NULL


cdef class ArenaView:
    cdef readonly Arena arena
