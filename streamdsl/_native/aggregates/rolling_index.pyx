"""See rolling_index.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.flow.batch cimport KIND_F64, KIND_STR, KIND_U64
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.includes.decimal cimport wide_add, wide_merge
from streamdsl._native.includes.int128 cimport i128_add, i128_merge, u128_add
from streamdsl._native.aggregates.cell cimport Cell, as_f64, cell_compare, cell_decimal, cell_order, kind_number
from streamdsl._native.aggregates.exact_sum cimport ExactSquares, exact_add, exact_clear, exact_merge

cdef enum:
    NODE_HEAD = 16           # the earliest and the latest time
    FIRST_NODES = 4
    FIRST_LINKS = 128

MOST_TOP = 128               # a longer top_k visits the records of its frame
PARTIALS = {"count": PARTIAL_COUNT, "var": PARTIAL_MOMENTS, "std": PARTIAL_MOMENTS, "first": PARTIAL_FIRST, "last": PARTIAL_LAST,
            "min": PARTIAL_BEST, "max": PARTIAL_BEST, "min_by": PARTIAL_BEST, "max_by": PARTIAL_BEST, "top_k": PARTIAL_TOP,
            "n_unique": PARTIAL_UNIQUE}


def partial_of(spec):
    """Return how an aggregate's partial results look."""
    if spec.kind in ("sum", "mean"):
        integers = dict.fromkeys(("i64", "u64", "bool"), PARTIAL_INTEGERS)
        return {"f64": PARTIAL_SUM, "dec": PARTIAL_DECIMALS, **integers}.get(
            spec.input_kind, PARTIAL_VISIT)
    if spec.kind == "top_k" and dict(spec.params)["n"] > MOST_TOP:
        return PARTIAL_VISIT
    return PARTIALS.get(spec.kind, PARTIAL_VISIT)


cdef inline int shift_of(int level) noexcept nogil:
    return BLOCK_BITS + LEVEL_BITS * level


cdef inline Cell* cell_of(const char* entry, int cell) noexcept nogil:
    return <Cell*>(entry + 8) + cell


cdef inline int64_t first_of(Ring* ring) noexcept nogil:
    return 0 if ring.index == NULL else ring.index.first


cdef inline uint64_t mixed(uint64_t bits) noexcept nogil:
    bits ^= bits >> 33
    bits *= <uint64_t>0xff51afd7ed558ccdu
    bits ^= bits >> 33
    bits *= <uint64_t>0xc4ceb9fe1a85ec53u
    return bits ^ (bits >> 33)


cdef uint64_t cell_hash(const Cell* cell, int kind) noexcept nogil:
    cdef uint64_t value = <uint64_t>14695981039346656037u
    cdef double number
    cdef int64_t i
    if kind == KIND_STR:
        for i in range(cell.tag - 1):
            value = (value ^ (<unsigned char*>cell.bits)[i]) * <uint64_t>1099511628211u
        return mixed(value)
    if kind == KIND_F64:
        number = as_f64(cell.bits)
        if number == 0.0 or number != number:
            return mixed(1 if number == 0.0 else 2)
    return mixed(<uint64_t>cell.bits)


cdef class RollingIndex:
    """`specs`, `columns`: the rolling `AggregateSpec`s of a frame, and which argument column each cell of an entry holds."""

    def __init__(self, list specs, list columns, int64_t stride, Arena arena):
        cdef int k
        cdef Slot* slot
        cdef int64_t size
        self.arena = arena
        self.stride = stride
        self.n_slots = len(specs)
        self.slots = <Slot*>calloc(self.n_slots + 1, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError("no memory left for a frame")
        self.node_size = NODE_HEAD
        for k, spec in enumerate(specs):
            slot = &self.slots[k]
            slot.partial = <Partial><int>partial_of(spec)
            slot.argument = columns.index(spec.argument) if spec.argument >= 0 else -1
            slot.by = columns.index(spec.by) if spec.by >= 0 else -1
            slot.where = columns.index(spec.where) if spec.where >= 0 else -1
            slot.argument_kind = kind_number(spec.input_kind)
            slot.rank = slot.by if slot.by >= 0 else slot.argument
            slot.rank_kind = kind_number(spec.by_kind) if slot.by >= 0 else slot.argument_kind
            slot.sign = 1 if spec.kind.startswith("max") else -1
            slot.top = dict(spec.params)["n"] if slot.partial == PARTIAL_TOP else 0
            if slot.partial == PARTIAL_UNIQUE:
                slot.unique = self.n_maps
                self.n_maps += 1
            size = 8
            if slot.partial == PARTIAL_INTEGERS:
                size = 24
            elif slot.partial == PARTIAL_DECIMALS:
                size = 32
            elif slot.partial == PARTIAL_SUM:
                size = sizeof(ExactMoments) - sizeof(ExactSquares)
            elif slot.partial == PARTIAL_MOMENTS:
                size = sizeof(ExactMoments)
            elif slot.partial == PARTIAL_TOP:
                size = 8 + 8 * slot.top
            slot.at = self.node_size
            slot.size = size
            self.node_size += size
        self.total = <char*>calloc(1, self.node_size)
        if self.total == NULL:
            raise MemoryError("no memory left for a frame")

    def __dealloc__(self):
        free(self.slots)
        free(self.total)

    cdef char* entry(self, Ring* ring, int64_t number) noexcept nogil:
        return entry_at(ring, number - first_of(ring), self.stride)

    cdef char* node(self, Level* level, int64_t i) noexcept nogil:
        return level.nodes + (i & (level.capacity - 1)) * self.node_size

    cdef bint takes(self, const Slot* slot, const char* entry) noexcept nogil:
        cdef Cell* cell
        if slot.where >= 0:
            cell = cell_of(entry, slot.where)
            if cell.tag == 0 or cell.bits == 0:
                return False
        if slot.argument >= 0 and cell_of(entry, slot.argument).tag == 0:
            return False
        # What orders by a null is no candidate.
        return slot.partial < PARTIAL_BEST or slot.partial == PARTIAL_UNIQUE or cell_of(entry, slot.rank).tag != 0

    # -- partial results

    cdef void reset(self, int k) noexcept nogil:
        cdef Slot* slot = &self.slots[k]
        cdef char* at = self.total + slot.at
        if slot.partial == PARTIAL_SUM or slot.partial == PARTIAL_MOMENTS:
            exact_clear(<ExactMoments*>at, slot.partial == PARTIAL_MOMENTS)
        elif PARTIAL_FIRST <= slot.partial <= PARTIAL_BEST:
            (<int64_t*>at)[0] = -1
        else:
            memset(at, 0, 8 if slot.partial == PARTIAL_TOP else slot.size)

    cdef int add(self, Ring* ring, const Slot* slot, char* node, int64_t number) except -1 nogil:
        cdef int64_t* held = <int64_t*>(node + slot.at)
        cdef char* entry = self.entry(ring, number)
        cdef Cell* cell = cell_of(entry, slot.argument)
        if slot.partial == PARTIAL_COUNT:
            held[0] += 1
        elif slot.partial == PARTIAL_INTEGERS:
            held[0] += 1
            if slot.argument_kind == KIND_U64:
                u128_add(held + 1, <uint64_t>cell.bits)
            else:
                i128_add(held + 1, cell.bits)
        elif slot.partial == PARTIAL_SUM or slot.partial == PARTIAL_MOMENTS:
            exact_add(<ExactMoments*>held, as_f64(cell.bits), slot.partial == PARTIAL_MOMENTS)
        elif slot.partial == PARTIAL_DECIMALS:
            held[0] += 1
            wide_add(held + 1, cell_decimal(cell))
        elif slot.partial == PARTIAL_FIRST:
            if held[0] < 0:
                held[0] = number
        elif slot.partial == PARTIAL_LAST:
            held[0] = number
        elif slot.partial == PARTIAL_BEST:
            if held[0] < 0 or self.exceeds(slot, cell_of(entry, slot.rank), cell_of(self.entry(ring, held[0]), slot.rank)):
                held[0] = number
        elif slot.partial == PARTIAL_TOP:
            self.offer(ring, slot, held, number)
        return 0

    cdef bint exceeds(self, const Slot* slot, const Cell* one, const Cell* other) noexcept nogil:
        # min and max tell zeros apart, as they do outside of frames; max_by and min_by take the first of equal ones.
        if slot.by < 0:
            return slot.sign * cell_order(slot.rank_kind, one, other) > 0
        return slot.sign * cell_compare(slot.rank_kind, one, other) > 0

    cdef int merge(self, Ring* ring, const Slot* slot, char* node, const char* other) except -1 nogil:
        """Add what comes later."""
        cdef int64_t* held = <int64_t*>(node + slot.at)
        cdef int64_t* more = <int64_t*>(other + slot.at)
        cdef int64_t i
        if slot.partial == PARTIAL_COUNT or slot.partial == PARTIAL_UNIQUE:
            held[0] += more[0]
        elif slot.partial == PARTIAL_INTEGERS:
            held[0] += more[0]
            i128_merge(held + 1, more + 1)
        elif slot.partial == PARTIAL_DECIMALS:
            held[0] += more[0]
            wide_merge(held + 1, more + 1)
        elif slot.partial == PARTIAL_SUM or slot.partial == PARTIAL_MOMENTS:
            exact_merge(<ExactMoments*>held, <ExactMoments*>more, slot.partial == PARTIAL_MOMENTS)
        elif slot.partial == PARTIAL_TOP:
            for i in range(more[0]):
                if self.offer(ring, slot, held, more[1 + i]) == 0:
                    break                    # those behind it are no better
        elif slot.partial != PARTIAL_VISIT and more[0] >= 0:
            self.add(ring, slot, node, more[0])
        return 0

    cdef int offer(self, Ring* ring, const Slot* slot, int64_t* top, int64_t number) noexcept nogil:
        """Take a record among the best; return whether it is one of them. Of equal ones the first stays in front."""
        cdef Cell* rank = cell_of(self.entry(ring, number), slot.rank)
        cdef int64_t at = top[0]
        cdef int64_t i
        while at > 0 and cell_compare(slot.rank_kind, rank, cell_of(self.entry(ring, top[at]), slot.rank)) > 0:
            at -= 1
        if at == slot.top:
            return 0
        if top[0] < slot.top:
            top[0] += 1
        for i in range(top[0], at + 1, -1):
            top[i] = top[i - 1]
        top[at + 1] = number
        return 1

    # -- a frame

    cdef int collect(self, Ring* ring, int k, int64_t start, int64_t now, int64_t size_ms) except -1 nogil:
        cdef Slot* slot = &self.slots[k]
        cdef Index* index = ring.index
        cdef int64_t number = first_of(ring) + start, end = first_of(ring) + ring.count, until
        cdef int64_t* times
        cdef char* node
        cdef int level
        cdef bint newer
        while number < end:
            level = -1
            if index != NULL and number & ((1 << BLOCK_BITS) - 1) == 0:
                level = 0
                while (level + 1 < index.n_levels and number & ((<int64_t>1 << shift_of(level + 1)) - 1) == 0
                       and number >> shift_of(level + 1) < index.levels[level + 1].high):
                    level += 1
            while level >= 0:
                node = self.node(&index.levels[level], number >> shift_of(level))
                times = <int64_t*>node
                newer = times[1] > now
                if within(times[0], now, size_ms) and not newer:
                    self.merge(ring, slot, self.total, node)
                    break
                # A value whose latest record is newer may have another in the frame: those records are asked.
                if (not newer and not within(times[1], now, size_ms)) or (times[0] > now and slot.partial != PARTIAL_UNIQUE):
                    break
                level -= 1
            until = min(end, number + (<int64_t>1 << shift_of(max(level, 0))))
            if level < 0:
                until = min(end, (number | ((1 << BLOCK_BITS) - 1)) + 1)
                for number in range(number, until):
                    self.visit(ring, slot, number, now, size_ms)
            number = until
        return 0

    cdef int visit(self, Ring* ring, const Slot* slot, int64_t number, int64_t now, int64_t size_ms) except -1 nogil:
        cdef char* entry = self.entry(ring, number)
        cdef int64_t time = (<int64_t*>entry)[0]
        cdef UniqueMap* map
        if slot.partial != PARTIAL_UNIQUE:
            return self.add(ring, slot, self.total, number) if within(time, now, size_ms) and self.takes(slot, entry) else 0
        if not self.takes(slot, entry):
            return 0
        map = &ring.index.maps[slot.unique]
        if not map.links[number & (map.links_capacity - 1)].latest:
            return 0
        while time > now:
            number = map.links[number & (map.links_capacity - 1)].before
            if number < ring.index.first:
                return 0
            time = (<int64_t*>self.entry(ring, number))[0]
        (<int64_t*>(self.total + slot.at))[0] += within(time, now, size_ms)
        return 0

    # -- as records come and go

    cdef int build(self, Ring* ring) except -1 nogil:
        cdef int32_t count = ring.count
        cdef Index* index = <Index*>self.arena.alloc(sizeof(Index))
        memset(index, 0, sizeof(Index))
        index.compacted = count
        ring.index = index
        if self.n_maps > 0:
            index.maps = <UniqueMap*>self.arena.alloc(self.n_maps * sizeof(UniqueMap))
            memset(index.maps, 0, self.n_maps * sizeof(UniqueMap))
        ring.count = 0
        try:
            while ring.count < count:
                ring.count += 1
                self.added(ring)
        finally:
            if ring.count < count:           # no memory: the records stay
                ring.count = count
                self.drop(ring)
        return 0

    cdef void drop(self, Ring* ring) noexcept nogil:
        cdef Index* index = ring.index
        cdef int i
        if index == NULL:
            return
        for i in range(index.n_levels):
            self.arena.free(index.levels[i].nodes, index.levels[i].capacity * self.node_size)
        if index.maps != NULL:
            for i in range(self.n_maps):
                self.arena.free(<char*>index.maps[i].table, index.maps[i].capacity * sizeof(Mention))
                self.arena.free(<char*>index.maps[i].links, index.maps[i].links_capacity * sizeof(Link))
            self.arena.free(<char*>index.maps, self.n_maps * sizeof(UniqueMap))
        self.arena.free(<char*>index, sizeof(Index))
        ring.index = NULL

    cdef int push(self, Level* level) except -1 nogil:
        cdef int64_t i, capacity
        cdef char* nodes
        cdef char* made
        cdef int k
        if level.high - level.low == level.capacity:
            capacity = 2 * level.capacity if level.capacity else FIRST_NODES
            nodes = self.arena.alloc(capacity * self.node_size)
            for i in range(level.low, level.high):
                memcpy(nodes + (i & (capacity - 1)) * self.node_size, self.node(level, i), self.node_size)
            self.arena.free(level.nodes, level.capacity * self.node_size)
            level.nodes = nodes
            level.capacity = capacity
        made = self.node(level, level.high)
        memset(made, 0, self.node_size)
        (<int64_t*>made)[0] = INT64_MAX
        (<int64_t*>made)[1] = INT64_MIN
        for k in range(self.n_slots):
            if PARTIAL_FIRST <= self.slots[k].partial <= PARTIAL_BEST:
                (<int64_t*>(made + self.slots[k].at))[0] = -1
        level.high += 1
        return 0

    cdef int added(self, Ring* ring) except -1 nogil:
        cdef Index* index = ring.index
        cdef int64_t number = index.first + ring.count - 1
        cdef char* entry = self.entry(ring, number)
        cdef char* node
        cdef int64_t* times
        cdef int k, level
        if index.n_levels == 0:
            index.n_levels = 1
            index.levels[0].low = index.levels[0].high = number >> BLOCK_BITS
        if number >> BLOCK_BITS == index.levels[0].high:
            self.push(&index.levels[0])
        CHECK(number >> BLOCK_BITS == index.levels[0].high - 1, "records are numbered without a gap")
        node = self.node(&index.levels[0], number >> BLOCK_BITS)
        times = <int64_t*>node
        times[0] = min(times[0], (<int64_t*>entry)[0])
        times[1] = max(times[1], (<int64_t*>entry)[0])
        for k in range(self.n_slots):
            if self.slots[k].partial == PARTIAL_UNIQUE:
                self.note(ring, &self.slots[k], number)
            elif self.takes(&self.slots[k], entry):
                self.add(ring, &self.slots[k], node, number)
        level = 1
        while level < MOST_LEVELS and (number + 1) & ((<int64_t>1 << shift_of(level)) - 1) == 0:
            self.complete(ring, level, number >> shift_of(level))
            level += 1
        return 0

    cdef int complete(self, Ring* ring, int level, int64_t i) except -1 nogil:
        """Make the node `i` of a level: all that is below it is there, or has left again."""
        cdef Index* index = ring.index
        cdef Level* lower = &index.levels[level - 1]
        cdef int64_t child
        cdef char* node
        cdef char* below
        cdef int k
        if level == index.n_levels:
            index.levels[level].low = index.levels[level].high = i
            index.n_levels += 1
        CHECK(index.levels[level].high == i, "nodes are made in order")
        self.push(&index.levels[level])
        node = self.node(&index.levels[level], i)
        if lower.low > i << LEVEL_BITS:
            return 0                         # its first records have left: nothing asks for it as a whole
        for child in range(i << LEVEL_BITS, (i + 1) << LEVEL_BITS):
            below = self.node(lower, child)
            (<int64_t*>node)[0] = min((<int64_t*>node)[0], (<int64_t*>below)[0])
            (<int64_t*>node)[1] = max((<int64_t*>node)[1], (<int64_t*>below)[1])
            for k in range(self.n_slots):
                self.merge(ring, &self.slots[k], node, below)
        return 0

    cdef void leaving(self, Ring* ring) noexcept nogil:
        cdef Index* index = ring.index
        cdef int i
        index.first += 1
        if index.first & ((1 << BLOCK_BITS) - 1):
            return
        for i in range(index.n_levels):
            while index.levels[i].low < index.levels[i].high and (index.levels[i].low + 1) << shift_of(i) <= index.first:
                index.levels[i].low += 1

    # -- different values

    cdef bint same(self, const Slot* slot, const char* one, const char* other) noexcept nogil:
        cdef Cell* a = cell_of(one, slot.argument)
        cdef Cell* b = cell_of(other, slot.argument)
        if slot.argument_kind == KIND_STR:
            return a.tag == b.tag and (a.tag == 1 or memcmp(<char*>a.bits, <char*>b.bits, <size_t>(a.tag - 1)) == 0)
        return cell_compare(slot.argument_kind, a, b) == 0

    cdef void mark(self, Ring* ring, const Slot* slot, int64_t number, int64_t by) noexcept nogil:
        cdef Level* level
        cdef int i
        for i in range(ring.index.n_levels):
            level = &ring.index.levels[i]
            if level.low <= number >> shift_of(i) < level.high:
                (<int64_t*>(self.node(level, number >> shift_of(i)) + slot.at))[0] += by

    cdef int note(self, Ring* ring, const Slot* slot, int64_t number) except -1 nogil:
        """Keep the records of a value in order of time, and mark the latest."""
        cdef Index* index = ring.index
        cdef UniqueMap* map = &index.maps[slot.unique]
        cdef char* entry = self.entry(ring, number)
        cdef int64_t time = (<int64_t*>entry)[0], later, before
        cdef Link* link
        cdef Mention* found
        cdef uint64_t hash
        if ring.count > map.links_capacity:
            self.grow_links(ring, map)
        link = &map.links[number & (map.links_capacity - 1)]
        link.before = -1
        link.latest = 0
        if not self.takes(slot, entry):
            return 0
        if 2 * map.used >= map.capacity:
            self.grow_map(ring, map)
        hash = cell_hash(cell_of(entry, slot.argument), slot.argument_kind)
        found = self.mention(ring, slot, map, entry, hash)
        later = found.number - 1
        if later >= index.first and time < (<int64_t*>self.entry(ring, later))[0]:
            before = map.links[later & (map.links_capacity - 1)].before
            while before >= index.first and (<int64_t*>self.entry(ring, before))[0] > time:
                later = before
                before = map.links[later & (map.links_capacity - 1)].before
            link.before = before
            map.links[later & (map.links_capacity - 1)].before = number
            return 0
        if later >= index.first:
            link.before = later
            map.links[later & (map.links_capacity - 1)].latest = 0
            self.mark(ring, slot, later, -1)
        map.used += found.number == 0
        found.number = number + 1
        found.hash = hash
        link.latest = 1
        self.mark(ring, slot, number, 1)
        return 0

    cdef Mention* mention(self, Ring* ring, const Slot* slot, UniqueMap* map, const char* entry, uint64_t hash) noexcept nogil:
        """Return the place of the value, or one where it may stand."""
        cdef int64_t at = <int64_t>(hash & <uint64_t>(map.capacity - 1))
        cdef Mention* left = NULL
        cdef Mention* found
        while True:
            found = &map.table[at]
            if found.number == 0:
                return found if left == NULL else left
            if found.number - 1 < ring.index.first:
                if left == NULL:
                    left = found
            elif found.hash == hash and self.same(slot, self.entry(ring, found.number - 1), entry):
                return found
            at = (at + 1) & (map.capacity - 1)

    cdef int grow_map(self, Ring* ring, UniqueMap* map) except -1 nogil:
        cdef int64_t i, at, live = 0, capacity = 64
        cdef Mention* table
        for i in range(map.capacity):
            live += map.table[i].number > ring.index.first
        while capacity < 4 * (live + 1):
            capacity *= 2
        table = <Mention*>self.arena.alloc(capacity * sizeof(Mention))
        memset(table, 0, capacity * sizeof(Mention))
        for i in range(map.capacity):
            if map.table[i].number > ring.index.first:
                at = <int64_t>(map.table[i].hash & <uint64_t>(capacity - 1))
                while table[at].number:
                    at = (at + 1) & (capacity - 1)
                table[at] = map.table[i]
        self.arena.free(<char*>map.table, map.capacity * sizeof(Mention))
        map.table = table
        map.capacity = capacity
        map.used = live
        return 0

    cdef int grow_links(self, Ring* ring, UniqueMap* map) except -1 nogil:
        cdef int64_t i, capacity = map.links_capacity if map.links_capacity else FIRST_LINKS
        cdef int64_t first = ring.index.first
        cdef Link* links
        while capacity < ring.count:
            capacity *= 2
        links = <Link*>self.arena.alloc(capacity * sizeof(Link))
        for i in range(first, first + ring.count - 1):
            links[i & (capacity - 1)] = map.links[i & (map.links_capacity - 1)]
        self.arena.free(<char*>map.links, map.links_capacity * sizeof(Link))
        map.links = links
        map.links_capacity = capacity
        return 0
