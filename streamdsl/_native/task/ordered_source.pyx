"""See ordered_source.pxd, and event_time/read_order.pxd for the rounds.

Between two rounds every split reads until it has rows, and offers what it can emit: a batch at most, up to which time. Within a
round it emits the part of its offer that lies in the round. What the rows mean for the watermark follows behind all of them.
"""
from libc.stdint cimport INT64_MAX, int32_t

from streamdsl._native.event_time.read_order cimport OFFER_MADE, OFFER_NONE, SPLIT_BITS, Place, ReadOrder, places
from streamdsl._native.event_time.watermark_generator cimport WatermarkGenerator, generator_scan
from streamdsl._native.flow.batch cimport KIND_DEC, SYS_ORDINAL, SYS_TIME, Batch, column_alloc, i64
from streamdsl._native.includes.atomic cimport atomic_load
from streamdsl._native.operators.output cimport Output
from streamdsl._native.task.task cimport Task

cdef enum:
    NOT_READY = -2           # no round


cdef class OrderedSourceTask(SourceTask):
    """Reads its splits in event-time order, over all source tasks of the job."""

    def join_order(self, ReadOrder order, int number, bint exact):
        """Take part in `order` as task `number`; call it behind `open`. `exact`: rows are put in order where sources meet."""
        self.number = number
        self.in_order = True
        self.exact = exact
        self.reader = order.add_reader(number)
        self.take_part(order)

    def leave_order(self):
        """Read without regard to others: there are none."""
        self.without_times()

    cdef int without_times(self) except -1:
        SourceTask.without_times(self)
        self.left = True
        return 0

    cdef bint may_snapshot(self, int64_t checkpoint_id) noexcept nogil:
        return self.told_round == INT64_MAX or self.order.may_snapshot(self.reader, checkpoint_id)

    cdef void note_round(self) noexcept nogil:
        if not self.left and not self.in_round and self.told_round < INT64_MAX and atomic_load(&self.order.round) > self.joined:
            self.in_round = True

    cdef int64_t round_over(self) noexcept nogil:
        if self.unsettled():
            return -1
        return INT64_MAX if self.ended or self.left else self.joined

    cdef bint tell_round(self) noexcept nogil:
        cdef bint told = Task.tell_round(self)
        if told and self.told_round == INT64_MAX:
            self.order.leave(self.reader)
        return told

    cdef int read_splits(self) except -1 nogil:
        cdef int progress
        if self.left:
            return SourceTask.read_splits(self)
        if self.in_round:
            return self.emit_part()
        if atomic_load(&self.requested):
            return 0                         # a barrier comes before the next round
        if self.must_wait():
            return self.wait()
        if self.waits:
            self.waits = self.offered = False
            self.order.announce(self.reader, NOT_READY)
        if not self.offered or self.any_idle:
            progress = self.make_offers()
            if progress or not self.offered:
                return progress
        return self.order.try_open()

    cdef int wait(self) except -1 nogil:
        cdef int i
        if not self.offered:
            for i in range(self.n_splits):
                if not (<Split>self.split_refs[i]).ended:
                    self.order.offer((<Split>self.split_refs[i]).slot, OFFER_NONE, 0, 0)
            self.waits = self.offered = True
            self.order.announce(self.reader, self.joined)
        return self.order.try_open()

    cdef int make_offers(self) except -1 nogil:
        """Have every split say what it can emit next; nothing is said while one of them does not know it yet."""
        cdef int i
        cdef bint wanted = False
        self.any_idle = False
        for i in range(self.n_splits):
            if (<Split>self.split_refs[i]).ended:
                continue
            if (<Split>self.split_refs[i]).rows == NULL:
                if self.refill(<Split>self.split_refs[i]):
                    return 1
                self.any_idle |= (<Split>self.split_refs[i]).idle
                wanted |= not (<Split>self.split_refs[i]).idle
            elif (<Split>self.split_refs[i]).offered == 0 and not self.make_offer(<Split>self.split_refs[i]):
                return 0
        if not wanted and not self.offered:
            self.offered = True
            self.order.announce(self.reader, self.joined)
        return 0

    cdef bint make_offer(self, Split split) noexcept nogil:
        """Look how many rows of the split make a batch, and up to which time; return whether any may be emitted now."""
        cdef WatermarkGenerator after = split.generator
        cdef int64_t at = split.at, limit = min(self.limit_now(), <int64_t>(split.rows.n - at))
        if limit <= 0:
            return False
        split.offered = generator_scan(
            &after, i64(&split.rows.sys[SYS_TIME]) + at, NULL if split.bad == NULL else split.bad + at, limit, INT64_MAX,
        )
        # The next row with a time may stand behind bad ones that make the whole batch.
        self.order.offer(split.slot, OFFER_MADE, min(self.next_time(split), after.max_seen), after.max_seen)
        return True

    cdef int set_places(self, Split split, Batch* batch, int64_t seen) except -1 nogil:
        cdef int32_t row
        cdef Place* place
        cdef int64_t number
        if not self.exact or not self.in_round:      # it need not have made an offer
            return 0
        number = <int64_t>self.order.offers[split.slot].number << SPLIT_BITS
        column_alloc(&batch.sys[SYS_ORDINAL], KIND_DEC, batch.n, 0)
        for row in range(batch.n):
            place = places(&batch.sys[SYS_ORDINAL]) + row
            seen = max(seen, i64(&batch.sys[SYS_TIME])[row])
            place.time, place.number = seen, number + row
        return 0

    cdef int emit_part(self) except -1 nogil:
        cdef int i
        cdef int64_t rows
        cdef void* ref
        if Task.held_back(self):
            self.blocked += 1
            return 0
        if self.exact:
            self.begin_round(self.order.round)
        while self.part_at < self.n_splits:
            ref = self.split_refs[self.part_at]
            self.part_at += 1
            rows = (<Split>ref).offered
            if rows == 0 or (<Split>ref).rows == NULL or not self.order.takes_part((<Split>ref).slot):
                continue
            (<Split>ref).offered = 0
            for i in range(self.n_outputs):
                (<Output>self.outputs[i]).part = self.part_at
            self.hand_on(<Split>ref, rows, self.order.until_of((<Split>ref).slot))
            return 1
        for i in range(self.n_outputs):
            (<Output>self.outputs[i]).part = 0     # what time makes is in order by itself
        self.in_round = False
        self.offered = False
        self.joined = self.order.round
        self.part_at = 0
        for i in range(self.n_splits):
            self.valve.on_watermark(i, (<Split>self.split_refs[i]).generator.watermark)
        self.pass_on_time()
        return 1
