"""See table_join.pxd."""
from libc.stdint cimport int64_t

from streamdsl._native.aggregates.cell cimport Cell, cell_assign, cell_free
from streamdsl._native.flow.batch cimport KIND_STR, SYS_SLOT, SYS_TIME, i64, is_valid
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.join cimport LEFT, RIGHT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.table cimport says_removed


cdef class TableJoinOperator(JoinOperator):
    """The left side is the stream, the right one the changes of the table."""

    def __init__(self, spec, KeyLookup lookup not None):
        JoinOperator.__init__(self, spec, lookup)
        self.keeps = spec.how == "left"
        self.removed = spec.removed
        self.field = TableField(spec.name, f"2|table|{spec.sides[RIGHT].layout}", lookup.table.arena)

    def open(self, context):
        self.lookup.add_field(self.field)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int32_t row
        cdef Cell* held
        cdef Cell cell
        for row in range(batch.n):
            held = <Cell*>(self.lookup.table.row(slots[row]) + self.field.offset)
            if port.side == LEFT:
                if held.tag != 0:
                    self.add_pair(LEFT, batch, row, <char*>held.bits, <int32_t>(held.tag - 1), times[row])
                elif self.keeps:
                    self.add_pair(LEFT, batch, row, NULL, 0, times[row])
                continue
            self.lookup.table.touch(slots[row])
            if self.removes(batch, row) and not PLANTED("tombstone-ignored"):
                cell_free(held, KIND_STR, self.field.arena)
                continue
            self.serialise(RIGHT, batch, row)
            cell.tag = 1 + self.scratch.used
            cell.bits = <int64_t>self.scratch.data
            cell_assign(held, KIND_STR, &cell, self.field.arena)
        return self.flush_pairs(LEFT, batch)

    cdef bint removes(self, Batch* batch, int32_t row) noexcept nogil:
        """Whether the row takes the key's row away: it says so, or has nothing beside the key."""
        cdef int i, said = says_removed(batch, self.removed, row)
        if said >= 0:
            return said
        for i in range(self.sides[RIGHT].width):
            if is_valid(&batch.columns[self.sides[RIGHT].columns[i]], row):
                return False
        return self.sides[RIGHT].width > 0       # the key's columns are not among them
