"""The task at the head of a plan: hands on what its splits have read, batch by batch, and injects barriers."""
from cpython.object cimport PyObject

cdef extern from "Python.h":
    Py_ssize_t Py_SIZE(PyObject* o) nogil

from libc.stdint cimport INT64_MAX, int32_t
from libc.stdlib cimport free, malloc

from streamdsl._native.event_time.read_order cimport OFFER_MADE
from streamdsl._native.event_time.watermark_generator cimport WatermarkGenerator, generator_scan
from streamdsl._native.flow.batch cimport SYS_TIME, Batch, batch_release, batch_slice, batch_take, column_drop_valid, i64
from streamdsl._native.flow.pace cimport FREE_ROWS, PACED_ROWS
from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.checked cimport FAULT, PLANTED
from streamdsl._native.operators.output cimport Output
from streamdsl._native.task.split cimport Split
from streamdsl._native.task.task cimport CROWD_ROWS, Task


cdef inline Py_ssize_t len_of(tuple items) noexcept nogil:
    return Py_SIZE(<PyObject*>items)


cdef class SourceTask(SplitsTask):
    """Opened as its base."""

    def set_pace(self, Pace pace):
        """Hand on no more rows at a time than user code behind it is through with soon; called when that has joined."""
        self.pace = pace if pace.n > 0 else None
        self.ramp = 1 if pace.most == PACED_ROWS else FREE_ROWS

    cdef int64_t paced_rows(self) noexcept nogil:
        cdef bint all_known = False
        cdef int64_t least = self.pace.least(&all_known)
        cdef bint drained = True
        cdef int i
        if all_known:
            return least
        # User code that has seen no row yet may be slow: more rows go to it only as those before them are gone, or by and by.
        for i in range(self.n_outputs):
            drained = drained and (<Output>self.outputs[i]).drained()
        self.ramp_batches += 1
        if drained or self.ramp_batches % 8 == 0:
            self.ramp = min(4 * self.ramp, self.pace.most)
        return self.ramp if least == 0 else min(self.ramp, least)

    def begin_behind(self, Bootstrap bootstrap not None, bint first):
        """Read nothing before the sources that are read `first` have come to the end of what there is; this may be one of them."""
        self.bootstrap = bootstrap
        self.bootstraps = first
        if first:
            bootstrap.expect()

    cdef bint must_wait(self) noexcept nogil:
        return self.bootstrap is not None and not self.bootstraps and not self.bootstrap.over()

    cdef int note_bootstrap(self) except -1:
        cdef int i
        cdef Split split
        for item in self.splits:
            split = item
            if not split.ended and (split.rows != NULL or split.dry_since_ms < 0 or not self._caught_up(split)):
                return 0
        for i in range(self.n_outputs):
            if not (<Output>self.outputs[i]).drained():
                return 0
        self.bootstraps = False
        self.bootstrap.read()
        return 0

    def request_checkpoint(self, int64_t checkpoint_id):
        """Put barrier `checkpoint_id` between the next two batches."""
        atomic_store(&self.requested, checkpoint_id)

    def pause(self, bint paused=True):
        """Read no further records (barriers still pass)."""
        atomic_store(&self.paused, 1 if paused else 0)

    def drain(self):
        """Take what is decoded as the end of the input."""
        atomic_store(&self.draining, 1)

    cdef int read_input(self) except -1 nogil:
        cdef int64_t checkpoint_id = atomic_load(&self.requested)
        if checkpoint_id and self.may_snapshot(checkpoint_id):
            atomic_store(&self.requested, 0)
            FAULT("FP01")
            self.take_snapshot(checkpoint_id)
            return 1
        self.note_round()
        if self.in_round:
            return self.read_splits()        # even while it is paused: others wait for the end of the round
        if self.bootstraps:
            with gil:
                self.note_bootstrap()
        if self.ended or atomic_load(&self.paused):
            return 0
        if self.peers is not None and self.valve.all_idle:
            self.valve.follow(self.peers.reached(self.peer))
        if self.valve.watermark > self.watermark or self.valve.all_ended or self.valve.all_idle != self.idle:
            self.pass_on_time()      # what a restore or an external watermark left behind
            if self.closing:
                return 1
        if self.valve.all_ended:
            self.end()
            return 1
        if atomic_load(&self.draining):
            with gil:
                self._end_all()
            return 1
        return self.read_splits()

    cdef bint held_back(self) except -1 nogil:
        return False                         # asked where rows are read: a barrier needs no room

    cdef bint may_snapshot(self, int64_t checkpoint_id) noexcept nogil:
        return True

    cdef void note_round(self) noexcept nogil:
        pass

    cdef int64_t round_over(self) noexcept nogil:
        return -1

    cdef int read_splits(self) except -1 nogil:
        cdef int64_t limit = self.limit_now()
        if self.must_wait():
            return 0
        if limit <= 0:
            return 0
        if Task.held_back(self):
            self.blocked += 1
            return 0
        if self.read_due(limit):
            return 1
        if not self.polls.asks_all():
            if self.polls.look(self.clock.now_ns()) and (self.read_together(limit) or self.read_due(limit)):
                return 1
            self.next_read_ns = self.polls.poll_at_ns
        return 0

    cdef int read_due(self, int64_t limit) except -1 nogil:
        cdef int chosen, _
        cdef bint all_due = self.polls.asks_all(), quiet = True
        if self.polls.quiet and not all_due:
            return 0
        # Nothing to read is said only once every split whose turn it may be has been asked.
        for _ in range(self.n_splits):
            chosen = self.choose()
            if chosen < 0:
                return 0
            if not all_due and (<Split>self.split_refs[chosen]).rows == NULL and not (<Split>self.split_refs[chosen]).due:
                continue
            quiet = False
            if self.read_split(chosen, limit):
                return 1
        self.polls.quiet = quiet
        return 0

    cdef bint read_together(self, int64_t limit) except -1 nogil:
        """Read the splits that their feed has just named, all in one batch; whether it can be had."""
        cdef bint found
        if self.order is not None or not self.polls.several:
            return False
        with gil:
            found = self._read_together(min(limit, self.batch_rows, self.chunk_rows))
        return found

    def _read_together(self, int64_t limit):
        cdef bint timed = True
        cdef int32_t first = 0
        cdef int64_t now = self.clock.now_ms()
        cdef Batch* batch
        cdef Split split
        together = self.polls.read_together(limit)
        if together is None:
            return False
        names = ", ".join([name for name, _ in together.parts])
        batch = self.intake.rows_of(names, together.rows, together.timestamps, now, &timed)
        try:
            splits = []
            for name, chunk in together.parts:
                split = self.polls.split_of[name]
                split.take(chunk, batch_slice(batch, first, chunk.rows.num_rows))
                first += split.rows.n
                splits.append(split)
            for split in splits:
                self.intake.judge(split, now)
                self._set_idle(split, False)
            self.polls.rows += batch.n
            self.crowded = batch.n >= CROWD_ROWS
            # Else each is handed on by itself, when the split's waking has let time go on.
            if not self.closing and all([self.is_one_batch(split) for split in splits]):
                self.hand_on_together(splits, batch)
        finally:
            batch_release(batch)
        return True

    cdef bint is_one_batch(self, Split split) noexcept:
        """Whether all rows are good, and none is late because of others among them."""
        cdef WatermarkGenerator trial = split.generator
        if PLANTED("rows-together-not-cut"):
            return split.bad == NULL
        return split.bad == NULL and generator_scan(&trial, i64(&split.rows.sys[SYS_TIME]), NULL, split.rows.n, INT64_MAX) == split.rows.n

    cdef int hand_on_together(self, list splits, Batch* batch) except -1:
        """Send the rows of all `splits` down the chain, in one batch; then what they mean for time."""
        cdef Split split
        column_drop_valid(&batch.sys[SYS_TIME])
        for split in splits:
            generator_scan(&split.generator, i64(&split.rows.sys[SYS_TIME]), NULL, split.rows.n, INT64_MAX)
            split.at = split.rows.n
            split.taken += split.rows.n
        self.rate_taken += <double>batch.n
        batch.read_ns = self.clock.now_ns()
        with nogil:
            self.on_records(0, batch)
        for split in splits:
            self.valve.on_watermark(split.index, split.generator.watermark)
        self.pass_on_time()
        for split in splits:
            self._finish_chunk(split)
        return 0

    cdef int read_split(self, int chosen, int64_t limit) except -1 nogil:
        cdef void* ref = self.split_refs[chosen]
        if (<Split>ref).rows == NULL:
            if not self.refill(<Split>ref):
                return 0
            if (<Split>ref).rows == NULL:
                return 1         # it has ended or become idle, or the chunk held no rows
            if self.closing:
                return 1         # the split's waking has let time go on
        if self.order is None or (<Split>ref).slot < 0:
            self.hand_on(<Split>ref, limit, INT64_MAX)
            return 1
        return self.hand_on_within(<Split>ref, limit)

    cdef int choose(self) noexcept nogil:
        """Return the split whose turn it is; -1 when all have ended."""
        cdef int _, at
        for _ in range(self.n_splits):
            at = self.turn
            self.turn = at + 1 if at + 1 < self.n_splits else 0
            if not (<Split>self.split_refs[at]).ended:
                return at
        return -1

    cdef int64_t next_time(self, Split split) noexcept nogil:
        cdef int64_t row
        for row in range(split.at, split.rows.n):
            if split.bad == NULL or not split.bad[row]:
                return max(split.generator.max_seen, i64(&split.rows.sys[SYS_TIME])[row])
        return split.generator.max_seen

    cdef int hand_on_within(self, Split split, int64_t limit) except -1 nogil:
        """Say where the split stands, and send what is not too far ahead of others (`max_drift`)."""
        cdef int64_t time = self.next_time(split), until = INT64_MAX
        self.order.offer(split.slot, OFFER_MADE, time, time)
        if self.max_drift_ms >= 0:
            until = self.order.reach(split.slot, self.max_drift_ms)
        if time > until:
            return 0
        self.hand_on(split, limit, until)
        return 1

    cdef int64_t limit_now(self) noexcept nogil:
        cdef int64_t limit = self.allowance()
        if limit <= 0:
            return 0
        limit = min(limit, self.piece_rows())
        return limit if self.pace is None else min(limit, self.paced_rows())

    cdef int64_t allowance(self) noexcept nogil:
        """Return how many rows the rate allows now (at most one batch)."""
        cdef int64_t now
        cdef double due
        if self.rate <= 0:
            return self.batch_rows
        now = self.clock.now_ns()
        if self.rate_began_ns == 0:
            self.rate_began_ns = now
        due = <double>(now - self.rate_began_ns) * 1e-9 * self.rate - self.rate_taken
        if due > self.rate:
            # More than a second behind: do not make up for it in one burst.
            self.rate_taken += due - self.rate
        return <int64_t>due if due < self.batch_rows else self.batch_rows

    cdef int hand_on(self, Split split, int64_t limit, int64_t until) except -1 nogil:
        """Send the next rows down the chain, none that is later than `until`; then what they mean for time."""
        cdef Batch* rows = split.rows
        cdef int64_t n = min(limit, <int64_t>(rows.n - split.at), <int64_t>self.batch_rows)
        cdef int64_t first = split.at, seen = split.generator.max_seen
        cdef const char* bad = NULL if split.bad == NULL else split.bad + first
        cdef int64_t taken = generator_scan(&split.generator, i64(&rows.sys[SYS_TIME]) + first, bad, n, until)
        cdef Batch* batch = batch_slice(rows, <int32_t>first, <int32_t>taken) if bad == NULL else self.good_rows(split, first, taken)
        split.at = <int32_t>(first + taken)
        split.taken += taken
        self.rate_taken += <double>taken
        if len_of(split.rejected) > split.n_rejected:
            with gil:
                self.handle_rejected(split, split.at)
        batch.read_ns = self.clock.now_ns()
        try:
            self.set_places(split, batch, seen)
            if PLANTED("late-test-after-batch"):
                self.valve.on_watermark(split.index, split.generator.watermark)
                self.pass_on_time()
            if batch.n > 0:
                self.on_records(0, batch)
        finally:
            batch_release(batch)
        if not self.in_round:
            self.valve.on_watermark(split.index, split.generator.watermark)
            self.pass_on_time()
        if split.at == rows.n:
            with gil:
                self._finish_chunk(split)
        return 0

    cdef int set_places(self, Split split, Batch* batch, int64_t seen) except -1 nogil:
        return 0

    cdef Batch* good_rows(self, Split split, int64_t first, int64_t n) except NULL nogil:
        """Return the good ones of rows first .. first + n."""
        cdef int32_t* keep = <int32_t*>malloc((n + 1) * sizeof(int32_t))
        cdef int32_t kept = 0
        cdef int64_t row
        cdef Batch* good
        if keep == NULL:
            with gil:
                raise MemoryError("no memory left for a batch")
        for row in range(first, first + n):
            if not split.bad[row]:
                keep[kept] = <int32_t>row
                kept += 1
        good = batch_take(split.rows, keep, kept)
        free(keep)
        return good
