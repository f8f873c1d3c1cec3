"""A row for each item of a list."""
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from streamdsl._native.expr.kernels_list cimport SPARE, Items, is_null_item, items_of, next_item, put_item
from streamdsl._native.expr.vector cimport Vector
from streamdsl._native.flow.batch cimport (
    KIND_I64, KIND_STR, Batch, Column, batch_release, batch_share, batch_take, column_alloc, column_alloc_valid, column_share, is_valid,
)
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.aggregates.cell cimport Cell, Results, results_append, results_finish, results_free, results_init
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_free, bytes_init, bytes_reserve

cdef enum:
    MOST_ROWS = 16384                        # of one batch that goes on; a batch ends with a row of the input


cdef class ExplodeOperator(Operator):
    """Column `column` is a list, as text; what goes on has the text of one item there.

    With `index` the item's place in the list, from 0, is one more column, the last; null where a row stands for no item.
    A list without items makes no row, or one with null if `empty_as_null`; a null makes one with null if `keep_nulls`.
    """
    cdef int column
    cdef bint empty_as_null
    cdef bint keep_nulls
    cdef int32_t* rows                       # scratch: the row of the input that each row of the output is of
    cdef int64_t capacity
    cdef int64_t n
    cdef Results items
    cdef bint index
    cdef int32_t* places                     # scratch: of each row of the output, the item's place in its list, -1 = no item
    cdef ByteWriter scratch

    def __init__(self, str name, int column, bint empty_as_null, bint keep_nulls, bint index=False):
        self.name = name
        self.column = column
        self.empty_as_null = empty_as_null
        self.keep_nulls = keep_nulls
        self.index = index
        memset(&self.items, 0, sizeof(Results))
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        free(self.rows)
        results_free(&self.items)
        free(self.places)
        bytes_free(&self.scratch)

    cdef int process(self, Batch* batch) except -1 nogil:
        cdef int64_t row
        cdef int k
        cdef Vector lists
        cdef Batch* bare
        memset(&lists, 0, sizeof(Vector))
        lists.col = batch.columns[self.column]       # borrowed
        self.begin()
        # Without the lists: each of them would be copied for each of its items.
        bare = batch_share(batch, batch.width + (1 if self.index else 0))
        try:
            for k in range(batch.width):
                if k != self.column:
                    column_share(&bare.columns[k], &batch.columns[k])
            for row in range(batch.n):
                if not is_valid(&lists.col, row):
                    if self.keep_nulls:
                        self.append(row, NULL, -1)
                else:
                    self.append_items(&lists, row)
                if self.n >= MOST_ROWS:
                    self.pass_on(bare)
            self.pass_on(bare)
        finally:
            batch_release(bare)
        return 0

    cdef int begin(self) except -1 nogil:
        self.n = 0
        results_free(&self.items)
        return results_init(&self.items, KIND_STR, MOST_ROWS)

    cdef int append_items(self, const Vector* lists, int64_t row) except -1 nogil:
        cdef Items items = items_of(lists, row)
        cdef int32_t place = 0
        while next_item(&items):
            self.append(row, NULL if is_null_item(&items) else &items, place)
            place += 1
        return self.append(row, NULL, -1) if place == 0 and self.empty_as_null else 0

    cdef int append(self, int64_t row, const Items* item, int32_t place) except -1 nogil:
        cdef Cell cell
        memset(&cell, 0, sizeof(Cell))
        if self.n == self.capacity:
            self.rows = self.grown(self.rows)
            self.places = self.grown(self.places)
            self.capacity = 2 * self.capacity + MOST_ROWS
        self.rows[self.n] = <int32_t>row
        self.places[self.n] = place
        self.n += 1
        if item != NULL:
            self.scratch.used = 0
            bytes_reserve(&self.scratch, item.size + SPARE)
            cell.tag = 1 + put_item(item, self.scratch.data)
            cell.bits = <int64_t>self.scratch.data
        return results_append(&self.items, &cell)

    cdef int32_t* grown(self, int32_t* numbers) except NULL nogil:
        numbers = <int32_t*>realloc(numbers, (2 * self.capacity + MOST_ROWS) * sizeof(int32_t))
        if numbers == NULL:
            with gil:
                raise MemoryError("no memory left to explode a list")
        return numbers

    cdef int put_places(self, Column* target) except -1 nogil:
        cdef int64_t i
        column_alloc(target, KIND_I64, self.n, 0)
        for i in range(self.n):
            (<int64_t*>target.values)[i] = self.places[i]
            if self.places[i] < 0:
                if target.valid == NULL:
                    column_alloc_valid(target, self.n)
                target.valid[i] = 0
        return 0

    cdef int pass_on(self, Batch* batch) except -1 nogil:
        cdef Batch* out
        if self.n == 0:
            return 0
        out = batch_take(batch, self.rows, <int32_t>self.n)
        results_finish(&self.items, &out.columns[self.column])
        if self.index:
            self.put_places(&out.columns[out.width - 1])
        self.n = 0
        self.emit(out)
        return self.begin()
