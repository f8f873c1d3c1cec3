"""See sorted_cells.pxd."""
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.aggregates.cell cimport cell_assign, cell_compare, cell_free, cell_order

cdef enum:
    FIRST_ENTRIES = 4
    MOST_ENTRIES = 128
    FIRST_BLOCKS = 4


cdef class CellOrder:
    """`kinds` and `signs` of the cells, in order; the first `n_ordered` of them are compared."""

    def __init__(self, list kinds, list signs, int n_ordered, Arena arena, *, bint by_number, bint exact, bint owns):
        cdef int i
        self.arena = arena
        self.n_cells = len(kinds)
        self.n_ordered = n_ordered
        for i in range(self.n_cells):
            self.kinds[i] = kinds[i]
            self.signs[i] = signs[i]
        self.by_number = by_number
        self.exact = exact
        self.owns = owns
        self.stride = self.n_cells * <int64_t>sizeof(Cell) + 8

    cdef int compare(self, const Cell* cells, int64_t number, const char* entry) noexcept nogil:
        cdef const Cell* others = <const Cell*>entry
        cdef int i, order
        cdef int64_t other
        for i in range(self.n_ordered):
            if cells[i].tag == 0 or others[i].tag == 0:
                order = (cells[i].tag == 0) - (others[i].tag == 0)
            elif self.exact:
                order = self.signs[i] * cell_order(self.kinds[i], &cells[i], &others[i])
            else:
                order = self.signs[i] * cell_compare(self.kinds[i], &cells[i], &others[i])
            if order != 0:
                return order
        if not self.by_number:
            return 0
        other = (<const int64_t*>(entry + self.n_cells * <int64_t>sizeof(Cell)))[0]
        return (number > other) - (number < other)

    cdef Place find(self, const SortedCells* held, const Cell* cells, int64_t number) noexcept nogil:
        cdef Place place
        cdef int64_t low = 0, high = held.n_blocks, middle
        cdef const Block* block
        # The last block whose first entry is less; what is looked for may stand at its end.
        while high - low > 1:
            middle = (low + high) // 2
            if self.compare(cells, number, held.blocks[middle].entries) > 0:
                low = middle
            else:
                high = middle
        place.block = low
        place.at = 0
        if held.n_blocks == 0:
            return place
        block = &held.blocks[low]
        low = 0
        high = block.count
        while low < high:
            middle = (low + high) // 2
            if self.compare(cells, number, block.entries + middle * self.stride) > 0:
                low = middle + 1
            else:
                high = middle
        place.at = <int32_t>low
        return place

    cdef Place first(self) noexcept nogil:
        cdef Place place
        place.block = 0
        place.at = 0
        return place

    cdef Place next(self, const SortedCells* held, Place place) noexcept nogil:
        cdef Place following = place
        following.at += 1
        if following.block < held.n_blocks and following.at >= held.blocks[following.block].count:
            following.block += 1
            following.at = 0
        return following

    cdef char* entry(self, const SortedCells* held, Place place) noexcept nogil:
        if place.block < held.n_blocks and place.at >= held.blocks[place.block].count:
            place.block += 1
            place.at = 0
        if place.block >= held.n_blocks:
            return NULL
        return held.blocks[place.block].entries + place.at * self.stride

    cdef char* last(self, const SortedCells* held) noexcept nogil:
        cdef const Block* block
        if held.n_blocks == 0:
            return NULL
        block = &held.blocks[held.n_blocks - 1]
        return block.entries + (block.count - 1) * self.stride

    cdef char* weighed(self, const SortedCells* held, int64_t number) noexcept nogil:
        cdef int64_t i = 0
        cdef int32_t at = 0
        cdef const Block* block
        while number >= held.blocks[i].weight:
            number -= held.blocks[i].weight
            i += 1
        block = &held.blocks[i]
        while number >= number_of(self, block.entries + at * self.stride)[0]:
            number -= number_of(self, block.entries + at * self.stride)[0]
            at += 1
        return block.entries + at * self.stride

    cdef int64_t weight(self, const SortedCells* held) noexcept nogil:
        cdef int64_t i, sum = 0
        for i in range(held.n_blocks):
            sum += held.blocks[i].weight
        return sum

    cdef char* insert(self, SortedCells* held, const Cell* cells, int64_t number) except NULL nogil:
        cdef Place place = self.find(held, cells, number)
        cdef Block* block
        cdef char* entry
        cdef int32_t capacity
        cdef int i
        if held.n_blocks == 0:
            self.room_for_block(held, 0)
        elif held.blocks[place.block].count == MOST_ENTRIES:
            self.split(held, place.block)
            if place.at > held.blocks[place.block].count:
                place.at -= held.blocks[place.block].count
                place.block += 1
        block = &held.blocks[place.block]
        if block.count == block.capacity:
            capacity = max(2 * block.capacity, <int32_t>FIRST_ENTRIES)
            block.entries = self.arena.realloc(block.entries, block.capacity * self.stride, capacity * self.stride)
            block.capacity = capacity
        entry = block.entries + place.at * self.stride
        memmove(entry + self.stride, entry, (block.count - place.at) * self.stride)
        memset(entry, 0, self.stride)
        block.count += 1
        if not self.by_number:               # numbers of records mean nothing added up
            block.weight += number
        held.count += 1
        for i in range(self.n_cells):
            if self.owns:
                cell_assign(<Cell*>entry + i, self.kinds[i], &cells[i], self.arena)
            else:
                (<Cell*>entry)[i] = cells[i]
        number_of(self, entry)[0] = number
        return entry

    cdef int change(self, SortedCells* held, Place place, int64_t by) noexcept nogil:
        number_of(self, self.entry(held, place))[0] += by
        if place.at >= held.blocks[place.block].count:
            place.block += 1
        held.blocks[place.block].weight += by
        return 0

    cdef int remove(self, SortedCells* held, Place place) except -1 nogil:
        cdef Block* block
        cdef char* entry = self.entry(held, place)
        cdef int i
        if place.at >= held.blocks[place.block].count:
            place.block += 1
            place.at = 0
        block = &held.blocks[place.block]
        if not self.by_number:
            block.weight -= number_of(self, entry)[0]
        if self.owns:
            for i in range(self.n_cells):
                cell_free(<Cell*>entry + i, self.kinds[i], self.arena)
        memmove(entry, entry + self.stride, (block.count - place.at - 1) * self.stride)
        block.count -= 1
        held.count -= 1
        if block.count == 0:
            return self.drop_block(held, place.block)
        if place.block + 1 < held.n_blocks:
            self.unite(held, place.block)
        if place.block > 0:
            self.unite(held, place.block - 1)
        return 0

    cdef int clear(self, SortedCells* held) except -1 nogil:
        cdef int64_t b
        cdef int32_t at
        cdef int i
        cdef Block* block
        for b in range(held.n_blocks):
            block = &held.blocks[b]
            if self.owns:
                for at in range(block.count):
                    for i in range(self.n_cells):
                        cell_free(<Cell*>(block.entries + at * self.stride) + i, self.kinds[i], self.arena)
            self.arena.free(block.entries, block.capacity * self.stride)
        self.arena.free(<char*>held.blocks, held.capacity * <int64_t>sizeof(Block))
        memset(held, 0, sizeof(SortedCells))
        return 0

    cdef int room_for_block(self, SortedCells* held, int64_t at) except -1 nogil:
        cdef int64_t capacity
        if held.n_blocks == held.capacity:
            capacity = max(2 * held.capacity, <int64_t>FIRST_BLOCKS)
            held.blocks = <Block*>self.arena.realloc(
                <char*>held.blocks, held.capacity * <int64_t>sizeof(Block), capacity * <int64_t>sizeof(Block))
            held.capacity = capacity
        memmove(&held.blocks[at + 1], &held.blocks[at], (held.n_blocks - at) * sizeof(Block))
        memset(&held.blocks[at], 0, sizeof(Block))
        held.n_blocks += 1
        return 0

    cdef int split(self, SortedCells* held, int64_t block) except -1 nogil:
        cdef Block* lower
        cdef Block* upper
        cdef char* entries = self.arena.alloc(MOST_ENTRIES * self.stride)
        cdef int32_t i, half = MOST_ENTRIES // 2
        self.room_for_block(held, block + 1)
        lower = &held.blocks[block]
        upper = &held.blocks[block + 1]
        upper.entries = entries
        upper.capacity = MOST_ENTRIES
        upper.count = lower.count - half
        memcpy(upper.entries, lower.entries + half * self.stride, upper.count * self.stride)
        if not self.by_number:
            for i in range(upper.count):
                upper.weight += number_of(self, upper.entries + i * self.stride)[0]
        lower.count = half
        lower.weight -= upper.weight
        return 0

    cdef int drop_block(self, SortedCells* held, int64_t block) except -1 nogil:
        self.arena.free(held.blocks[block].entries, held.blocks[block].capacity * self.stride)
        memmove(&held.blocks[block], &held.blocks[block + 1], (held.n_blocks - block - 1) * sizeof(Block))
        held.n_blocks -= 1
        if held.n_blocks == 0:
            self.arena.free(<char*>held.blocks, held.capacity * <int64_t>sizeof(Block))
            memset(held, 0, sizeof(SortedCells))
        return 0

    cdef int unite(self, SortedCells* held, int64_t block) except -1 nogil:
        cdef Block* lower = &held.blocks[block]
        cdef Block* upper = &held.blocks[block + 1]
        if lower.count + upper.count > MOST_ENTRIES // 2 or lower.capacity < lower.count + upper.count:
            return 0
        memcpy(lower.entries + lower.count * self.stride, upper.entries, upper.count * self.stride)
        lower.count += upper.count
        lower.weight += upper.weight
        upper.count = 0
        return self.drop_block(held, block + 1)
