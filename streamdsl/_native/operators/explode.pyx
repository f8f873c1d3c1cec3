"""A row for each item of a list."""
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from streamdsl._native.expr.kernels_list cimport SPARE, Items, is_null_item, items_of, next_item, put_item
from streamdsl._native.expr.vector cimport Vector
from streamdsl._native.flow.batch cimport KIND_STR, Batch, batch_release, batch_share, batch_take, column_share, is_valid
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.aggregates.cell cimport Cell, Results, results_append, results_finish, results_free, results_init
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_free, bytes_init, bytes_reserve

cdef enum:
    MOST_ROWS = 16384                        # of one batch that goes on; a batch ends with a row of the input


cdef class ExplodeOperator(Operator):
    """Column `column` is a list, as text; what goes on has the text of one item there.

    A list without items makes no row, or one with null if `empty_as_null`; a null makes one with null if `keep_nulls`.
    """
    cdef int column
    cdef bint empty_as_null
    cdef bint keep_nulls
    cdef int32_t* rows                       # scratch: the row of the input that each row of the output is of
    cdef int64_t capacity
    cdef int64_t n
    cdef Results items
    cdef ByteWriter scratch

    def __init__(self, str name, int column, bint empty_as_null, bint keep_nulls):
        self.name = name
        self.column = column
        self.empty_as_null = empty_as_null
        self.keep_nulls = keep_nulls
        memset(&self.items, 0, sizeof(Results))
        bytes_init(&self.scratch, 256)

    def __dealloc__(self):
        free(self.rows)
        results_free(&self.items)
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
        bare = batch_share(batch, batch.width)
        try:
            for k in range(batch.width):
                if k != self.column:
                    column_share(&bare.columns[k], &batch.columns[k])
            for row in range(batch.n):
                if not is_valid(&lists.col, row):
                    if self.keep_nulls:
                        self.append(row, NULL)
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
        cdef bint empty = True
        while next_item(&items):
            empty = False
            self.append(row, NULL if is_null_item(&items) else &items)
        return self.append(row, NULL) if empty and self.empty_as_null else 0

    cdef int append(self, int64_t row, const Items* item) except -1 nogil:
        cdef Cell cell
        cdef int64_t i
        cdef int32_t* grown
        memset(&cell, 0, sizeof(Cell))
        if self.n == self.capacity:
            grown = <int32_t*>malloc((2 * self.capacity + MOST_ROWS) * sizeof(int32_t))
            if grown == NULL:
                with gil:
                    raise MemoryError("no memory left to explode a list")
            for i in range(self.n):
                grown[i] = self.rows[i]
            free(self.rows)
            self.rows = grown
            self.capacity = 2 * self.capacity + MOST_ROWS
        self.rows[self.n] = <int32_t>row
        self.n += 1
        if item != NULL:
            self.scratch.used = 0
            bytes_reserve(&self.scratch, item.size + SPARE)
            cell.tag = 1 + put_item(item, self.scratch.data)
            cell.bits = <int64_t>self.scratch.data
        return results_append(&self.items, &cell)

    cdef int pass_on(self, Batch* batch) except -1 nogil:
        cdef Batch* out
        if self.n == 0:
            return 0
        out = batch_take(batch, self.rows, <int32_t>self.n)
        results_finish(&self.items, &out.columns[self.column])
        self.n = 0
        self.emit(out)
        return self.begin()
