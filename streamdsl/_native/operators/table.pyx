"""See table.pxd."""
from libc.stdlib cimport calloc, free, realloc

from streamdsl._native.flow.batch cimport (
    KIND_NONE, KIND_STR, SYS_COUNT, Column, batch_new, batch_release, column_take, is_valid, strings_append, strings_finish, strings_free,
    strings_init,
)
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, Results, cell_assign, cell_free, cell_load, cell_read, cell_view, cell_write, damaged_state,
    kind_number, results_append, results_finish, results_free, results_init,
)
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport widened
from streamdsl._native.operators.state_view cimport StateView, new_view
from streamdsl._native.state.write_stream cimport bytes_append, bytes_free, bytes_init

from streamdsl._native.flow.convert import canonical_kind
from streamdsl.errors import InternalError


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

    A row whose columns outside the key are all null is a tombstone: it withdraws what the key has; if that is
    nothing, it is dropped.

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
        fields = list(spec.schema.fields)
        change = fields.pop() if fields else None
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
        layout = "1|table|" + ",".join([f"{field.name}:{field.type}" for field in fields])
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
        if self.old_capacity < 2 * batch.n:
            old_at = <int64_t*>realloc(self.old_at, 2 * batch.n * sizeof(int64_t))
            if old_at == NULL:
                with gil:
                    raise MemoryError("no memory left for a table")
            self.old_at = old_at
            self.old_capacity = 2 * batch.n
        self.old_rows.used = 0
        for row in range(batch.n):
            held = <Cell*>self.states[row]
            self.old_at[n] = -1
            if self.is_tombstone(batch, row):
                if held.tag == 0:
                    self.unmatched += 1
                    continue
                self.old_at[n] = self.old_rows.used
                bytes_append(&self.old_rows, <char*>held.bits, held.tag - 1)
                cell_free(held, KIND_STR, self.row_field.arena)
                strings_append(changes, b"withdraw", 8)
            else:
                if held.tag != 0 and self.retracts:
                    self.old_at[n] = self.old_rows.used
                    bytes_append(&self.old_rows, <char*>held.bits, held.tag - 1)
                    strings_append(changes, b"withdraw", 8)
                    self.rows[n] = row
                    n += 1
                    self.old_at[n] = -1
                if held.tag == 0 or self.retracts:
                    strings_append(changes, b"add", 3)
                else:
                    strings_append(changes, b"replace", 7)
                self.store(batch, row, held)
            self.rows[n] = row
            n += 1
        return n

    cdef bint is_tombstone(self, Batch* batch, int32_t row) noexcept nogil:
        cdef int i, others = 0
        for i in range(self.width):
            if not self.is_key[i]:
                if is_valid(&batch.columns[i], row):
                    return False
                others += 1
        return others > 0

    cdef int store(self, Batch* batch, int32_t row, Cell* held) except -1 nogil:
        cdef int i
        cdef Cell cell
        self.scratch.used = 0
        for i in range(self.width):
            cell = cell_load(&batch.columns[i], row)
            cell_write(&cell, batch.columns[i].kind, &self.scratch)
        cell.tag = 1 + self.scratch.used
        cell.bits = <int64_t>self.scratch.data
        return cell_assign(held, KIND_STR, &cell, self.row_field.arena)

    cdef Batch* output(self, Batch* batch, int32_t n, StringBuilder* changes) except NULL nogil:
        cdef int i
        cdef bint done = False
        cdef Batch* out
        if self.old_rows.used == 0 and n == batch.n:
            out = widened(batch, 1)
        else:
            out = batch_new(n, self.width + 1)
        try:
            if out.columns[0].kind == KIND_NONE:
                out.read_ns = batch.read_ns
                for i in range(SYS_COUNT):
                    column_take(&out.sys[i], &batch.sys[i], self.rows, n)
                for i in range(self.width):
                    self.fill_column(batch, out, i)
            strings_finish(changes, &out.columns[self.width])
            done = True
        finally:
            if not done:
                batch_release(out)
        return out

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
                    source.at = self.old_rows.data + self.old_at[row]
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
        try:
            for c in range(self.width):
                results_init(&results, kinds[c], n)
                for i in range(n):
                    source.at = <char*>(<Cell*>self.states[i]).bits
                    source.end = source.at + (<Cell*>self.states[i]).tag - 1
                    for k in range(c + 1):
                        cell_view(&cell, kinds[k], &source)
                    results_append(&results, &cell)
                results_finish(&results, &columns[c])
            rows = view.rows_of(columns, n)
        finally:
            free(columns)
        return {view.reader.key(slot): row for slot, row in zip(slots, rows, strict=True)}

    def metrics(self):
        return {"unmatched_tombstones": self.unmatched}
