"""Rows united two by two by a user's function."""
from streamdsl._native.rows.row cimport Row, RowShape

# function(so_far, row) as a Row of the same columns; key columns and hidden ones are those of `row`.
cdef Row united(object function, RowShape shape, frozenset keys, Row so_far, Row row)
