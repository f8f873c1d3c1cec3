"""See intake.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN

from streamdsl._native.flow.arrow cimport batch_from_arrow, column_from_arrow
from streamdsl._native.flow.batch cimport (
    KIND_I64, SYS_TIME, Column, batch_release, batch_retain, buffer_new, buffer_release, column_alloc, column_alloc_valid,
    column_clear, column_share, i64,
)
from streamdsl._native.flow.native_rows cimport NativeRows
from streamdsl._native.task.placement cimport first_misplaced

from streamdsl._native.flow.convert import to_canonical
from streamdsl._native.task.placement import misplaced_error
from streamdsl._native.task.rejected import nulls_in
from streamdsl.errors import DataError, connector_failure


def time_per_ms(type_):
    """Return how many units of a type of times are a millisecond, 0 for whole seconds."""
    return {"s": 0, "us": 1_000, "ns": 1_000_000}.get(getattr(type_, "unit", "ms"), 1)


cdef int fill_times(Batch* rows, Column* declared) except -1:
    """Give the rows that have no time of their own the declared one."""
    cdef int64_t row
    cdef Column merged
    cdef Column* own = &rows.sys[SYS_TIME]
    column_alloc(&merged, KIND_I64, rows.n, 0)
    column_alloc_valid(&merged, rows.n)
    for row in range(rows.n):
        if own.valid[row]:
            i64(&merged)[row] = i64(own)[row]
        else:
            i64(&merged)[row] = i64(declared)[row]
            merged.valid[row] = declared.valid == NULL or declared.valid[row]
    column_clear(own)
    rows.sys[SYS_TIME] = merged
    return 0


cdef int declared_times(Batch* rows, int timestamp, int64_t per_ms, Column* out) except -1:
    """The event time is milliseconds: finer times are floored, whole seconds (`per_ms` 0) saturate. The caller clears `out`."""
    cdef int64_t row, value
    column_share(out, &rows.columns[timestamp])
    if per_ms == 1:
        return 0
    buffer_release(out.values_buffer)
    out.values_buffer = buffer_new(8 * rows.n)
    out.values = out.values_buffer.data
    for row in range(rows.n):
        value = i64(&rows.columns[timestamp])[row]
        if per_ms > 0:
            i64(out)[row] = value // per_ms - (value % per_ms < 0)
        else:
            i64(out)[row] = max(INT64_MIN // 1000, min(value, INT64_MAX // 1000)) * 1000
    return 0


cdef class Intake:
    """`spec` is the PhysicalSource, `types` its columns' declared pyarrow types, `times` finds times that are no column as it is."""

    def __init__(self, spec, types, times):
        self.spec, self.types, self.times = spec, types, times
        self.never_null = tuple(i for i, field in enumerate(spec.schema.fields) if not field.nullable)
        self.timestamp = spec.timestamp
        self.time_per_ms = 1 if spec.timestamp < 0 else time_per_ms(types[spec.timestamp])
        self.max_ahead_ms = -1 if spec.max_ahead_ms is None else spec.max_ahead_ms
        self.partitioned_by = -1

    def hold_to_splits(self, int partitions):
        """Refuse rows that lie in another split than their hashes name, of `partitions` in all."""
        self.partitioned_by, self.n_partitions = self.spec.partitioned_by, partitions

    cdef Batch* rows_of(self, str split, object rows, object timestamps, int64_t now, bint* timed) except NULL:
        cdef Batch* batch = NULL
        try:
            if timestamps is None and self.times is not None:
                timestamps = self.times.of(rows)
            batch = self._batch_of(rows)
            timed[0] = self.stamp(batch, timestamps, now) or batch.n == 0
            return batch
        except DataError as error:
            batch_release(batch)
            error.context.update(operator=self.spec.name, topic=split)
            raise
        except Exception as error:       # whatever a source hands over
            batch_release(batch)
            raise connector_failure(f"the source {self.spec.name!r} gives rows of {split} that are not of its schema", error)

    cdef bint stamp(self, Batch* rows, object timestamps, int64_t now) except -1:
        """Find the event time of the rows: the records' own, else the declared column, else the clock; whether they have one."""
        cdef int64_t row
        cdef Column declared
        cdef Column* time = &rows.sys[SYS_TIME]
        if timestamps is not None:
            column_from_arrow(timestamps, time)
            if self.timestamp >= 0 and time.valid != NULL:
                declared_times(rows, self.timestamp, self.time_per_ms, &declared)
                fill_times(rows, &declared)
                column_clear(&declared)
            return True
        if self.timestamp >= 0:
            declared_times(rows, self.timestamp, self.time_per_ms, time)
            return True
        column_alloc(time, KIND_I64, rows.n, 0)
        for row in range(rows.n):
            i64(time)[row] = now
        return False

    cdef int judge(self, Split split, int64_t now) except -1:
        self._reject(split, now)
        self._check_places(split)
        return 0

    cdef Batch* _batch_of(self, object rows) except NULL:
        cdef NativeRows native
        if isinstance(rows, NativeRows):
            native = rows
            if native.schema is not self.native and not self._known(native):
                return batch_from_arrow(self._canonical(native.to_arrow()))
            batch_retain(native.batch)
            return native.batch
        return batch_from_arrow(self._canonical(rows))

    def _known(self, NativeRows rows):
        """Whether rows of their schema are canonical: those of a reader have one, in one object."""
        if self.native is None or not rows.schema.equals(self.native):
            made = rows.to_arrow()
            if self._canonical(made) is not made:
                return False
        self.native = rows.schema
        return True

    def _canonical(self, rows):
        schema = rows.schema
        if self.schema is not None and schema.equals(self.schema):
            return rows
        found = to_canonical(rows, self.types)
        if found is rows:
            self.schema = schema
        return found

    def _reject(self, Split split, int64_t now):
        """Mark the rows that are null where none is, have no time, or are too far ahead."""
        cdef int64_t limit = INT64_MAX
        if self.max_ahead_ms >= 0 and now < INT64_MAX - self.max_ahead_ms:
            limit = now + self.max_ahead_ms
        nulls = self._nulls(split)
        if nulls or split.rows.sys[SYS_TIME].valid != NULL or self.max_ahead_ms >= 0:
            split.reject_rows(self.spec, self.times, limit, nulls)

    def _nulls(self, Split split):
        """Return the rows that are null where none is, each with the reason."""
        for place in self.never_null:
            if split.rows.columns[<int>place].valid != NULL:
                return nulls_in(split.chunk.rows, self.never_null)
        return {}

    def _check_places(self, Split split):
        """Refuse rows that lie in another split than their key says: their key's state is elsewhere, or will be."""
        cdef int64_t row
        if self.partitioned_by < 0 or self.n_partitions == 1:
            return
        with nogil:
            row = first_misplaced(&split.rows.columns[self.partitioned_by], split.bad, split.rows.n, self.n_partitions, split.number)
        if row >= 0:
            raise misplaced_error(self.spec, split.reader, split.name, split.number, split.chunk, row, self.n_partitions)
