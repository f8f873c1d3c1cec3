"""See aggregate.pxd."""
from libc.stdlib cimport calloc, free

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport (
    SYS_SLOT, StringBuilder, batch_release, batch_share, batch_take, i64, strings_append, strings_finish, strings_free,
    strings_init,
)
from streamdsl._native.aggregates.accumulators cimport ADD_THEN_EMIT, EMIT, make_set
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.key_lookup cimport KeyLookup


cdef class AggregateOperator(KeyedOperator):
    """Key columns, the aggregates with the record counted in, and the change: "add" or "replace".

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
        self.accumulators = make_set(spec.name, spec.aggregates, lookup.table.arena, 8)
        self.row_field = AggregateField(spec.name, self.accumulators, None, 8)
        self.careful = self.refusals is not None and self.accumulators.refuses

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

    cdef Batch* compute(self, Batch* batch) except NULL nogil:
        cdef int n_aggregates = self.accumulators.count
        cdef Batch* out = NULL
        cdef Batch* kept = batch
        cdef int32_t n
        cdef bint done = False
        self.touch_rows(batch, self.row_field)
        try:
            self.accumulators.begin(self.columns, batch.n, self.lookup.arrive(batch.n))
            if self.careful:
                n = self.take_rows(batch)
                if n < batch.n:
                    kept = batch_take(batch, self.rows, n)
                self.accumulators.run_those(False, self.states, self.rows, kept.n, ADD_THEN_EMIT)
            else:
                self.accumulators.run(self.states, NULL, batch.n, ADD_THEN_EMIT)
            out = batch_share(kept, self.n_keys + n_aggregates + 1)
            self.lookup.decoder.decode(self.lookup.table, i64(&kept.sys[SYS_SLOT]), kept.n, out.columns)
            self.accumulators.finish(out.columns + self.n_keys)
            self.append_changes(kept.n, &out.columns[self.n_keys + n_aggregates])
            done = True
        finally:
            self.release_columns()
            if kept != batch:
                batch_release(kept)
            if not done:
                blame(self, batch, -1)
                batch_release(out)
        return out

    cdef int append_changes(self, int64_t n, Column* target) except -1 nogil:
        cdef StringBuilder changes
        cdef int64_t i
        cdef bint done = False
        strings_init(&changes, n, 8 * n)
        try:
            for i in range(n):
                if (<int64_t*>self.states[i])[0]:
                    strings_append(&changes, b"replace", 7)
                else:
                    strings_append(&changes, b"add", 3)
                    (<int64_t*>self.states[i])[0] = 1
            strings_finish(&changes, target)
            done = True
        finally:
            if not done:
                strings_free(&changes)
        return 0
