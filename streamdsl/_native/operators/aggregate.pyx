"""See aggregate.pxd."""
from libc.stdlib cimport calloc, free

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport (
    SYS_SLOT, StringBuilder, batch_release, batch_share, batch_take, i64, strings_append, strings_finish, strings_free,
    strings_init,
)
from streamdsl._native.aggregates.accumulators cimport ADD, ADD_THEN_EMIT, EMIT, RunMode, make_set
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.key_lookup cimport KeyLookup


cdef class AggregateOperator(KeyedOperator):
    """Key columns, the aggregates with the record counted in, and the change: "add" or "replace".

    With emit="batch" a key gets one row for each batch, which stands where its last record stood.

    Parameters
    ----------
    spec : PhysicalAggregate
    lookup : KeyLookup
    arguments : Program or None
        Computes the columns that the aggregates read.
    """

    def __init__(self, spec, KeyLookup lookup not None, Program arguments):
        KeyedOperator.__init__(self, spec, lookup, arguments)
        self.n_keys = lookup.decoder.n_components
        self.row_field = self.made_field(8)
        self.last_rows = LastRows() if spec.emit == "batch" else None
        self.careful = self.refusals is not None and self.accumulators.refuses

    def made_field(self, int64_t prefix):
        """Make the accumulators; return the field of the row that they stand in, behind so many bytes."""
        self.accumulators = make_set(self.name, self.spec.aggregates, self.lookup.table.arena, prefix)
        return AggregateField(self.name, self.accumulators, None, prefix)

    def open(self, context):
        context.lookup.add_field(self.row_field)

    def state(self):
        """Return {key: {aggregate: value}} of all keys."""
        cdef list slots = []
        cdef int64_t n = self.collect_slots(self.row_field, slots)
        cdef Column* columns = <Column*>calloc(self.accumulators.count + 1, sizeof(Column))
        if columns == NULL:
            raise MemoryError("no memory left to look into an aggregate")
        try:
            self.accumulators.begin(NULL, n, 0)
            self.accumulators.run(self.states, NULL, n, EMIT)
            self.accumulators.finish(columns)
            return self.shown(slots, self.accumulators.accumulators, columns)
        finally:
            free(columns)

    cdef int finish(self, Batch* batch) except -1 nogil:
        self.emit(self.compute(batch))
        if self.careful:
            with gil:
                self.refusals.send(self.letters_output, batch)
        return 0

    cdef int try_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        cdef bint done = False
        cdef char* saved = self.room(self.accumulators.saved_size)
        self.accumulators.save(self.states[row], saved)
        try:
            self.accumulators.run_those(True, self.states + row, &row, 1, ADD_THEN_EMIT)
            done = True
        finally:
            if not done:
                self.accumulators.restore(self.states[row], saved)
            self.accumulators.forget(saved)
        return 0

    cdef int undo_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        self.accumulators.truncate(taken)
        return 0

    cdef int begin_rows(self, Batch* batch) except -1 nogil:
        return 0

    cdef int32_t add_rows(self, Batch* batch, bint emits) except -1 nogil:
        cdef RunMode mode = ADD_THEN_EMIT if emits else ADD
        cdef int32_t i, n = batch.n
        self.touch_rows(batch, self.row_field)
        self.accumulators.begin(self.columns, batch.n, self.lookup.arrive(batch.n))
        self.begin_rows(batch)
        if self.careful:                     # what refuses a record is asked for its result in any case
            n = self.take_rows(batch)
            self.accumulators.run_those(False, self.states, self.rows, n, mode)
            return n
        self.accumulators.run(self.states, NULL, n, mode)
        for i in range(n):
            self.rows[i] = i
        return n

    cdef Batch* compute(self, Batch* batch) except NULL nogil:
        cdef Batch* out = NULL
        cdef Batch* kept = batch
        cdef Batch* last
        cdef int32_t i, n
        cdef bint done = False
        try:
            n = self.add_rows(batch, self.last_rows is None)
            if n < batch.n:
                kept = batch_take(batch, self.rows, n)
            if self.last_rows is not None:
                n = self.last_rows.find(i64(&kept.sys[SYS_SLOT]), n, self.rows)
                for i in range(n):
                    self.states[i] = self.states[self.rows[i]]
                last = batch_take(kept, self.rows, n)
                if kept != batch:
                    batch_release(kept)
                kept = last
                self.accumulators.begin(NULL, n, 0)
                self.accumulators.run(self.states, NULL, n, EMIT)
            out = self.changed_rows(kept)
            done = True
        finally:
            self.release_columns()
            if kept != batch:
                batch_release(kept)
            if not done:
                blame(self, batch, -1)
        return out

    cdef Batch* changed_rows(self, Batch* kept) except NULL nogil:
        cdef int n_aggregates = self.accumulators.count
        cdef bint done = False
        cdef Batch* out = batch_share(kept, self.n_keys + n_aggregates + 1)
        try:
            self.lookup.decoder.decode(self.lookup.table, i64(&kept.sys[SYS_SLOT]), kept.n, out.columns)
            self.accumulators.finish(out.columns + self.n_keys)
            self.append_changes(kept.n, &out.columns[self.n_keys + n_aggregates])
            done = True
        finally:
            if not done:
                batch_release(out)
        return out

    cdef int append_changes(self, int64_t n, Column* target) except -1 nogil:
        cdef StringBuilder changes
        cdef int64_t i
        cdef bint done = False
        strings_init(&changes, n, 8 * n)
        try:
            for i in range(n):
                if (<uint64_t*>self.states[i])[0] & KEY_SHOWN:
                    strings_append(&changes, b"replace", 7)
                else:
                    strings_append(&changes, b"add", 3)
                    (<uint64_t*>self.states[i])[0] |= KEY_SHOWN
            strings_finish(&changes, target)
            done = True
        finally:
            if not done:
                strings_free(&changes)
        return 0
