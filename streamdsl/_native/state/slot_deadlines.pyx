"""See slot_deadlines.pxd.

Times fall into buckets of equal width, which is doubled when there are too many. A bucket all of which is due is taken as it is. Of one
that is due in part a heap is made. What is taken is sorted; so the order is that of `Deadlines`.

A checkpoint holds rows of them all: they are written into the stream a few at a time, as changed rows are. What has been written is
deleted when it is over, behind the next barrier.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.includes.checked cimport CHECK, CHECKED_BUILD, PLANTED
from streamdsl._native.state.cold_scan cimport FILED
from streamdsl._native.state.deadline_heap cimport heap_pop, heap_push, list_append
from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, key_part, put_sorted
from streamdsl._native.state.deadline_sort cimport SORT_BYTES, sort_deadlines
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.rank_sort cimport RankedItem
from streamdsl._native.state.row_table cimport ROW_LIVE, ROW_STORED, RowHeader
from streamdsl._native.state.write_stream cimport (
    ENTRY_DELETE, ENTRY_PUT, EntryHeader, bytes_free, bytes_init, bytes_reserve, entry_close, entry_open,
)

cdef enum:
    MOST_BUCKETS = 1024
    FEW_BUCKETS = 4            # in the checked build
    AHEAD = 16                 # items whose rows are fetched before they are looked at
    DRAIN_BYTES = 16384        # of rows for one append to the stream
    ID_BYTES = 8
    ROW_BYTES = 48             # what a row takes beside its key and itself, about
    FEW_GIVEN_UP = 1024        # deadlines that stay in the lists,
    FEWEST_GIVEN_UP = 2        # and in the checked build


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for deadlines")


cdef inline int64_t last_time(int64_t number, int shift) noexcept nogil:
    return <int64_t>((<uint64_t>number << shift) | ((<uint64_t>1 << shift) - 1))


cdef class DeadlineOwner:
    cdef bint stands(self, int lane, const SlotDeadline* item) noexcept nogil:
        return True


cdef class SlotDeadlines(ColdListener):
    """`allowed`: whether there may be any at all. They are filed in `deadlines` otherwise."""

    def __init__(self, Deadlines deadlines not None, KeyTable keys not None, bint allowed):
        cdef int lane
        self.deadlines, self.keys = deadlines, keys
        self.allowed = self.on = allowed
        deadlines.slots = self
        bytes_init(&self.gone, 0)
        bytes_init(&self.tail, 0)
        for lane in range(MOST_LANES):
            self.lane[lane].near_until = INT64_MIN

    def __dealloc__(self):
        self.clear()
        free(self.sort_room)
        bytes_free(&self.gone)
        bytes_free(&self.tail)

    cdef void clear(self) noexcept nogil:
        cdef int lane
        cdef int64_t i
        for lane in range(MOST_LANES):
            for i in range(self.lane[lane].n_buckets):
                free(self.lane[lane].buckets[i].items.at)
            free(self.lane[lane].buckets)
            free(self.lane[lane].near.at)
            free(self.lane[lane].ready.at)
            free(self.lane[lane].spare.at)
            memset(&self.lane[lane], 0, sizeof(SlotLane))
            self.lane[lane].near_until = INT64_MIN
        self.gone.used = self.n_gone = 0
        self.settling = False

    # What is due ------------------------------------------------------------------------------------------------

    cdef int add(self, int lane, int64_t time, int64_t id, int64_t slot) except -1 nogil:
        cdef SlotLane* of = &self.lane[lane]
        cdef TimeBucket* bucket
        cdef SlotDeadline item
        cdef const RowHeader* header = self.keys.header(slot)
        item.time, item.id, item.slot, item.stored = time, id, <uint32_t>slot, 0
        item.begins = key_part(header.key, header.key_size, 0)
        of.count += 1
        if time <= of.near_until:
            if of.near.n > 0 or of.ready.first < of.ready.n:
                return heap_push(&of.near, &item)
            of.near_until = INT64_MIN        # nothing is left that it has to stand in order with
        bucket = self.bucket_of(of, time >> of.shift)
        bucket.earliest = min(bucket.earliest, time)
        return list_append(&bucket.items, &item)

    cdef TimeBucket* bucket_of(self, SlotLane* lane, int64_t number) except NULL nogil:
        cdef int64_t low = 0, high = lane.n_buckets, middle, time = number << lane.shift
        cdef TimeBucket* more
        if lane.last < lane.n_buckets and lane.buckets[lane.last].number == number:
            return &lane.buckets[lane.last]
        while low < high:
            middle = (low + high) >> 1
            if lane.buckets[middle].number < number:
                low = middle + 1
            else:
                high = middle
        lane.last = low
        if low < lane.n_buckets and lane.buckets[low].number == number:
            return &lane.buckets[low]
        if lane.n_buckets >= (FEW_BUCKETS if CHECKED_BUILD else MOST_BUCKETS):
            self.widen(lane)
            return self.bucket_of(lane, time >> lane.shift)
        if lane.n_buckets == lane.capacity:
            more = <TimeBucket*>realloc(lane.buckets, (2 * lane.n_buckets + 8) * sizeof(TimeBucket))
            if more == NULL:
                no_memory()
            lane.buckets = more
            lane.capacity = 2 * lane.n_buckets + 8
        if self.settling:                    # places of buckets are noted
            self.settle(INT64_MAX)
        memmove(lane.buckets + low + 1, lane.buckets + low, (lane.n_buckets - low) * sizeof(TimeBucket))
        memset(&lane.buckets[low], 0, sizeof(TimeBucket))
        lane.buckets[low].number = number
        lane.buckets[low].earliest = INT64_MAX
        lane.buckets[low].items = lane.spare
        memset(&lane.spare, 0, sizeof(SlotDeadlineList))
        lane.n_buckets += 1
        return &lane.buckets[low]

    cdef void keep(self, SlotLane* lane, SlotDeadlineList items, int64_t used) noexcept nogil:
        """Have the next bucket begin with the room of one that is over: its memory has been touched. Too much room is not handed on."""
        if items.capacity <= lane.spare.capacity or used < items.capacity >> 2:
            free(items.at)
            return
        free(lane.spare.at)
        lane.spare = items
        lane.spare.n = lane.spare.first = 0

    cdef int widen(self, SlotLane* lane) except -1 nogil:
        """Unite neighbours until half of the places are free."""
        cdef int64_t i, k, n = lane.n_buckets
        cdef TimeBucket* into
        if self.settling:
            self.settle(INT64_MAX)
        while 2 * n > (FEW_BUCKETS if CHECKED_BUILD else MOST_BUCKETS):
            lane.shift += 1
            n = 0
            for i in range(lane.n_buckets):
                lane.buckets[i].number >>= 1
                if n == 0 or lane.buckets[n - 1].number != lane.buckets[i].number:
                    lane.buckets[n] = lane.buckets[i]
                    n += 1
                    continue
                into = &lane.buckets[n - 1]
                into.earliest = min(into.earliest, lane.buckets[i].earliest)
                if into.written == into.items.n:         # else some are written twice
                    into.written += lane.buckets[i].written
                for k in range(lane.buckets[i].items.n):
                    list_append(&into.items, &lane.buckets[i].items.at[k])
                free(lane.buckets[i].items.at)
            lane.n_buckets = n
        lane.last = 0
        return 0

    cdef int pour(self, SlotLane* lane) except -1 nogil:
        """Make the first bucket part of the heap."""
        cdef SlotDeadlineList items = lane.buckets[0].items
        cdef int64_t i
        lane.near_until = max(lane.near_until, last_time(lane.buckets[0].number, lane.shift))
        lane.n_buckets -= 1
        memmove(lane.buckets, lane.buckets + 1, lane.n_buckets * sizeof(TimeBucket))
        for i in range(items.n):
            heap_push(&lane.near, &items.at[i])
        free(items.at)
        return 0

    cdef int64_t first(self, int lane) noexcept nogil:
        cdef SlotLane* of = &self.lane[lane]
        cdef int64_t time = INT64_MAX
        if of.ready.first < of.ready.n:
            time = of.ready.at[of.ready.first].time
        if of.near.n > 0:
            return min(time, of.near.at[0].time)
        return min(time, of.buckets[0].earliest) if of.n_buckets > 0 else time

    cdef int64_t gather(self, int lane, int64_t limit, int64_t most) except -1 nogil:
        cdef SlotLane* of = &self.lane[lane]
        cdef int64_t fresh, time, i, before = of.ready.n
        cdef TimeBucket bucket
        cdef SlotDeadlineList ready
        if self.settling:
            self.settle(INT64_MAX)
        if of.ready.first == of.ready.n:
            of.ready.first = of.ready.n = 0
        fresh = of.ready.n
        while of.near.n > 0 or of.n_buckets > 0:
            CHECK(of.near.n == 0 or of.n_buckets == 0 or of.near.at[0].time < of.buckets[0].earliest, "the heap comes before the lists")
            time = of.near.at[0].time if of.near.n > 0 else of.buckets[0].earliest
            if time > limit or (of.ready.n - of.ready.first >= most and time > of.ready.at[of.ready.first].time):
                break
            of.unsorted = True
            if of.near.n > 0:
                list_append(&of.ready, &of.near.at[0])
                heap_pop(&of.near)
                continue
            if of.shift > 0 and of.buckets[0].number >= limit >> of.shift and limit < INT64_MAX:
                self.pour(of)
                continue
            bucket = of.buckets[0]
            of.n_buckets -= 1
            memmove(of.buckets, of.buckets + 1, of.n_buckets * sizeof(TimeBucket))
            of.near_until = max(of.near_until, last_time(bucket.number, of.shift))
            if of.ready.n == 0:
                ready = of.ready
                of.ready = bucket.items
                self.keep(of, ready, before)
                continue
            for i in range(bucket.items.n):
                list_append(&of.ready, &bucket.items.at[i])
            self.keep(of, bucket.items, bucket.items.n)
        return fresh

    cdef int64_t piece(self, int lane, int64_t most, bint one_window) noexcept nogil:
        cdef SlotLane* of = &self.lane[lane]
        cdef SlotDeadline* items = of.ready.at + of.ready.first
        cdef int64_t n = min(most, of.ready.n - of.ready.first), i
        for i in range(n):
            if (of.near.n > 0 and items[i].time >= of.near.at[0].time) or (
                    one_window and (items[i].time != items[0].time or items[i].id != items[0].id)):
                return i
        return n

    cdef int over(self, int lane, const SlotDeadline* item) except -1 nogil:
        cdef const RowHeader* header = self.keys.header(item.slot)
        cdef const char* key
        cdef int64_t size
        self.lane[lane].count -= 1
        self.lane[lane].given_up = min(self.lane[lane].given_up, self.lane[lane].count)
        if item.stored and header.key != NULL and not PLANTED("delete-missing"):
            size = self.tail_of(item, header)
            key = self.deadlines.key_of(lane, item.time, self.tail.data, size)
            entry_open(&self.gone, ENTRY_DELETE, header.shard, <uint16_t>self.deadlines.table.id, key, <int32_t>(DEADLINE_BYTES + size))
            self.n_gone += 1
        return 0

    cdef int give_up(self, int lane) except -1 nogil:
        cdef SlotLane* of = &self.lane[lane]
        of.given_up += 1
        # As many may stay as count: so each of them is passed over a few times in all.
        if of.given_up > (FEWEST_GIVEN_UP if CHECKED_BUILD else FEW_GIVEN_UP) and 2 * of.given_up > of.count:
            return self.weed(lane)
        return 0

    cdef int weed(self, int lane) except -1 nogil:
        """Drop what has been given up. Time has no part in such deadlines: they stand in buckets until all are due."""
        cdef SlotLane* of = &self.lane[lane]
        cdef SlotDeadlineList* items
        cdef int64_t b, i, kept, written
        if of.given_up == 0:
            return 0
        if self.settling:
            self.settle(INT64_MAX)
        for b in range(of.n_buckets):
            items = &of.buckets[b].items
            kept = written = 0
            for i in range(items.n):
                if i + AHEAD < items.n:
                    prefetch(self.keys.header(items.at[i + AHEAD].slot))
                if self.owner.stands(lane, &items.at[i]):
                    written += i < of.buckets[b].written
                    items.at[kept] = items.at[i]
                    kept += 1
                else:
                    self.over(lane, &items.at[i])
            items.n = kept
            of.buckets[b].written = written
        of.given_up = 0
        return 0

    cdef int sort(self, int lane) except -1 nogil:
        cdef SlotLane* of = &self.lane[lane]
        cdef SlotDeadline* items = of.ready.at + of.ready.first
        cdef int64_t n = of.ready.n - of.ready.first
        if not of.unsorted or n < 2:
            of.unsorted = False
            return 0
        if PLANTED("deadlines-unsorted"):
            return 0
        self.reserve_sorted(n)
        sort_deadlines(items, self.sort_room, n, self.keys)
        of.unsorted = False
        return 0

    cdef int reserve_sorted(self, int64_t n) except -1 nogil:
        cdef RankedItem* more
        if n > self.sort_capacity:
            free(self.sort_room)             # nothing in it is wanted any more
            more = <RankedItem*>malloc(n * SORT_BYTES)
            self.sort_room = more
            self.sort_capacity = n if more != NULL else 0
            if more == NULL:
                no_memory()
        return 0

    # Rows of them -----------------------------------------------------------------------------------------------

    cdef int64_t tail_of(self, const SlotDeadline* item, const RowHeader* header) except -1 nogil:
        cdef char* tail = bytes_reserve(&self.tail, ID_BYTES + header.key_size)
        put_sorted(tail, item.id)
        memcpy(tail + ID_BYTES, header.key, header.key_size)
        return ID_BYTES + header.key_size

    cdef int spill(self, int lane, const SlotDeadline* item) except -1 nogil:
        cdef const RowHeader* header = self.keys.header(item.slot)
        cdef int64_t row
        self.lane[lane].count -= 1
        if not header.flags & ROW_LIVE:      # nothing is left of the key
            return 0
        row = self.deadlines.add(lane, item.time, self.tail.data, self.tail_of(item, header), header.shard)
        if item.stored:
            self.deadlines.table.header(row).flags |= ROW_STORED
        return 0

    cdef int spill_ready(self, int lane) except -1 nogil:
        cdef SlotDeadlineList* ready = &self.lane[lane].ready
        while ready.first < ready.n:
            ready.first += 1
            self.spill(lane, &ready.at[ready.first - 1])
        return 0

    cdef int spill_due(self, int lane, int64_t limit) except -1 nogil:
        self.weed(lane)
        self.gather(lane, limit, INT64_MAX)
        return self.spill_ready(lane)

    cdef int spill_all(self) except -1 nogil:
        cdef int lane
        for lane in range(MOST_LANES):
            if self.lane[lane].count > 0:
                self.spill_due(lane, INT64_MAX)
        return 0

    cdef int write(self, int lane, SlotDeadline* item) except -1 nogil:
        """Put the row into the stream's scratch."""
        cdef const RowHeader* header = self.keys.header(item.slot)
        cdef ByteWriter* out = &self.deadlines.table.scratch
        cdef const char* key
        cdef int64_t size
        if not header.flags & ROW_LIVE:
            return 0
        size = self.tail_of(item, header)
        key = self.deadlines.key_of(lane, item.time, self.tail.data, size)
        entry_close(out, entry_open(out, ENTRY_PUT, header.shard, <uint16_t>self.deadlines.table.id, key, <int32_t>(DEADLINE_BYTES + size)))
        self.deadlines.table.scratch_rows += 1
        item.stored = 1
        return self.deadlines.table.flush_scratch() if out.used >= DRAIN_BYTES else 0

    cdef int write_list(self, int lane, SlotDeadlineList* items, int64_t first, int64_t end) except -1 nogil:
        cdef int64_t i
        for i in range(first, end):
            if i + 2 * AHEAD < end:
                prefetch(self.keys.header(items.at[i + 2 * AHEAD].slot))
            if i + AHEAD < end:
                prefetch(self.keys.header(items.at[i + AHEAD].slot).key)
            self.write(lane, &items.at[i])
        return 0

    cdef int on_begin(self) except -1 nogil:
        cdef int lane
        cdef int64_t i
        for lane in range(MOST_LANES):
            self.weed(lane)                  # a restored one would be a row that nobody asks for before the end
        if self.n_gone > 0:
            self.deadlines.table.stream.append(self.gone.data, self.gone.used, self.n_gone)
            self.gone.used = self.n_gone = 0
        for lane in range(MOST_LANES):
            self.write_list(lane, &self.lane[lane].ready, self.lane[lane].ready.first, self.lane[lane].ready.n)
            self.write_list(lane, &self.lane[lane].near, 0, self.lane[lane].near.n)
            for i in range(self.lane[lane].n_buckets):
                self.lane[lane].buckets[i].begun = self.lane[lane].buckets[i].items.n
        self.deadlines.table.flush_scratch()
        self.settling = True
        self.settling_lane = 0
        self.settling_bucket = 0
        self.on = self.allowed and not self.pressed and self.deadlines.table.cold == 0
        self.pressed = False
        return 0

    cdef int64_t settle(self, int64_t most) except -1 nogil:
        """Write the next ones of those that were there when the checkpoint began; return how many."""
        cdef int64_t n = 0, end
        cdef SlotLane* of
        cdef TimeBucket* bucket
        while self.settling and n < most:
            if self.settling_lane == MOST_LANES:
                self.settling = False
                break
            of = &self.lane[self.settling_lane]
            if self.settling_bucket == of.n_buckets:
                self.settling_lane += 1
                self.settling_bucket = 0
                continue
            bucket = &of.buckets[self.settling_bucket]
            end = bucket.written + min(most - n, bucket.begun - bucket.written)
            if bucket.written < end:
                self.write_list(self.settling_lane, &bucket.items, bucket.written, end)
                n += end - bucket.written
                bucket.written = end
            if bucket.written >= bucket.begun:
                self.settling_bucket += 1
        self.deadlines.table.flush_scratch()
        return n

    cdef int64_t on_drain(self, int64_t most) except -1 nogil:
        return self.settle(most)

    cdef bint behind(self) noexcept nogil:
        return self.settling

    def beside(self):
        """Return how many there are."""
        return sum([self.lane[lane].count - self.lane[lane].given_up for lane in range(MOST_LANES)])

    cdef int on_pressure(self) except -1 nogil:
        cdef int lane
        self.pressed = True
        if self.on:
            self.on = False
            for lane in range(MOST_LANES):
                self.weed(lane)
            self.bury()
            self.spill_all()
        return 0

    cdef int bury(self) except -1 nogil:
        """Have rows in memory stand for the deletes that wait: what is read back from the database is no deadline any more else."""
        cdef const char* at = self.gone.data
        cdef const char* end = at + self.gone.used
        cdef EntryHeader entry
        while at < end:
            memcpy(&entry, at, sizeof(EntryHeader))
            at += sizeof(EntryHeader)
            self.deadlines.bury(at + FILED, <int32_t>entry.key_size - FILED, (<unsigned char>at[0] << 8) | <unsigned char>at[1])
            at += entry.key_size
        self.gone.used = self.n_gone = 0
        return 0

    cdef int on_cleared(self) except -1 nogil:
        self.clear()
        return 0

    cdef int64_t memory(self) noexcept nogil:
        cdef int64_t size = self.gone.capacity + self.tail.capacity, i
        cdef int lane
        size += self.sort_capacity * SORT_BYTES
        for lane in range(MOST_LANES):
            size += (self.lane[lane].near.capacity + self.lane[lane].ready.capacity + self.lane[lane].spare.capacity) * sizeof(SlotDeadline)
            size += self.lane[lane].capacity * sizeof(TimeBucket)
            for i in range(self.lane[lane].n_buckets):
                size += self.lane[lane].buckets[i].items.capacity * sizeof(SlotDeadline)
            size += self.lane[lane].count * (ROW_BYTES + self.deadlines.table.stride)      # there is to be room for rows of them
        return size
