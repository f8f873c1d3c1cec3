"""See table.pxd."""
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from streamdsl._native.flow.batch cimport (
    KIND_I64, KIND_NONE, KIND_STR, SYS_COUNT, SYS_SLOT, SYS_TIME, Column, batch_new, batch_release, batch_share, column_alloc,
    column_share, column_take, i64, is_valid, strings_append, strings_finish, strings_free, strings_init,
)
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, Results, cell_assign, cell_free, cell_load, cell_read, cell_view, cell_write, damaged_state,
    kind_number, results_append, results_finish, results_free, results_init,
)
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.state_view cimport StateView, new_view
from streamdsl._native.state.write_stream cimport bytes_append, bytes_free, bytes_init

from streamdsl._native.flow.convert import canonical_kind
from streamdsl.errors import InternalError

cdef enum:
    HEAD_BYTES = 8           # of a number or a version


cdef int says_removed(const Batch* batch, int column, int32_t row) noexcept nogil:
    if column < 0 or not is_valid(&batch.columns[column], row):
        return -1
    return batch.columns[column].values[row] != 0


cdef class TableField(RowField):
    """The field of a table."""

    def __init__(self, str name, str layout, Arena arena):
        RowField.__init__(self, name, layout, sizeof(Cell))
        self.arena = arena

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        return cell_write(<Cell*>field, KIND_STR, out)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef ByteReader source
        source.at = data
        source.end = data + size
        cell_read(<Cell*>field, KIND_STR, &source, self.arena)
        return damaged_state() if source.at != source.end else 0

    cdef int clear(self, char* field) except -1 nogil:
        return cell_free(<Cell*>field, KIND_STR, self.arena)

    cdef bint empty(self, char* field) noexcept nogil:
        return (<Cell*>field).tag == 0


cdef class TableOperator(KeyedOperator):
    """The rows, and the change: "add", "replace", or "withdraw" (with the old row).

    A row that the column `removed` says so of, or where that says nothing one whose columns outside the key are all null, is a
    tombstone: it withdraws what the key has; if that is nothing, it is dropped.

    Parameters
    ----------
    spec : PhysicalTable
        Its schema is the input's and the hidden column `op`.
    lookup : KeyLookup
    """

    def __init__(self, spec, KeyLookup lookup not None):
        cdef int i
        KeyedOperator.__init__(self, spec, lookup, None)
        self.retracts = spec.retracts
        self.numbered, self.removed, self.version, self.by_time = spec.numbered, spec.removed, spec.version, spec.by_time
        self.head = HEAD_BYTES if self.numbered or self.by_time or self.version >= 0 else 0
        fields = list(spec.schema.fields)
        change = fields.pop() if fields else None
        if self.numbered:
            fields.pop()
        keys = {field.name for field in spec.key_schema.fields}
        if change is None or change.name != "op":
            raise InternalError(f"{spec.name}: the last column of a table is its change")
        self.width = len(fields)
        self.is_key = <bint*>calloc(self.width + 1, sizeof(bint))
        if self.is_key == NULL:
            raise MemoryError("no memory left for a table")
        for i in range(self.width):
            self.is_key[i] = fields[i].name in keys
        bytes_init(&self.scratch, 256)
        bytes_init(&self.old_rows, 256)
        layout = f"1|table|{'' if self.head == 0 else 'versions|'}" + ",".join([f"{field.name}:{field.type}" for field in fields])
        self.row_field = TableField(spec.name, layout, lookup.table.arena)

    def __dealloc__(self):
        free(self.is_key)
        free(self.old_at)
        bytes_free(&self.scratch)
        bytes_free(&self.old_rows)

    def open(self, context):
        context.lookup.add_field(self.row_field)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef StringBuilder changes
        cdef Batch* out = NULL
        cdef int32_t n
        self.touch_rows(batch, self.row_field)
        self.reserve(2 * batch.n)
        strings_init(&changes, batch.n, 8 * batch.n)
        try:
            n = self.apply(batch, &changes)
            if n > 0:
                out = self.output(batch, n, &changes)
        finally:
            strings_free(&changes)
        return self.emit(out) if n > 0 else 0

    cdef int32_t apply(self, Batch* batch, StringBuilder* changes) except -1 nogil:
        cdef int32_t row, n = 0
        cdef Cell* held
        cdef int64_t* old_at
        cdef int64_t version, held_version
        if self.old_capacity < 2 * batch.n:
            old_at = <int64_t*>realloc(self.old_at, 2 * batch.n * sizeof(int64_t))
            if old_at == NULL:
                with gil:
                    raise MemoryError("no memory left for a table")
            self.old_at = old_at
            self.old_capacity = 2 * batch.n
        self.old_rows.used = 0
        self.first_arrival = self.lookup.arrive(batch.n) if self.numbered else 0
        for row in range(batch.n):
            held = <Cell*>self.states[row]
            version = self.version_of(batch, row)
            if held.tag != 0 and (self.by_time or self.version >= 0):
                memcpy(&held_version, <char*>held.bits, HEAD_BYTES)
                if version < held_version:
                    self.outdated += 1
                    continue
            self.old_at[n] = -1
            if self.is_tombstone(batch, row):
                if not self.has_row(held):
                    self.unmatched += 1
                    if self.by_time:
                        self.remove(held, version)
                    continue
                if self.is_replaced(batch, row):
                    continue
                self.withdraw(held, n, row, changes)
                self.remove(held, version)
            else:
                if self.has_row(held) and self.retracts and not PLANTED("old-row-not-withdrawn"):
                    self.withdraw(held, n, row, changes)
                    n += 1
                    self.old_at[n] = -1
                if not self.has_row(held) or self.retracts:
                    strings_append(changes, b"add", 3)
                else:
                    strings_append(changes, b"replace", 7)
                self.store(batch, row, held)
            self.rows[n] = row
            n += 1
        return n

    cdef bint is_tombstone(self, Batch* batch, int32_t row) noexcept nogil:
        cdef int i, others = 0, said = says_removed(batch, self.removed, row)
        if said >= 0:
            return said
        for i in range(self.width):
            if not self.is_key[i]:
                if is_valid(&batch.columns[i], row):
                    return False
                others += 1
        return others > 0

    cdef bint has_row(self, const Cell* held) noexcept nogil:
        return held.tag > 1 + self.head      # a removed one leaves its version at most

    cdef int64_t version_of(self, Batch* batch, int32_t row) noexcept nogil:
        if self.numbered:
            return self.first_arrival + row
        if self.by_time:
            return i64(&batch.sys[SYS_TIME])[row]
        return i64(&batch.columns[self.version])[row] if self.version >= 0 else INT64_MIN

    cdef bint is_replaced(self, Batch* batch, int32_t row) noexcept nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        if self.version < 0 or self.retracts or row + 1 == batch.n:
            return False
        return (slots[row + 1] == slots[row] and not self.is_tombstone(batch, row + 1)
                and self.version_of(batch, row + 1) >= self.version_of(batch, row))

    cdef int withdraw(self, const Cell* held, int32_t n, int32_t row, StringBuilder* changes) except -1 nogil:
        """Output row `n` is the one that the key had until row `row`."""
        self.old_at[n] = self.old_rows.used
        bytes_append(&self.old_rows, <char*>held.bits, held.tag - 1)
        self.rows[n] = row
        return strings_append(changes, b"withdraw", 8)

    cdef int remove(self, Cell* held, int64_t version) except -1 nogil:
        cdef Cell cell
        if not self.by_time:
            return cell_free(held, KIND_STR, self.row_field.arena)
        cell.tag = 1 + HEAD_BYTES
        cell.bits = <int64_t>&version
        return cell_assign(held, KIND_STR, &cell, self.row_field.arena)

    cdef int store(self, Batch* batch, int32_t row, Cell* held) except -1 nogil:
        cdef int i
        cdef Cell cell
        cdef int64_t version = self.version_of(batch, row)
        self.scratch.used = 0
        if self.head > 0:
            bytes_append(&self.scratch, <const char*>&version, HEAD_BYTES)
        for i in range(self.width):
            cell = cell_load(&batch.columns[i], row)
            cell_write(&cell, batch.columns[i].kind, &self.scratch)
        cell.tag = 1 + self.scratch.used
        cell.bits = <int64_t>self.scratch.data
        return cell_assign(held, KIND_STR, &cell, self.row_field.arena)

    cdef Batch* output(self, Batch* batch, int32_t n, StringBuilder* changes) except NULL nogil:
        cdef int i, extra = 2 if self.numbered else 1
        cdef bint done = False
        cdef Batch* out
        if self.old_rows.used == 0 and n == batch.n:
            out = batch_share(batch, self.width + extra)
            for i in range(self.width):
                column_share(&out.columns[i], &batch.columns[i])
        else:
            out = batch_new(n, self.width + extra)
        try:
            if out.columns[0].kind == KIND_NONE:
                out.read_ns = batch.read_ns
                for i in range(SYS_COUNT):
                    column_take(&out.sys[i], &batch.sys[i], self.rows, n)
                for i in range(self.width):
                    self.fill_column(batch, out, i)
            if self.numbered:
                self.fill_numbers(out)
            strings_finish(changes, &out.columns[self.width + extra - 1])
            done = True
        finally:
            if not done:
                batch_release(out)
        return out

    cdef int fill_numbers(self, Batch* out) except -1 nogil:
        cdef int32_t row
        column_alloc(&out.columns[self.width], KIND_I64, out.n, 0)
        for row in range(out.n):
            if self.old_at[row] < 0:
                i64(&out.columns[self.width])[row] = self.first_arrival + self.rows[row]
            else:
                memcpy(&i64(&out.columns[self.width])[row], self.old_rows.data + self.old_at[row], HEAD_BYTES)
        return 0

    cdef int fill_column(self, Batch* batch, Batch* out, int column) except -1 nogil:
        """Take the values from the input rows, those of withdrawn rows from what the table held."""
        cdef Results results
        cdef ByteReader source
        cdef Cell cell
        cdef int32_t row
        cdef int i
        cdef bint done = False
        source.end = self.old_rows.data + self.old_rows.used
        results_init(&results, batch.columns[column].kind, out.n)
        try:
            for row in range(out.n):
                if self.old_at[row] < 0:
                    cell = cell_load(&batch.columns[column], self.rows[row])
                else:
                    source.at = self.old_rows.data + self.old_at[row] + self.head
                    for i in range(column + 1):
                        cell_view(&cell, batch.columns[i].kind, &source)
                results_append(&results, &cell)
            results_finish(&results, &out.columns[column])
            done = True
        finally:
            if not done:
                results_free(&results)
        return 0

    def state(self):
        """Return {key: row} of the keys that have one."""
        cdef list slots = []
        cdef int64_t i, n = self.collect_slots(self.row_field, slots)
        cdef int64_t kept = 0
        cdef int c, k
        cdef Cell cell
        cdef Results results
        cdef ByteReader source
        cdef StateView view = new_view(self.lookup, self.spec.key_schema, [field.name for field in self.spec.schema.fields[:self.width]],
                                       [field.type for field in self.spec.schema.fields[:self.width]])
        cdef list kinds = [kind_number(canonical_kind(type_)) for type_ in view.types]
        cdef Column* columns = <Column*>calloc(self.width + 1, sizeof(Column))
        if columns == NULL:
            raise MemoryError("no memory left to look into a table")
        for i in range(n):                   # those that were removed leave their version at most
            if self.has_row(<Cell*>self.states[i]):
                self.states[kept] = self.states[i]
                slots[kept] = slots[i]
                kept += 1
        n = kept
        del slots[n:]
        try:
            for c in range(self.width):
                results_init(&results, kinds[c], n)
                for i in range(n):
                    source.at = <char*>(<Cell*>self.states[i]).bits
                    source.end = source.at + (<Cell*>self.states[i]).tag - 1
                    source.at += self.head
                    for k in range(c + 1):
                        cell_view(&cell, kinds[k], &source)
                    results_append(&results, &cell)
                results_finish(&results, &columns[c])
            rows = view.rows_of(columns, n)
        finally:
            free(columns)
        return {view.reader.key(slot): row for slot, row in zip(slots, rows, strict=True)}

    def metrics(self):
        return {"unmatched_tombstones": self.unmatched, "outdated": self.outdated}
