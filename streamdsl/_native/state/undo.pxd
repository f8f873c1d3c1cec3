"""What one call of user code has written, step by step, so that it can be taken back."""
from libc.stdint cimport int64_t

from streamdsl._native.state.state_field cimport Cell, Elements, Entries


cdef class Undo:
    """One step. Subclasses know what was there before."""
    cdef int take_back(self) except -1


cdef class UndoLog:
    cdef list steps                          # Undo, in the order of the writes

    cdef void begin(self) noexcept           # forgets what the call before has written: it stays
    cdef int take_back(self) except -1       # the last write first
    cdef int note_cell(self, Cell* cell) except -1                          # before its value is replaced
    cdef int note_growth(self, Elements elements) except -1                 # before values are added at its end
    cdef int note_values(self, Elements elements) except -1                 # before its values are exchanged
    cdef int note_entry(self, Entries entries, object key) except -1        # before a value takes the place of the key's, or comes last
    cdef int note_entries(self, Entries entries) except -1                  # before entries are removed: all are copied, in order
