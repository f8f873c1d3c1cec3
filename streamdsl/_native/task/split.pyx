"""See split.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.arrow cimport column_from_arrow
from streamdsl._native.flow.batch cimport (
    KIND_I64, SYS_TIME, Column, batch_release, buffer_new, buffer_release, column_alloc, column_alloc_valid, column_clear,
    column_drop_valid, column_share, i64,
)
from streamdsl._native.includes.checked cimport PLANTED

from streamdsl._native.task.rejected import before_row, rejected_row
from streamdsl.errors import connector_failure


cdef object or_none(int64_t time):
    return None if time == INT64_MIN else time


cdef int64_t or_lowest(object time) except? -1:
    return INT64_MIN if time is None else time


cdef class Split:
    """What the task knows of one split, the `number`th of its source. `state` is what `snapshot` returned, or None."""

    def __init__(self, str name, int index, int number, reader, disorder_ms, bint external, state):
        self.name = name
        self.index = index
        self.number = number
        self.reader = reader
        self.dry_since_ms = -1
        self.slot = -1
        self.reached = INT64_MIN
        self.generator.max_seen = INT64_MIN
        self.generator.watermark = INT64_MIN
        self.generator.disorder = disorder_ms
        self.generator.external = external
        self.position = reader.start()
        self.rejected = ()
        if state is not None:
            self.position = self.position if state["position"] is None else state["position"]
            self.ended = state["ended"]
            self.generator.max_seen = or_lowest(state["max_seen"])
            self.generator.watermark = or_lowest(state["watermark"])
            self.goes_on = "reached" in state
            self.reached = or_lowest(state.get("reached"))
            self.idle = state["idle"]

    def __dealloc__(self):
        batch_release(self.rows)
        free(self.bad)

    def watermark(self):
        """Return the split's own watermark in ms, None while nothing was read."""
        return None if self.generator.watermark == INT64_MIN else self.generator.watermark

    def snapshot(self, int64_t reached, bint word_of_idleness):
        """Return where reading goes on, and how far time has come.

        `reached` is the task's watermark, `word_of_idleness`: no timeout, but the source says when the split is idle. It says so once.
        """
        position = self.position
        if self.chunk is not None:
            position = self.reader.position(self.chunk, self.rows.n if PLANTED("offset-ahead") else self.at)
        return {
            "position": position,
            "ended": self.ended,
            "max_seen": or_none(self.generator.max_seen),
            "watermark": None if PLANTED("watermark-not-in-snapshot") else or_none(self.generator.watermark),
            "reached": None if PLANTED("watermark-not-in-snapshot") else or_none(reached),
            "idle": self.idle and word_of_idleness,
        }

    cdef int on_committed(self, object position) except -1:
        """Tell the reader, if the split has moved since the last checkpoint: of a thousand, few have."""
        if position is not self.committed:
            self.committed = position
            self.reader.committed(position)
        return 0

    cdef bint stamp(self, int timestamp, int64_t per_ms, int64_t now) except -1:
        """Find the event time of the chunk's rows: the records' own, else the declared column, else the clock; whether they have one."""
        cdef int64_t row
        cdef Column declared
        cdef Column* time = &self.rows.sys[SYS_TIME]
        self.rejected = self.chunk.rejected
        free(self.bad)
        self.bad = NULL
        if self.chunk.timestamps is not None:
            column_from_arrow(self.chunk.timestamps, time)
            if timestamp >= 0 and time.valid != NULL:
                self.declared_times(timestamp, per_ms, &declared)
                self.fill_times(&declared)
                column_clear(&declared)
            return True
        if timestamp >= 0:
            self.declared_times(timestamp, per_ms, time)
            return True
        column_alloc(time, KIND_I64, self.rows.n, 0)
        for row in range(self.rows.n):
            i64(time)[row] = now
        return False

    cdef int fill_times(self, Column* declared) except -1:
        cdef int64_t row
        cdef Column merged
        cdef Column* own = &self.rows.sys[SYS_TIME]
        column_alloc(&merged, KIND_I64, self.rows.n, 0)
        column_alloc_valid(&merged, self.rows.n)
        for row in range(self.rows.n):
            if own.valid[row]:
                i64(&merged)[row] = i64(own)[row]
            else:
                i64(&merged)[row] = i64(declared)[row]
                merged.valid[row] = declared.valid == NULL or declared.valid[row]
        column_clear(own)
        self.rows.sys[SYS_TIME] = merged
        return 0

    cdef int declared_times(self, int timestamp, int64_t per_ms, Column* out) except -1:
        """The event time is milliseconds: finer times are floored, whole seconds (`per_ms` 0) saturate."""
        cdef int64_t row, value
        column_share(out, &self.rows.columns[timestamp])
        if per_ms == 1:
            return 0
        buffer_release(out.values_buffer)
        out.values_buffer = buffer_new(8 * self.rows.n)
        out.values = out.values_buffer.data
        for row in range(self.rows.n):
            value = i64(&self.rows.columns[timestamp])[row]
            if per_ms > 0:
                i64(out)[row] = value // per_ms - (value % per_ms < 0)
            else:
                i64(out)[row] = max(INT64_MIN // 1000, min(value, INT64_MAX // 1000)) * 1000
        return 0

    cdef int reject_rows(self, object spec, int64_t limit, dict nulls) except -1:
        """Rows without a time or behind `limit`, and those of `nulls`, are bad records. They keep their place: positions count rows."""
        cdef Column* time = &self.rows.sys[SYS_TIME]
        cdef int64_t row
        cdef list own = []
        for row in range(self.rows.n):
            if row in nulls:
                own.append(self.rejected_as(spec, row, nulls[row]))
            elif time.valid != NULL and not time.valid[row]:
                own.append(self.rejected_as(spec, row, "the record has no event time"))
            elif i64(time)[row] > limit:
                own.append(self.rejected_as(spec, row, f"event time {i64(time)[row]} is further ahead of the clock than max_ahead"))
        if own:
            self.bad = <char*>calloc(self.rows.n, 1)
            if self.bad == NULL:
                raise MemoryError("no memory left for a chunk")
            for rejected in own:
                self.bad[<int64_t>rejected.before_row] = 1
            self.rejected = tuple(sorted([*self.rejected, *own], key=before_row))
        column_drop_valid(time)
        return 0

    cdef object rejected_as(self, object spec, int64_t row, str reason):
        try:
            found = self.reader.rejected(self.chunk, row, reason)
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {spec.name!r} does not know its record in {self.name}", error)
        return rejected_row(self.chunk, row, reason, self.name, spec.schema) if found is None else found
