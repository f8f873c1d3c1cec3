"""See broadcast_join.pxd.

One task has read the table's rows in one order, and sends each to all tasks. So at a barrier all of them have the same table, and
one of them keeps it for all. A start at another parallelism gives it to every task.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from streamdsl._native.aggregates.cell cimport cell_assign, cell_free
from streamdsl._native.flow.batch cimport KIND_STR, SYS_KEY, SYS_TIME, Column, i64, is_valid
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.join cimport LEFT, RIGHT, JoinPort
from streamdsl._native.operators.key_lookup cimport KeyDecoder, KeyLookup
from streamdsl._native.operators.table cimport says_removed
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.write_stream cimport WriteStream

import base64

from streamdsl.errors import StateError


cdef class BroadcastJoinOperator(JoinOperator):
    """The left side is the stream, with keys and without slots; the right one the rows of the table."""

    def __init__(self, spec):
        self.table = KeyTable(0, "rows", spec.name, "", 1, Arena(), WriteStream())
        JoinOperator.__init__(self, spec, KeyLookup(spec.name, self.table, KeyDecoder([])))
        self.keeps = spec.how == "left"
        self.removed = spec.removed
        self.field = TableField(spec.name, f"2|broadcast|{spec.sides[RIGHT].layout}", self.table.arena)
        self.table.add_field(self.field)

    def keep_state(self, bint keeps):
        """Say whether this task keeps the table for all."""
        self.keeps_state = keeps

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int32_t row
        for row in range(batch.n):
            if port.side == LEFT:
                self.look(batch, row)
            else:
                self.put(batch, row)
        return self.flush_pairs(LEFT, batch)

    cdef int look(self, Batch* batch, int32_t row) except -1 nogil:
        cdef Column* key = &batch.sys[SYS_KEY]
        cdef int64_t time = i64(&batch.sys[SYS_TIME])[row], slot = -1
        cdef Cell* held = NULL
        if is_valid(key, row):
            slot = self.table.find(key.values + key.offsets[row], key.offsets[row + 1] - key.offsets[row])
        if slot >= 0:
            held = <Cell*>(self.table.row(slot) + self.field.offset)
        if held != NULL and held.tag != 0:
            return self.add_pair(LEFT, batch, row, <char*>held.bits, <int32_t>(held.tag - 1), time)
        return self.add_pair(LEFT, batch, row, NULL, 0, time) if self.keeps else 0

    cdef int put(self, Batch* batch, int32_t row) except -1 nogil:
        cdef Column* key = &batch.sys[SYS_KEY]
        cdef int i, said = says_removed(batch, self.removed, row)
        cdef Cell* held
        cdef Cell cell
        cdef int64_t slot
        if not is_valid(key, row):
            return 0
        if said < 0:
            said = self.sides[RIGHT].width > 0       # the key's columns are not among them
            for i in range(self.sides[RIGHT].width):
                said = said and not is_valid(&batch.columns[self.sides[RIGHT].columns[i]], row)
        slot = self.table.find_or_insert(key.values + key.offsets[row], key.offsets[row + 1] - key.offsets[row], 0)
        held = <Cell*>(self.table.row(slot) + self.field.offset)
        if self.kept is not None:
            with gil:
                self.kept = None
        if said:
            return cell_free(held, KIND_STR, self.field.arena)
        self.serialise(RIGHT, batch, row)
        cell.tag = 1 + self.scratch.used
        cell.bits = <int64_t>self.scratch.data
        return cell_assign(held, KIND_STR, &cell, self.field.arena)

    def snapshot(self, checkpoint_id):
        """Return the whole table: what it holds is bounded by what a task can hold."""
        cdef int64_t slot
        cdef Cell* held
        cdef RowHeader* header
        if not self.keeps_state:
            return None
        if self.kept is None:
            self.kept = []
            slot = self.table.first_slot(0)
            while slot >= 0:
                held = <Cell*>(self.table.row(slot) + self.field.offset)
                if held.tag != 0:
                    header = self.table.header(slot)
                    self.kept.append([in_text(header.key[:header.key_size]), in_text((<char*>held.bits)[:held.tag - 1])])
                slot = self.table.first_slot(slot + 1)
        return {"layout": self.field.layout, "rows": self.kept}

    def restore(self, state):
        """Take the table of a checkpoint, in place of what is there."""
        cdef bytes key, row
        cdef Cell cell
        cdef int64_t slot
        if state is None:
            return
        if state["layout"] != self.field.layout:
            raise StateError(f"{self.name}: the checkpoint has a table of other columns",
                             remedy="give the join another name, or drop its state")
        if PLANTED("broadcast-not-restored"):
            return
        for key_text, row_text in state["rows"]:
            key, row = base64.b64decode(key_text), base64.b64decode(row_text)
            slot = self.table.find_or_insert(PyBytes_AS_STRING(key), <int32_t>PyBytes_GET_SIZE(key), 0)
            cell.tag = 1 + PyBytes_GET_SIZE(row)
            cell.bits = <int64_t>PyBytes_AS_STRING(row)
            cell_assign(<Cell*>(self.table.row(slot) + self.field.offset), KIND_STR, &cell, self.field.arena)

    def metrics(self):
        return {**JoinOperator.metrics(self), "rows": self.table.count}


cdef str in_text(bytes value):
    return base64.b64encode(value).decode()
