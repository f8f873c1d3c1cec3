"""See keyed.pxd."""
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from streamdsl._native.flow.batch cimport (
    SYS_SLOT, SYS_TIME, batch_release, batch_share, batch_take, column_clear, column_share, i64,
)
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.operators.base cimport blame
from streamdsl._native.aggregates.cell cimport ByteReader, damaged_state, read_bytes
from streamdsl._native.operators.refusals cimport reason_of_raised, warn_late
from streamdsl._native.aggregates.rolling_index cimport Ring
from streamdsl._native.rows.row cimport row_new
from streamdsl._native.operators.state_view cimport StateView, all_zero, new_view
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.write_stream cimport bytes_append

from streamdsl._native.operators.refusals import DEAD_LETTER


cdef class AggregateField(RowField):
    """The field of an operator that aggregates."""

    def __init__(self, str name, AccumulatorSet accumulators, RollingFrame rolling, int64_t prefix):
        self.accumulators = accumulators
        self.rolling = rolling
        self.prefix = prefix
        self.ring_at = prefix + accumulators.size
        layout = f"2|{prefix}|{accumulators.layout}"
        size = self.ring_at
        if rolling is not None:
            layout = f"{layout}|{rolling.layout}"
            size += sizeof(Ring)
        RowField.__init__(self, name, layout, size)
        self.on_heap = accumulators.on_heap
        self.expires = rolling is not None and self.ring_at == 0
        self.watermark = INT64_MIN

    cdef bint empty(self, char* field) noexcept nogil:
        return self.expires and self.rolling.is_over(<Ring*>field, self.watermark)

    cdef int64_t heap_bytes(self, char* field):
        return self.accumulators.heap_bytes(field)

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        bytes_append(out, field, self.prefix)
        self.accumulators.write(field, out)
        if self.rolling is not None:
            self.rolling.write(<Ring*>(field + self.ring_at), out)
        return 0

    cdef void prefetch_parts(self, char* field) noexcept nogil:
        cdef Ring* ring
        if self.rolling is not None:
            ring = <Ring*>(field + self.ring_at)
            if ring.count > 0:
                prefetch(ring.block + ring.head * self.rolling.stride)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef ByteReader source
        source.at = data
        source.end = data + size
        self.clear(field)            # a later entry of the same key replaces what was read before
        if self.prefix > 0:
            memcpy(field, read_bytes(&source, self.prefix), self.prefix)
        self.accumulators.read(field, &source)
        if self.rolling is not None:
            self.rolling.read(<Ring*>(field + self.ring_at), &source)
        return damaged_state() if source.at != source.end else 0

    cdef int clear(self, char* field) except -1 nogil:
        self.accumulators.clear(field)
        if self.rolling is not None:
            self.rolling.clear(<Ring*>(field + self.ring_at))
        return 0


ctypedef int (*TryRow)(KeyedOperator operator, Batch* batch, int32_t row, int32_t taken) noexcept nogil


cdef int tried_row(KeyedOperator operator, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
    return operator.try_row(batch, row, taken)


cdef class KeyedOperator(RefusingOperator):
    """Base. `connect` takes the target of late rows under whatever tag the plan gives them: beside the dead letters there is only one."""

    def __init__(self, spec, KeyLookup lookup, arguments):
        self.spec = spec
        self.name = spec.name
        self.lookup = lookup
        self.arguments = arguments
        self.n_columns = 0 if arguments is None else self.arguments.n_outputs
        self.columns = <Column*>calloc(self.n_columns + 1, sizeof(Column))
        if self.columns == NULL:
            raise MemoryError("no memory left for an operator")
        self.prepare_refusals(spec)

    def __dealloc__(self):
        self.release_columns()
        free(self.columns)
        free(self.states)
        free(self.rows)
        free(self.saved)

    def connect(self, Operator target, str tag=""):
        """Send the output `tag` ("" is the main one) to `target`."""
        RefusingOperator.connect(self, target, tag)
        if tag and tag != DEAD_LETTER:
            self.late_output = target

    cdef int attempt(self, Batch* batch) except -1 nogil:
        return self.evaluate(batch)

    cdef int try_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        return 0

    cdef int undo_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        return 0

    cdef bint take_row(self, Batch* batch, int32_t row, int32_t taken) except -1 nogil:
        # As a function that does not raise: no GIL is needed for the rows that are good.
        if (<TryRow>tried_row)(self, batch, row, taken) >= 0:
            return True
        with gil:
            self.refusals.take(reason_of_raised(), row_new(self.refusals.shape, batch, row), None,
                               i64(&batch.sys[SYS_SLOT])[row], i64(&batch.sys[SYS_TIME])[row])
        self.undo_row(batch, row, taken)
        return False

    cdef int32_t take_rows(self, Batch* batch) except -1 nogil:
        cdef int32_t row, n = 0
        for row in range(batch.n):
            if self.take_row(batch, row, n):
                self.states[n] = self.states[row]
                self.rows[n] = row
                n += 1
        return n

    cdef char* room(self, int64_t size) except NULL nogil:
        cdef char* saved
        if size > self.saved_capacity or self.saved == NULL:
            saved = <char*>realloc(self.saved, 2 * size + 64)
            if saved == NULL:
                with gil:
                    raise MemoryError("no memory left for an operator")
            self.saved = saved
            self.saved_capacity = 2 * size + 64
        return self.saved

    cdef int reserve(self, int64_t n) except -1 nogil:
        cdef char** states
        cdef int32_t* rows
        cdef int64_t capacity = max(n, 2 * self.capacity)
        if n <= self.capacity:
            return 0
        states = <char**>realloc(self.states, capacity * sizeof(char*))
        if states != NULL:
            self.states = states
        rows = <int32_t*>realloc(self.rows, capacity * sizeof(int32_t))
        if rows != NULL:
            self.rows = rows
        if states == NULL or rows == NULL:
            with gil:
                raise MemoryError("no memory left for an operator")
        self.capacity = capacity
        return 0

    cdef int evaluate(self, Batch* batch) except -1 nogil:
        cdef bint done = False
        self.release_columns()
        try:
            if self.n_columns > 0:
                self.arguments.evaluate(batch, self.columns)
            done = True
        finally:
            if not done:
                blame(self, batch, self.arguments.at)
        return 0

    cdef void release_columns(self) noexcept nogil:
        cdef int i
        if self.columns != NULL:
            for i in range(self.n_columns):
                column_clear(&self.columns[i])

    cdef int touch_rows(self, Batch* batch, RowField field) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t i, offset = field.offset
        self.reserve(batch.n)
        for i in range(batch.n):
            CHECK(0 <= slots[i] < self.lookup.table.used, "a slot is one of the table's")
            self.lookup.table.touch(slots[i])
            self.states[i] = self.lookup.table.row(slots[i]) + offset
        return 0

    cdef int emit_late(self, Batch* batch, const int32_t* rows, int32_t n) except -1 nogil:
        cdef Batch* out
        if n > 0 and self.late == 0 and self.late_output is None:
            with gil:
                warn_late(self.spec, batch, rows[0], self.lookup.lateness_watermark(i64(&batch.sys[SYS_SLOT])[rows[0]]))
        self.late += n
        if n == 0 or self.late_output is None:
            return 0
        out = batch_take(batch, rows, n)
        try:
            return self.late_output.process(out)
        finally:
            batch_release(out)

    cdef int64_t collect_slots(self, RowField field, list slots) except -1:
        cdef KeyTable table = self.lookup.table
        cdef int64_t n = 0, slot = table.first_slot(0)
        cdef char* state
        self.reserve(table.count)
        while slot >= 0:
            state = table.row(slot) + field.offset
            if not all_zero(state, field.size):          # zeroed memory is the empty state of every field
                self.states[n] = state
                slots.append(slot)
                n += 1
            slot = table.first_slot(slot + 1)
        return n

    cdef dict shown(self, list slots, list accumulators, Column* columns):
        cdef StateView view = new_view(self.lookup, self.spec.key_schema, [one.column for one in accumulators],
                                       [aggregate.output_type for aggregate in self.spec.aggregates])
        rows = view.rows_of(columns, len(slots))
        return {view.reader.key(slot): row for slot, row in zip(slots, rows, strict=True)}

    cdef int end_batch(self) except -1 nogil:
        if self.late_output is not None:
            self.late_output.end_batch()
        return RefusingOperator.end_batch(self)

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if self.late_output is not None:
            self.late_output.on_watermark(watermark)
        return RefusingOperator.on_watermark(self, watermark)

    cdef int on_idle(self, bint idle) except -1 nogil:
        if self.late_output is not None:
            self.late_output.on_idle(idle)
        return RefusingOperator.on_idle(self, idle)


cdef Batch* widened(Batch* batch, int extra) except NULL nogil:
    cdef int i
    cdef Batch* out = batch_share(batch, batch.width + extra)
    for i in range(batch.width):
        column_share(&out.columns[i], &batch.columns[i])
    return out
