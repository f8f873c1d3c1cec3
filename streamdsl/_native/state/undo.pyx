"""See undo.pxd.

The log is kept only where a record may be skipped. A step refers to what was there before, and copies nothing but the entries of
a map from which one is removed: a dict does not tell where in its order an entry stood. What has expired for every reader may
be gone for good before a step is noted.

Cells are addressed where they lie: rows do not move while user code runs.
"""
cimport cython
from libc.stdint cimport INT64_MAX

from streamdsl._native.state.state_field cimport cell_clear, cell_put


cdef class Undo:
    cdef int take_back(self) except -1:
        return 0


@cython.final
cdef class CellUndo(Undo):
    cdef Cell* cell
    cdef bint present
    cdef object value
    cdef int64_t deadline

    cdef int take_back(self) except -1:
        if self.present:
            cell_put(self.cell, self.value, self.deadline)
        else:
            cell_clear(self.cell)
        return 0


@cython.final
cdef class GrowthUndo(Undo):
    cdef Elements elements
    cdef Py_ssize_t n

    cdef int take_back(self) except -1:
        del self.elements.values[self.n:]
        if self.elements.deadlines is not None:
            del self.elements.deadlines[self.n:]
        return 0


@cython.final
cdef class ValuesUndo(Undo):
    cdef Elements elements
    cdef list values
    cdef list deadlines

    cdef int take_back(self) except -1:
        self.elements.values, self.elements.deadlines = self.values, self.deadlines
        return 0


@cython.final
cdef class EntryUndo(Undo):
    cdef Entries entries
    cdef object key
    cdef object value
    cdef bint present
    cdef object deadline                     # None: permanent

    cdef int take_back(self) except -1:
        if self.present:
            self.entries.values[self.key] = self.value
        else:
            self.entries.values.pop(self.key, None)
        if self.deadline is None:
            self.entries.deadlines.pop(self.key, None)
        else:
            self.entries.deadlines[self.key] = self.deadline
        return 0


@cython.final
cdef class EntriesUndo(Undo):
    cdef Entries entries
    cdef dict values
    cdef dict deadlines

    cdef int take_back(self) except -1:
        self.entries.values, self.entries.deadlines = self.values, self.deadlines
        return 0


@cython.final
cdef class UndoLog:
    def __cinit__(self):
        self.steps = []

    cdef void begin(self) noexcept:
        if self.steps:
            self.steps = []

    cdef int take_back(self) except -1:
        cdef list steps = self.steps
        self.steps = []
        for step in reversed(steps):
            (<Undo>step).take_back()
        return 0

    cdef int note_cell(self, Cell* cell) except -1:
        cdef CellUndo step = CellUndo.__new__(CellUndo)
        step.cell, step.present, step.deadline = cell, cell.value != NULL, INT64_MAX
        if step.present:
            step.value, step.deadline = <object>cell.value, cell.deadline
        self.steps.append(step)
        return 0

    cdef int note_growth(self, Elements elements) except -1:
        cdef GrowthUndo step = GrowthUndo.__new__(GrowthUndo)
        step.elements, step.n = elements, len(elements.values)
        self.steps.append(step)
        return 0

    cdef int note_values(self, Elements elements) except -1:
        cdef ValuesUndo step = ValuesUndo.__new__(ValuesUndo)
        step.elements, step.values, step.deadlines = elements, elements.values, elements.deadlines
        self.steps.append(step)
        return 0

    cdef int note_entry(self, Entries entries, object key) except -1:
        cdef EntryUndo step = EntryUndo.__new__(EntryUndo)
        step.entries, step.key, step.present = entries, key, key in entries.values
        if step.present:
            step.value, step.deadline = entries.values[key], entries.deadlines.get(key)
        self.steps.append(step)
        return 0

    cdef int note_entries(self, Entries entries) except -1:
        cdef EntriesUndo step = EntriesUndo.__new__(EntriesUndo)
        step.entries, step.values, step.deadlines = entries, dict(entries.values), dict(entries.deadlines)
        self.steps.append(step)
        return 0
