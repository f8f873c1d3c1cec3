"""See group.pxd.

A group counts its rows. The one that leaves it last withdraws the group, with the values that it had until then.
"""
from libc.stdint cimport int32_t
from libc.stdlib cimport free, realloc

from streamdsl._native.aggregates.accumulators cimport CHANGE_BEGINS, CHANGE_EMPTIES, CHANGE_WITHDRAWS, AccumulatorSet
from streamdsl._native.aggregates.cell cimport ByteReader, Cell, cell_load, cell_view, cell_write, damaged_state, read_i64, write_i64
from streamdsl._native.aggregates.sorted_cells cimport Place, number_of
from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport (
    KIND_STR, SYS_SLOT, Column, StringBuilder, batch_release, batch_take, column_clear, i64, strings_append, strings_finish,
    strings_free, strings_init,
)
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport KeyedOperator
from streamdsl._native.state.write_stream cimport bytes_free, bytes_init

from streamdsl.errors import InternalError


cdef class GroupField(AggregateField):
    """The field of a GroupOperator."""

    def __init__(self, str name, AccumulatorSet accumulators, CellOrder texts):
        AggregateField.__init__(self, name, accumulators, None, sizeof(Group))
        self.texts = texts

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        cdef SortedCells* refused = &(<Group*>field).refused
        cdef Place place = self.texts.first()
        cdef char* entry = self.texts.entry(refused, place)
        write_i64((<Group*>field).rows, out)
        write_i64(refused.count, out)
        while entry != NULL:
            cell_write(<Cell*>entry, KIND_STR, out)
            write_i64(number_of(self.texts, entry)[0], out)
            place = self.texts.next(refused, place)
            entry = self.texts.entry(refused, place)
        return self.accumulators.write(field, out)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef ByteReader source
        cdef Cell cell
        cdef int64_t _i, count
        source.at = data
        source.end = data + size
        self.clear(field)
        (<Group*>field).rows = read_i64(&source)
        (<Group*>field).shown = (<Group*>field).rows > 0
        count = read_i64(&source)
        for _i in range(count):
            cell_view(&cell, KIND_STR, &source)
            self.texts.insert(&(<Group*>field).refused, &cell, read_i64(&source))
        self.accumulators.read(field, &source)
        return damaged_state() if source.at != source.end else 0

    cdef int clear(self, char* field) except -1 nogil:
        (<Group*>field).rows = (<Group*>field).shown = 0
        self.texts.clear(&(<Group*>field).refused)
        return AggregateField.clear(self, field)

    cdef bint empty(self, char* field) noexcept nogil:
        return (<Group*>field).rows == 0 and (<Group*>field).refused.count == 0


cdef class GroupOperator(AggregateOperator):
    """Key columns, the aggregates of the rows that the group has, and the change: "add", "replace" or "withdraw".

    A row that is refused is remembered until its withdrawal comes, which is then no more than forgetting it. With emit="batch" a
    group gets one row for each batch, and none if it came and went within it.

    Parameters
    ----------
    spec : PhysicalAggregate
        `sign` says which column of the arguments adds or withdraws.
    lookup : KeyLookup
    arguments : Program
    """

    def __init__(self, spec, KeyLookup lookup not None, Program arguments not None):
        self.sign = spec.sign
        self.texts = CellOrder([KIND_STR], [1], 1, lookup.table.arena, by_number=False, exact=False, owns=True)
        bytes_init(&self.text, 256)
        AggregateOperator.__init__(self, spec, lookup, arguments)
        # A group that leaves is shown as it was before its last row went: results are those of a row for each record.
        self.batch_rows, self.last_rows = self.last_rows, None

    def __dealloc__(self):
        free(self.changes)
        bytes_free(&self.text)

    def made_field(self, int64_t prefix):
        """As of every aggregation; a group needs more room in front."""
        AggregateOperator.made_field(self, sizeof(Group))
        return GroupField(self.name, self.accumulators, self.texts)

    cdef int begin_rows(self, Batch* batch) except -1 nogil:
        cdef int64_t row
        cdef uint8_t* changes
        if batch.n > self.changes_capacity:
            changes = <uint8_t*>realloc(self.changes, batch.n)
            if changes == NULL:
                with gil:
                    raise MemoryError("no memory left for groups")
            self.changes = changes
            self.changes_capacity = batch.n
        self.accumulators.follow(self.changes)
        if not self.careful:
            for row in range(batch.n):
                self.plan_row(row)
                self.count_row(row)
        return 0

    cdef int plan_row(self, int64_t row) except -1 nogil:
        cdef int64_t rows = (<Group*>self.states[row]).rows
        if not self.withdraws(row):
            self.changes[row] = CHANGE_BEGINS if rows == 0 else 0
            return 0
        if rows < 1:
            with gil:
                raise InternalError(f"{self.name}: a row is withdrawn from a group that has none")
        self.changes[row] = CHANGE_WITHDRAWS | (CHANGE_EMPTIES if rows == 1 else 0)
        return 0

    cdef int count_row(self, int64_t row) except -1 nogil:
        (<Group*>self.states[row]).rows += -1 if self.changes[row] & CHANGE_WITHDRAWS else 1
        return 0

    cdef bint take_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        if self.withdraws(row) and self.was_refused(row):
            return False
        self.plan_row(row)
        if KeyedOperator.take_row(self, batch, row, taken):
            self.count_row(row)
            return True
        if not self.withdraws(row):
            self.remember_refused(row)
        return False

    cdef int write_row(self, int64_t row) except -1 nogil:
        cdef int i
        cdef Cell cell
        self.text.used = 0
        for i in range(self.n_columns):
            if i != self.sign:
                cell = cell_load(&self.columns[i], row)
                cell_write(&cell, self.columns[i].kind, &self.text)
        return 0

    cdef bint was_refused(self, int64_t row) except -1 nogil:
        cdef SortedCells* refused = &(<Group*>self.states[row]).refused
        cdef Cell cell
        cdef Place place
        cdef char* entry
        if refused.count == 0:
            return False
        self.write_row(row)
        cell.tag = 1 + self.text.used
        cell.bits = <int64_t>self.text.data
        place = self.texts.find(refused, &cell, 0)
        entry = self.texts.entry(refused, place)
        if entry == NULL or self.texts.compare(&cell, 0, entry) != 0:
            return False
        if number_of(self.texts, entry)[0] > 1:
            self.texts.change(refused, place, -1)
        else:
            self.texts.remove(refused, place)
        return True

    cdef int remember_refused(self, int64_t row) except -1 nogil:
        cdef SortedCells* refused = &(<Group*>self.states[row]).refused
        cdef Cell cell
        cdef Place place
        cdef char* entry
        self.write_row(row)
        cell.tag = 1 + self.text.used
        cell.bits = <int64_t>self.text.data
        place = self.texts.find(refused, &cell, 0)
        entry = self.texts.entry(refused, place)
        if entry != NULL and self.texts.compare(&cell, 0, entry) == 0:
            return self.texts.change(refused, place, 1)
        self.texts.insert(refused, &cell, 1)
        return 0

    cdef Batch* compute(self, Batch* batch) except NULL nogil:
        cdef Batch* made = AggregateOperator.compute(self, batch)
        if self.batch_rows is None:
            return made
        try:
            return self.last_of(made)
        finally:
            batch_release(made)

    cdef Batch* last_of(self, Batch* made) except NULL nogil:
        cdef int32_t i, row, n = self.batch_rows.find(i64(&made.sys[SYS_SLOT]), made.n, self.rows), kept = 0
        cdef Group* group
        cdef StringBuilder changes
        cdef Batch* out = NULL
        cdef bint done = False
        strings_init(&changes, n, 8 * n)
        try:
            for i in range(n):
                row = self.rows[i]
                group = <Group*>self.states[row]
                if group.rows == 0 and not group.shown:
                    continue
                if group.rows == 0:
                    strings_append(&changes, b"withdraw", 8)
                elif group.shown:
                    strings_append(&changes, b"replace", 7)
                else:
                    strings_append(&changes, b"add", 3)
                group.shown = group.rows > 0
                self.rows[kept] = row
                kept += 1
            out = batch_take(made, self.rows, kept)
            column_clear(&out.columns[out.width - 1])
            strings_finish(&changes, &out.columns[out.width - 1])
            done = True
        finally:
            if not done:
                strings_free(&changes)
                batch_release(out)
        return out

    cdef int append_changes(self, int64_t n, Column* target) except -1 nogil:
        cdef StringBuilder changes
        cdef int64_t i
        cdef int change
        cdef bint done = False
        strings_init(&changes, n, 8 * n)
        try:
            for i in range(n):
                change = self.changes[self.rows[i]]
                if change & CHANGE_EMPTIES:
                    strings_append(&changes, b"withdraw", 8)
                elif change & CHANGE_BEGINS:
                    strings_append(&changes, b"add", 3)
                else:
                    strings_append(&changes, b"replace", 7)
            strings_finish(&changes, target)
            done = True
        finally:
            if not done:
                strings_free(&changes)
        return 0
