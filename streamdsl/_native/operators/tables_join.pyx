"""See tables_join.pxd.

Each change of either table is held against the row of the other one: the pair is there, or not, before and after it. A pair that is
no longer there is withdrawn with the values that it had.
"""
from libc.stdint cimport int32_t

from streamdsl._native.aggregates.cell cimport ByteReader, cell_assign, cell_free, cell_read, cell_write, damaged_state
from streamdsl._native.flow.batch cimport KIND_STR, SYS_SLOT, SYS_TIME, Batch, i64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.changes_join cimport ADD, REPLACE, WITHDRAW
from streamdsl._native.operators.join cimport LEFT, RIGHT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.state.write_stream cimport ByteWriter


cdef class TwoRowsField(RowField):
    def __init__(self, str name, str layout, Arena arena):
        RowField.__init__(self, name, layout, 2 * sizeof(Cell))
        self.arena = arena

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        cell_write(<Cell*>field, KIND_STR, out)
        return cell_write(<Cell*>field + 1, KIND_STR, out)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef ByteReader source
        source.at = data
        source.end = data + size
        cell_read(<Cell*>field, KIND_STR, &source, self.arena)
        cell_read(<Cell*>field + 1, KIND_STR, &source, self.arena)
        return damaged_state() if source.at != source.end else 0

    cdef int clear(self, char* field) except -1 nogil:
        cell_free(<Cell*>field, KIND_STR, self.arena)
        return cell_free(<Cell*>field + 1, KIND_STR, self.arena)

    cdef bint empty(self, char* field) noexcept nogil:
        return (<Cell*>field).tag == 0 and (<Cell*>field + 1).tag == 0


cdef class TablesJoinOperator(ChangesJoinOperator):
    def __init__(self, spec, KeyLookup lookup not None):
        ChangesJoinOperator.__init__(self, spec, lookup)
        self.field = TwoRowsField(spec.name, f"2|tables|{spec.sides[0].layout}|{spec.sides[1].layout}", lookup.table.arena)

    def open(self, context):
        self.lookup.add_field(self.field)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t time
        cdef int32_t row
        cdef int side = port.side
        cdef Cell* held
        cdef Cell cell
        cdef bint before, after
        self.cause = batch
        for row in range(batch.n):
            self.cause_row = row
            time = i64(&batch.sys[SYS_TIME])[row]
            held = <Cell*>(self.lookup.table.row(slots[row]) + self.field.offset)
            before = self.there(held, held + 1)
            if self.removes(side, batch, row):
                if held[side].tag == 0:
                    continue
                cell = held[side]
                held[side].tag = 0
                after = self.there(held, held + 1)
                held[side] = cell
                if before and not after and not PLANTED("joined-row-not-withdrawn"):
                    self.note_cells(WITHDRAW, held, held + 1, time)
                self.lookup.table.touch(slots[row])
                cell_free(held + side, KIND_STR, self.field.arena)
                if before and after:
                    self.note_cells(REPLACE, held, held + 1, time)
                continue
            self.serialise(side, batch, row)
            cell.tag = 1 + self.scratch.used
            cell.bits = <int64_t>self.scratch.data
            self.lookup.table.touch(slots[row])
            cell_assign(held + side, KIND_STR, &cell, self.field.arena)
            if self.there(held, held + 1):
                self.note_cells(REPLACE if before and not PLANTED("joined-row-added-twice") else ADD, held, held + 1, time)
        return self.send()

    cdef bint there(self, const Cell* left, const Cell* right) noexcept nogil:
        if left.tag != 0 and right.tag != 0:
            return True
        return (left.tag != 0 and self.keeps[LEFT]) or (right.tag != 0 and self.keeps[RIGHT])

    cdef int note_cells(self, Change change, const Cell* left, const Cell* right, int64_t time) except -1 nogil:
        return self.note(change, NULL if left.tag == 0 else <const char*>left.bits, left.tag - 1,
                         NULL if right.tag == 0 else <const char*>right.bits, right.tag - 1, time)
