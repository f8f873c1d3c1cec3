"""See intake.pxd."""
from libc.stdint cimport INT64_MAX

from streamdsl._native.flow.arrow cimport batch_from_arrow
from streamdsl._native.flow.batch cimport SYS_TIME
from streamdsl._native.task.placement cimport first_misplaced

from streamdsl._native.flow.convert import to_canonical
from streamdsl._native.task.placement import misplaced_error
from streamdsl._native.task.rejected import nulls_in
from streamdsl.errors import DataError, connector_failure


def time_per_ms(type_):
    """Return how many units of a type of times are a millisecond, 0 for whole seconds."""
    return {"s": 0, "us": 1_000, "ns": 1_000_000}.get(getattr(type_, "unit", "ms"), 1)


cdef class Intake:
    """`spec` is the PhysicalSource, `types` are the declared pyarrow types of its columns."""

    def __init__(self, spec, types):
        self.spec, self.types = spec, types
        self.never_null = tuple(i for i, field in enumerate(spec.schema.fields) if not field.nullable)
        self.timestamp = spec.timestamp
        self.time_per_ms = 1 if spec.timestamp < 0 else time_per_ms(types[spec.timestamp])
        self.max_ahead_ms = -1 if spec.max_ahead_ms is None else spec.max_ahead_ms
        self.partitioned_by = -1

    def hold_to_splits(self, int partitions):
        """Refuse rows that lie in another split than their hashes name, of `partitions` in all."""
        self.partitioned_by, self.n_partitions = self.spec.partitioned_by, partitions

    cdef bint take(self, Split split, int64_t now) except -1:
        cdef bint timed
        try:
            split.rows = batch_from_arrow(self._canonical(split.chunk.rows))
        except DataError as error:
            error.context.update(operator=self.spec.name, topic=split.name)
            raise
        except Exception as error:       # whatever a source hands over
            raise connector_failure(f"the source {self.spec.name!r} gives rows of {split.name} that are not of its schema", error)
        timed = split.stamp(self.timestamp, self.time_per_ms, now) or split.rows.n == 0
        self._reject(split, now)
        self._check_places(split)
        return timed

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
            split.reject_rows(self.spec, limit, nulls)

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
