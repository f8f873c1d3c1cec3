"""See split.pxd."""
from libc.stdint cimport INT64_MIN
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport SYS_TIME, Column, batch_release, column_drop_valid, i64
from streamdsl._native.includes.checked cimport CHECK, PLANTED

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

    cdef int take(self, object chunk, Batch* rows) except -1:
        """Begin a chunk, whose rows these are; they are the split's from now on."""
        CHECK(self.rows == NULL, "a chunk begins behind the one before it")
        self.due = False
        self.dry_since_ms = -1
        self.chunk, self.rows = chunk, rows
        self.rejected = chunk.rejected
        self.at = self.n_rejected = 0
        free(self.bad)
        self.bad = NULL
        return 0

    cdef int reject_rows(self, object spec, object times, int64_t limit, dict nulls) except -1:
        """Rows without a time or behind `limit`, and those of `nulls`, are bad records. They keep their place: positions count rows."""
        cdef Column* time = &self.rows.sys[SYS_TIME]
        cdef int64_t row
        cdef list own = []
        for row in range(self.rows.n):
            if row in nulls:
                own.append(self.rejected_as(spec, times, row, nulls[row]))
            elif time.valid != NULL and not time.valid[row]:
                own.append(self.rejected_as(spec, times, row, "the record has no event time"))
            elif i64(time)[row] > limit:
                own.append(self.rejected_as(spec, times, row, f"event time {i64(time)[row]} is further ahead of the clock than max_ahead"))
        if own:
            self.bad = <char*>calloc(self.rows.n, 1)
            if self.bad == NULL:
                raise MemoryError("no memory left for a chunk")
            for rejected in own:
                self.bad[<int64_t>rejected.before_row] = 1
            self.rejected = tuple(sorted([*self.rejected, *own], key=before_row))
        column_drop_valid(time)
        return 0

    cdef object rejected_as(self, object spec, object times, int64_t row, str reason):
        try:
            if times is not None:
                reason = times.why(self.chunk.rows, row, reason)
            found = self.reader.rejected(self.chunk, row, reason)
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {spec.name!r} does not know its record in {self.name}", error)
        return rejected_row(self.chunk, row, reason, self.name, spec.schema) if found is None else found
