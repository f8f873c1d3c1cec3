"""Windows of a key: which of them a record is in, when they are over, and what leaves.

Which windows there are says a Windower, what is in them a Contents; lateness, grace, emissions, late records and withdrawals are
the same for all. The windows of a key stand in its row behind the lookup; a table of its own says when the next one is due.
"""
from libc.stdint cimport int64_t

from streamdsl._native.operators.window_due cimport WindowDue


cdef class WindowOperator(WindowDue):
    cdef bint any_due(self) noexcept nogil
    cdef int show_throttled(self, int64_t n) except -1 nogil
    cdef int pass_on(self) except -1 nogil
