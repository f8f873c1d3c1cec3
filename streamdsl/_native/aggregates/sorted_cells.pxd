"""Entries of a few cells and a number, kept in order: what an aggregate keeps of the rows that it may have to give back.

The entries stand in blocks, as in the leaves of a B-tree with one level above them: finding, adding and removing one costs a
binary search and moves a few kilobytes at most, however many there are. Zeroed memory holds none.
"""
from libc.stdint cimport int32_t, int64_t

from streamdsl._native.aggregates.cell cimport Cell
from streamdsl._native.state.arena cimport Arena

cdef enum:
    MOST_CELLS = 6                           # an ordering value, MOST_TIES that tell equal ones apart, the value

# An entry is its cells, then an int64_t: how often it is there, or the arrival number of its record.
cdef struct Block:
    char* entries                            # in the arena, ascending
    int64_t weight                           # sum of the numbers; 0 where they are arrival numbers
    int32_t count
    int32_t capacity

cdef struct SortedCells:
    Block* blocks                            # in the arena; none is empty
    int64_t n_blocks
    int64_t capacity
    int64_t count                            # entries

cdef struct Place:
    int64_t block
    int32_t at                               # the entry's place in the block; may be behind its last


cdef class CellOrder:
    """How entries are ordered: by their first `n_ordered` cells, then, with `by_number`, by the number."""
    cdef Arena arena
    cdef int n_cells
    cdef int n_ordered
    cdef int kinds[MOST_CELLS]
    cdef int signs[MOST_CELLS]               # 1: ascending, -1: descending; null comes last in either
    cdef bint by_number
    cdef bint exact                          # -0.0 is less than 0.0; else they are equal
    cdef bint owns                           # texts belong to the entries; else they are borrowed
    cdef int64_t stride                      # bytes an entry

    cdef int compare(self, const Cell* cells, int64_t number, const char* entry) noexcept nogil
    cdef Place find(self, const SortedCells* held, const Cell* cells, int64_t number) noexcept nogil   # first one not less
    cdef Place first(self) noexcept nogil
    cdef Place next(self, const SortedCells* held, Place place) noexcept nogil
    cdef char* entry(self, const SortedCells* held, Place place) noexcept nogil          # NULL behind the last
    cdef char* last(self, const SortedCells* held) noexcept nogil                        # NULL = none
    cdef char* weighed(self, const SortedCells* held, int64_t number) noexcept nogil     # of the values each counted, number `number`
    cdef int64_t weight(self, const SortedCells* held) noexcept nogil
    cdef char* insert(self, SortedCells* held, const Cell* cells, int64_t number) except NULL nogil    # the new entry
    cdef int change(self, SortedCells* held, Place place, int64_t by) noexcept nogil     # of its number
    cdef int remove(self, SortedCells* held, Place place) except -1 nogil
    cdef int clear(self, SortedCells* held) except -1 nogil                              # leaves zeroed memory
    cdef int split(self, SortedCells* held, int64_t block) except -1 nogil
    cdef int room_for_block(self, SortedCells* held, int64_t at) except -1 nogil         # an empty one stands there
    cdef int drop_block(self, SortedCells* held, int64_t block) except -1 nogil
    cdef int unite(self, SortedCells* held, int64_t block) except -1 nogil               # with the next one, if both fit in half


cdef inline int64_t* number_of(CellOrder order, char* entry) noexcept nogil:
    return <int64_t*>(entry + order.n_cells * <int64_t>sizeof(Cell))
