"""The task at the head of a plan: decodes, stamps event time, makes watermarks, injects barriers."""
from cpython.object cimport PyObject

cdef extern from "Python.h":
    Py_ssize_t Py_SIZE(PyObject* o) nogil

from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free, malloc

from streamdsl._native.event_time.peer_time cimport PEER_ACTIVE, PEER_ENDED, PEER_IDLE, PeerTime
from streamdsl._native.event_time.read_order cimport OFFER_MADE, OFFER_NONE, OFFER_WANTED, ReadOrder
from streamdsl._native.event_time.watermark_generator cimport generator_scan
from streamdsl._native.event_time.watermark_valve cimport WatermarkValve
from streamdsl._native.flow.arrow cimport batch_from_arrow
from streamdsl._native.flow.batch cimport SYS_TIME, Batch, batch_release, batch_slice, batch_take, column_share, i64
from streamdsl._native.flow.pace cimport FREE_ROWS, PACED_ROWS
from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.checked cimport FAULT, PLANTED
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.operators.output cimport Output
from streamdsl._native.task.feed_poll cimport FeedPoll
from streamdsl._native.task.intake cimport Intake
from streamdsl._native.task.split cimport IDLE_LOOK_MS, Split
from streamdsl._native.task.task cimport CROWD_ROWS, references

from streamdsl._native.task.task import close_all
from streamdsl.errors import connector_failure

cdef enum:
    # How often it is looked whether a split that gives nothing has been read.
    DRY_LOOK_MS = 50


cdef inline Py_ssize_t len_of(tuple items) noexcept nogil:
    return Py_SIZE(<PyObject*>items)


cdef class SourceTask(Task):
    """`spec` is the PhysicalSource, `splits` a list of Split; `policy` deals with rejected records."""

    def open(self, spec, list splits, types, policy, double rate, int batch_rows, int chunk_rows):
        """Give the task what it reads. `types`: the declared pyarrow types of the columns."""
        self.spec = spec
        self.intake = Intake(spec, types)
        self.splits = splits
        self.snapshotted = (0, {})
        self.split_refs = references(splits)
        self.n_splits = len(splits)
        self.max_drift_ms = -1 if spec.max_drift_ms is None else spec.max_drift_ms
        self.batch_rows = batch_rows
        self.chunk_rows = chunk_rows
        self.idle_timeout_ms = -1 if spec.idle_timeout_ms is None else spec.idle_timeout_ms
        self.rate = rate
        self.policy = policy
        self.valve = WatermarkValve(self.n_splits)
        self._set_valve()
        self.polls = FeedPoll(spec.name, splits, self.idle_timeout_ms)

    def _set_valve(self):
        """Go on from the watermarks of the splits, and from that of the tasks that had them before a restore."""
        cdef Split split
        cdef int64_t reached = INT64_MAX
        cdef bint* new = <bint*>calloc(self.n_splits + 1, sizeof(bint))
        if new == NULL:
            raise MemoryError("no memory left for a task")
        for split in self.splits:
            if split.ended:
                self.valve.on_end(split.index)
                continue
            self.valve.on_watermark(split.index, split.generator.watermark)
            new[split.index] = not split.goes_on
            if split.goes_on:
                reached = min(reached, split.reached)
        self.valve.start_at(INT64_MIN if reached == INT64_MAX else reached, new)
        free(new)
        for split in self.splits:
            self.valve.on_status(split.index, split.idle)

    def expect_keys_of_splits(self, int partitions, PeerTime peers):
        """Hold rows to the splits that their hashes name, of `partitions` in all.

        With `peers`, keyed state of the splits is in this task, and that of others in tasks which it goes by while it has nothing to read.
        """
        self.intake.hold_to_splits(partitions)
        self.peers = peers
        self.peer = int(self.id.partition(".")[2])

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

    def take_part(self, ReadOrder order):
        """Say in `order` how far each split has come: others may wait for it, and it for them."""
        self.order = order
        for split in self.splits:
            if not (<Split>split).ended:
                (<Split>split).slot = order.add_split(self.spec.rank, (<Split>split).number, self.in_order)

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
            if self.polls.look(self.clock.now_ns()) and self.read_due(limit):
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

    cdef int pass_on_time(self) except -1 nogil:
        Task.pass_on_time(self)
        if self.peers is not None:
            self.peers.tell(self.peer, self.watermark, PEER_ENDED if self.valve.all_ended else PEER_IDLE if self.idle else PEER_ACTIVE)
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

    cdef int without_times(self) except -1:
        """The source's records have no event time: nobody waits for it."""
        for split in self.splits:
            if (<Split>split).slot >= 0:
                self.order.offer((<Split>split).slot, OFFER_NONE, 0, 0)
                (<Split>split).slot = -1
        return 0

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

    cdef int refill(self, Split split) except -1 nogil:
        """Decode the split's next chunk; return 0 when there was nothing to do."""
        cdef int got
        with gil:
            got = self._refill(split)
        return got

    def _refill(self, Split split):
        split.due = False
        try:
            chunk = split.reader.read(self.chunk_rows)
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.spec.name!r} cannot read {split.name}", error)
        if chunk is None:
            return self._dry(split)
        if not hasattr(chunk, "rows"):
            self.end_split(split)
            return 1
        split.dry_since_ms = -1
        split.chunk = chunk
        split.at = 0
        split.n_rejected = 0
        if not self.intake.take(split, self.clock.now_ms()):
            self.without_times()
        self.crowded = split.rows.n >= CROWD_ROWS
        self.polls.rows += split.rows.n
        # A watermark, or another word of idleness, does not wake a split.
        if split.rows.n > 0 or chunk.rejected or chunk.idle is False:
            self._set_idle(split, False)
        if split.rows.n == 0:
            self._finish_chunk(split)
        return 1

    def _finish_chunk(self, Split split):
        """All rows of the chunk have gone down the chain: what stood behind them, then its position is passed."""
        chunk = split.chunk
        self.handle_rejected(split, split.rows.n + 1)
        try:
            split.position = split.reader.position(chunk, split.rows.n)
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.spec.name!r} does not know its position in {split.name}", error)
        split.chunk = None
        split.due = split.slot >= 0          # others may wait for it: that nothing more has come is to be said at once
        batch_release(split.rows)
        split.rows = NULL
        if chunk.watermark is not None:
            self.advance_watermark(split.name, chunk.watermark)
        if chunk.idle:
            self._set_idle(split, True)

    def _dry(self, Split split):
        """Return whether the split has just become idle, or active again: that may make rows, as records do.

        It is idle when it has been read to its end. While something waits there that does not come, others must not go on without it.
        """
        cdef int64_t now = self.clock.now_ns() // 1000000
        cdef bint idle
        if split.slot >= 0 and not split.idle:
            # Ahead of it is only what is ahead of records that it has: those that wait to be fetched count.
            waits = self.in_order or not self._caught_up(split)
            split.due = waits
            before = self.order.offers[split.slot].state
            self.order.offer(split.slot, OFFER_WANTED if waits else OFFER_NONE, split.generator.max_seen, INT64_MIN)
            if not waits and before != OFFER_NONE:
                return True          # others may go on: they have to be asked again
        if split.dry_since_ms < 0:
            split.dry_since_ms = now
            split.looked_at_ms = now - IDLE_LOOK_MS
        if self.idle_timeout_ms < 0 or now - split.dry_since_ms < self.idle_timeout_ms:
            return False
        if now - split.looked_at_ms < (IDLE_LOOK_MS if split.idle else DRY_LOOK_MS):
            return False
        split.looked_at_ms = now
        idle = self._caught_up(split)
        if idle == split.idle:
            return False
        self._set_idle(split, idle)
        return True

    def _caught_up(self, Split split):
        try:
            return split.reader.caught_up()
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.spec.name!r} does not know whether {split.name} has been read", error)

    def _set_idle(self, Split split, bint idle):
        if split.idle != idle and not split.ended:
            split.idle = idle
            if idle and split.slot >= 0:
                self.order.offer(split.slot, OFFER_NONE, 0, 0)
            self.valve.on_status(split.index, idle)
            self.pass_on_time()

    cdef int handle_rejected(self, Split split, int32_t before) except -1:
        """Deal with the chunk's rejected records that stood in front of row `before`."""
        rejected = split.rejected
        while split.n_rejected < len(rejected) and rejected[split.n_rejected].before_row < before:
            self.rejected += 1
            self.policy(self, rejected[split.n_rejected])
            split.n_rejected += 1
        return 0

    def dead_letter(self, rows, Operator target):
        """Send a dead-letter row (canonical RecordBatch of one row) down its edge."""
        cdef Batch* batch = batch_from_arrow(rows)
        try:
            column_share(&batch.sys[SYS_TIME], &batch.columns[batch.width - 1])
            target.process(batch)
            target.end_batch()
            self.settle(False)               # where others' dead letters come together with these
        finally:
            batch_release(batch)

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

    cdef int end_split(self, Split split) except -1 nogil:
        self.polls.n_apart -= split.apart and not split.ended
        split.ended = True
        if split.slot >= 0:
            self.order.offer(split.slot, OFFER_NONE, 0, 0)
        self.valve.on_end(split.index)
        return self.pass_on_time()

    def _end_all(self):
        for split in self.splits:
            if not (<Split>split).ended:
                self.end_split(split)

    def snapshot_part(self, checkpoint_id):
        """Return the task's part of a checkpoint, with the position of every split."""
        part = Task.snapshot_part(self, checkpoint_id)
        # The end is no watermark: a later run may go on from it.
        reached = INT64_MIN if self.watermark == INT64_MAX else self.watermark
        word = self.idle_timeout_ms < 0
        part["sources"] = {self.spec.name: {(<Split>split).name: split.snapshot(reached, word) for split in self.splits}}
        self.snapshotted = (checkpoint_id, part["sources"][self.spec.name])
        return part

    def _commit(self):
        checkpoint_id, states = self.snapshotted
        if checkpoint_id == self.committed:
            for split in self.splits:
                (<Split>split).on_committed(states[(<Split>split).name]["position"])
        Task._commit(self)

    # What a driver does in the place of a source's own watermarks.

    def advance_watermark(self, str split, int64_t watermark):
        """Set the split's watermark (ms); one that is behind, or comes while the split is idle, is ignored."""
        cdef Split found = self.split(split)
        if found.idle or found.ended:
            return
        if watermark > found.generator.watermark:
            found.generator.watermark = watermark
        self.valve.on_watermark(found.index, watermark)
        self.pass_on_time()

    def set_idle(self, str split, bint idle):
        """Make the split idle, or active again."""
        self._set_idle(self.split(split), idle)

    def split(self, str name):
        """Return the split of that name."""
        for split in self.splits:
            if (<Split>split).name == name:
                return split
        raise KeyError(name)

    def metrics(self):
        """Return the task's figures."""
        figures = Task.metrics(self)
        figures["rejected"] = self.rejected
        figures["splits"] = {(<Split>split).name: (<Split>split).taken for split in self.splits}
        figures["lag"] = {(<Split>split).name: (<Split>split).reader.lag() for split in self.splits}
        figures["watermarks"] = {(<Split>split).name: (<Split>split).watermark() for split in self.splits}
        figures["bytes"] = {(<Split>split).name: (<Split>split).reader.bytes_read() for split in self.splits}
        figures["uncommitted"] = {(<Split>split).name: (<Split>split).reader.uncommitted() for split in self.splits}
        return figures

    def close(self):
        """Close the readers and the sinks."""
        try:
            close_all([(<Split>split).reader for split in self.splits or ()])
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.spec.name!r} cannot be closed", error)
        finally:
            Task.close(self)
