"""See frame.pxd."""
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free

from streamdsl._native.expr.program cimport Program
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, Column, batch_release, batch_take, i64
from streamdsl._native.aggregates.accumulators cimport (
    ADD_THEN_EMIT, EMIT, EMIT_THEN_ADD, Accumulator, AccumulatorSet, RunMode, make_accumulator,
)
from streamdsl._native.operators.base cimport blame
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport KeyedOperator, widened
from streamdsl._native.aggregates.rolling_index cimport Ring


cdef enum:
    ROLLING = -1
    SHARED = -2              # another aggregate's state has the result


cdef class FrameOperator(KeyedOperator):
    """Appends a column for each aggregate.

    Parameters
    ----------
    spec : PhysicalFrame
    lookup : KeyLookup
    arguments : Program or None
        Computes the columns that the aggregates read.
    """

    def __init__(self, spec, KeyLookup lookup not None, Program arguments):
        cdef int i
        cdef Accumulator accumulator
        KeyedOperator.__init__(self, spec, lookup, arguments)
        arena = lookup.table.arena
        self.n_aggregates = len(spec.aggregates)
        self.refs = <void**>calloc(self.n_aggregates + 1, sizeof(void*))
        self.modes = <int*>calloc(self.n_aggregates + 1, sizeof(int))
        if self.refs == NULL or self.modes == NULL:
            raise MemoryError("no memory left for a frame")
        self.accumulators = [make_accumulator(spec.name, aggregate, arena) for aggregate in spec.aggregates]
        rolling, expanding = [], []
        for i, aggregate in enumerate(spec.aggregates):
            accumulator = self.accumulators[i]
            self.refs[i] = <void*>accumulator
            if is_rolling(aggregate):
                self.modes[i] = ROLLING
                rolling.append((aggregate, accumulator))
                continue
            excluded = aggregate.frame is not None and aggregate.frame.exclude_current
            self.modes[i] = EMIT_THEN_ADD if excluded else ADD_THEN_EMIT
            for kept in expanding:
                if self.modes[self.accumulators.index(kept)] == self.modes[i] and (<Accumulator>kept).share(accumulator):
                    self.modes[i] = SHARED
                    break
            else:
                expanding.append(accumulator)
        if rolling:
            self.rolling = RollingFrame([pair[0] for pair in rolling], [pair[1] for pair in rolling], arena)
        self.expanding = AccumulatorSet(expanding, expanding, 0)
        self.row_field = AggregateField(spec.name, self.expanding, self.rolling, 0)
        self.careful = self.refusals is not None and (self.expanding.refuses or self.rolling is not None and self.rolling.refuses)

    def __dealloc__(self):
        free(self.refs)
        free(self.modes)

    def open(self, context):
        context.lookup.add_field(self.row_field)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int32_t n_late = 0
        if self.rolling is not None:
            n_late = self.split_late(batch)
        if n_late == 0:
            return KeyedOperator.process(self, batch)
        self.emit_late(batch, self.rows + batch.n - n_late, n_late)
        if n_late == batch.n:
            return 0
        return self.process_kept(batch, batch.n - n_late)

    cdef int finish(self, Batch* batch) except -1 nogil:
        self.emit(self.compute(batch))
        if self.careful:
            with gil:
                self.refusals.send(self.letters_output, batch)
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if watermark < INT64_MAX:            # that one comes with the end, behind which a later run may go on
            self.row_field.watermark = watermark
        return KeyedOperator.on_watermark(self, watermark)

    cdef int try_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        cdef int i
        cdef bint done = False
        cdef char* saved = self.room(self.expanding.saved_size)
        self.expanding.save(self.states[row], saved)
        try:
            for i in range(self.n_aggregates):
                if self.modes[i] >= 0 and (<Accumulator>self.refs[i]).refuses:
                    (<Accumulator>self.refs[i]).run(self.states + row, &row, 1, <RunMode>self.modes[i])
            if self.rolling is not None:
                self.rolling.run(<Ring*>(self.states[row] + self.row_field.ring_at), row, i64(&batch.sys[SYS_TIME])[row],
                                 self.lookup.lateness_watermark(i64(&batch.sys[SYS_SLOT])[row]))
            done = True
        finally:
            if not done:
                self.expanding.restore(self.states[row], saved)
            self.expanding.forget(saved)
        return 0

    cdef int undo_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        self.expanding.truncate(taken)
        if self.rolling is not None:
            self.rolling.truncate(taken)
        return 0

    cdef int32_t split_late(self, Batch* batch) except -1 nogil:
        """Fill `rows` with the rows that are on time, then the late ones; return the number of these."""
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int32_t i, n = 0, late = 0
        self.reserve(batch.n)
        for i in range(batch.n):
            late += times[i] <= self.lookup.lateness_watermark(slots[i])
        if late == 0:
            return 0
        late = batch.n - late
        for i in range(batch.n):
            if times[i] <= self.lookup.lateness_watermark(slots[i]):
                self.rows[late] = i
                late += 1
            else:
                self.rows[n] = i
                n += 1
        return batch.n - n

    cdef int process_kept(self, Batch* batch, int32_t n) except -1 nogil:
        """Process the first n of `rows`."""
        cdef Batch* kept = batch_take(batch, self.rows, n)
        try:
            return KeyedOperator.process(self, kept)
        finally:
            batch_release(kept)

    cdef Batch* compute(self, Batch* batch) except NULL nogil:
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t row, arrived = self.lookup.arrive(batch.n)
        cdef int i
        cdef bint done = False
        cdef Batch* out = NULL
        cdef Batch* kept = NULL
        cdef int32_t n = batch.n
        self.touch_rows(batch, self.row_field)
        try:
            for i in range(self.n_aggregates):
                (<Accumulator>self.refs[i]).begin(self.columns, batch.n, arrived)
            if self.rolling is not None:
                self.rolling.begin(self.columns, batch.n)
            if self.careful:
                n = self.take_rows(batch)
                if n < batch.n:
                    kept = batch_take(batch, self.rows, n)
            for i in range(self.n_aggregates):
                if self.modes[i] >= 0 and not (self.careful and (<Accumulator>self.refs[i]).refuses):
                    (<Accumulator>self.refs[i]).run(self.states, NULL if n == batch.n else self.rows, n, <RunMode>self.modes[i])
            if self.rolling is not None and not self.careful:
                if self.lookup.one_watermark():
                    self.rolling.run_batch(self.states, self.row_field.ring_at, times, batch.n, self.lookup.watermark)
                else:
                    for row in range(batch.n):
                        self.rolling.run(<Ring*>(self.states[row] + self.row_field.ring_at), row, times[row],
                                         self.lookup.lateness_watermark(slots[row]))
            out = widened(batch if kept == NULL else kept, self.n_aggregates)
            for i in range(self.n_aggregates):
                (<Accumulator>self.refs[i]).finish(&out.columns[batch.width + i])
            done = True
        finally:
            self.release_columns()
            if kept != NULL:
                batch_release(kept)
            if not done:
                blame(self, batch, -1)
        return out

    def state(self):
        """Return {key: {aggregate: value}} of all keys: what a record at the time of the key's last one would see of the others."""
        cdef list slots = []
        cdef int64_t n = self.collect_slots(self.row_field, slots), row
        cdef int i
        cdef Column* columns = <Column*>calloc(self.n_aggregates + 1, sizeof(Column))
        if columns == NULL:
            raise MemoryError("no memory left to look into a frame")
        try:
            if self.rolling is not None:
                self.rolling.begin(NULL, n)
                for row in range(n):
                    self.rolling.show(<Ring*>(self.states[row] + self.row_field.ring_at))
            for i in range(self.n_aggregates):
                if self.modes[i] != ROLLING:
                    (<Accumulator>self.refs[i]).begin(NULL, n, 0)
            for i in range(self.n_aggregates):
                if self.modes[i] >= 0:
                    (<Accumulator>self.refs[i]).run(self.states, NULL, n, EMIT)
            for i in range(self.n_aggregates):
                (<Accumulator>self.refs[i]).finish(&columns[i])
            return self.shown(slots, self.accumulators, columns)
        finally:
            free(columns)

    def metrics(self):
        figures = KeyedOperator.metrics(self)
        if self.rolling is not None:
            figures["late"] = self.late
        return figures


def is_rolling(aggregate):
    """Whether the aggregate looks at times: lag counts arrivals, whatever frame surrounds it."""
    return aggregate.kind != "lag" and aggregate.frame is not None and aggregate.frame.kind == "rolling"
