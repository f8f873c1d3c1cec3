"""See splits_task.pxd."""
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t
from libc.stdlib cimport calloc, free

from streamdsl._native.event_time.peer_time cimport PEER_ACTIVE, PEER_ENDED, PEER_IDLE, PeerTime
from streamdsl._native.event_time.read_order cimport OFFER_NONE, OFFER_WANTED, ReadOrder
from streamdsl._native.event_time.watermark_valve cimport WatermarkValve
from streamdsl._native.flow.arrow cimport batch_from_arrow
from streamdsl._native.flow.batch cimport SYS_TIME, Batch, batch_release, column_share
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.task.feed_poll cimport FeedPoll
from streamdsl._native.task.intake cimport Intake
from streamdsl._native.task.split cimport IDLE_LOOK_MS, Split
from streamdsl._native.task.task cimport CROWD_ROWS, references

from streamdsl._native.task.task import close_all
from streamdsl.errors import connector_failure

cdef enum:
    # How often it is looked whether a split that gives nothing has been read.
    DRY_LOOK_MS = 50


cdef class SplitsTask(Task):
    """Base of `SourceTask`. `spec` is the PhysicalSource, `splits` a list of Split; `policy` deals with rejected records."""

    def __dealloc__(self):
        free(self.split_refs)

    def open(self, spec, list splits, types, times, policy, double rate, int batch_rows, int chunk_rows):
        """Give the task what it reads. `types`: the declared pyarrow types of the columns, `times`: what finds event times, or None."""
        self.spec = spec
        self.intake = Intake(spec, types, times)
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

    def take_part(self, ReadOrder order):
        """Say in `order` how far each split has come: others may wait for it, and it for them."""
        self.order = order
        for split in self.splits:
            if not (<Split>split).ended:
                (<Split>split).slot = order.add_split(self.spec.rank, (<Split>split).number, self.in_order)

    cdef int pass_on_time(self) except -1 nogil:
        Task.pass_on_time(self)
        if self.peers is not None:
            self.peers.tell(self.peer, self.watermark, PEER_ENDED if self.valve.all_ended else PEER_IDLE if self.idle else PEER_ACTIVE)
        return 0

    cdef int without_times(self) except -1:
        """The source's records have no event time: nobody waits for it."""
        for split in self.splits:
            if (<Split>split).slot >= 0:
                self.order.offer((<Split>split).slot, OFFER_NONE, 0, 0)
                (<Split>split).slot = -1
        return 0

    cdef int refill(self, Split split) except -1 nogil:
        """Decode the split's next chunk; return 0 when there was nothing to do."""
        cdef int got
        with gil:
            got = self._refill(split)
        return got

    def _refill(self, Split split):
        cdef bint timed = True
        cdef Batch* rows
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
        rows = self.intake.rows_of(split.name, chunk.rows, chunk.timestamps, self.clock.now_ms(), &timed)
        split.take(chunk, rows)
        self.intake.judge(split, self.clock.now_ms())
        if not timed:
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
