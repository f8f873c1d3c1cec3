"""Python functions on a stream without state: map, flat_map, filter, peek, and whole batches."""
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
cimport cython

from streamdsl._native.flow.batch cimport (
    KIND_BOOL, SYS_TIME, Batch, batch_release, batch_retain, batch_share, batch_take, column_alloc, column_share, i64,
)
from streamdsl._native.rows.arrow_rows cimport ArrowRows
from streamdsl._native.rows.row cimport Row, row_new
from streamdsl._native.rows.row_results cimport RESULT_ROWS, result_kind
from streamdsl._native.operators.user_code cimport UserCodeOperator, check_result, judged

from streamdsl._native.rows.row_results import BadRow
from streamdsl.errors import InternalError

cdef enum:
    MODE_MAP = 0
    MODE_FLAT_MAP = 1
    MODE_FILTER = 2
    MODE_PEEK = 3
    MODE_BATCHES = 4
    MODE_TEST = 5

MODES = {"map": MODE_MAP, "flat_map": MODE_FLAT_MAP, "filter": MODE_FILTER, "peek": MODE_PEEK, "batches": MODE_BATCHES, "test": MODE_TEST}


@cython.final
cdef class PythonFunctionOperator(UserCodeOperator):
    """`spec` is a `PhysicalPython`. The GIL is taken once a batch.

    Rows keep the time and the place of the row they were made of. In mode "batches" the function gets and returns a
    `pyarrow.RecordBatch` in the declared types, of as many rows; or its column `_row` says which input row each stems from.
    """
    cdef object function
    cdef int mode
    cdef ArrowRows arrow
    cdef int64_t dropped

    def __init__(self, spec):
        if spec.mode not in MODES:
            raise InternalError(f"{spec.name}: there is no mode {spec.mode!r}")
        self.mode = MODES[spec.mode]
        self.function = spec.function
        self.prepare(spec, False)
        self.by_row = self.mode != MODE_BATCHES
        if self.mode == MODE_BATCHES:
            self.arrow = ArrowRows(spec.name, spec.input_schema, spec.schema)

    cdef int process(self, Batch* batch) except -1 nogil:
        with gil:
            if self.mode == MODE_BATCHES:
                self.run_batch(batch)
            elif self.mode == MODE_TEST:
                self.run_test(batch)
            elif self.mode == MODE_FILTER or self.mode == MODE_PEEK:
                self.run_selection(batch)
            else:
                self.run_rows(batch)
        return 0

    cdef Row fresh(self, Row row, Batch* batch, int32_t at):
        # A row that the function did not keep is used again.
        if row is not None and Py_REFCNT(row) == 1:
            row.point(batch, at)
            return row
        return row_new(self.input_shape, batch, at)

    cdef int run_rows(self, Batch* batch) except -1:
        cdef int32_t i
        cdef int before
        cdef Row row = None
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef object function = self.function
        for i in range(batch.n):
            row = self.fresh(row, batch, i)
            before = self.main.n
            try:
                result = function(row)
                check_result(result)
                if self.mode == MODE_MAP:
                    if result is None:
                        raise BadRow("map returned None; it returns a row (flat_map may return none, filter drops rows)")
                    self.main.append(result, i, times[i], 0)
                elif result is not None:
                    self.append_all(result, i, times[i])
            except Exception as error:       # whatever user code raises
                self.main.truncate(before)
                self.on_error(error, "the function", row, None, 0, times[i])
            result = None
        self.flush(batch)
        return 0

    cdef int append_all(self, object result, int32_t i, int64_t time) except -1:
        if result_kind(result) != RESULT_ROWS:
            return self.main.append(result, i, time, 0)
        for item in result:
            self.main.append(item, i, time, 0)
        return 0

    cdef int run_selection(self, Batch* batch) except -1:
        cdef int32_t i, n = 0, failed = 0
        cdef Row row = None
        cdef Batch* out
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef object function = self.function
        cdef int32_t* rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
        if rows == NULL:
            raise MemoryError("no memory left for a filter")
        try:
            for i in range(batch.n):
                row = self.fresh(row, batch, i)
                try:
                    result = function(row)
                    if self.mode == MODE_PEEK:
                        check_result(result)
                    elif not judged(result):
                        continue
                    rows[n] = i
                    n += 1
                except Exception as error:   # whatever user code raises
                    self.on_error(error, "the function", row, None, 0, times[i])
                    failed += 1
            self.dropped += batch.n - n - failed
            self.emitted += n
            row = None
            if n == batch.n:
                batch_retain(batch)
                self.send(self.next, batch)
            elif n > 0:
                out = batch_take(batch, rows, n)
                self.send(self.next, out)
        finally:
            free(rows)
        self.flush(batch)
        return 0

    cdef int run_test(self, Batch* batch) except -1:
        """Append the column of answers; rows without one are refused."""
        cdef int32_t i, n = 0
        cdef int c
        cdef Row row = None
        cdef Batch* kept = NULL
        cdef Batch* out = NULL
        cdef int32_t* rows = <int32_t*>malloc(batch.n * sizeof(int32_t))
        cdef char* answers = <char*>malloc(batch.n)
        try:
            if rows == NULL or answers == NULL:
                raise MemoryError("no memory left for a branch")
            for i in range(batch.n):
                row = self.fresh(row, batch, i)
                try:
                    answers[n] = judged(self.function(row))
                    rows[n] = i
                    n += 1
                except Exception as error:   # whatever user code raises
                    self.on_error(error, "the function", row, None, 0, i64(&batch.sys[SYS_TIME])[i])
            row = None
            self.emitted += n
            if n > 0:
                kept = batch_take(batch, rows, n)
                out = batch_share(kept, batch.width + 1)
                for c in range(batch.width):
                    column_share(&out.columns[c], &kept.columns[c])
                column_alloc(&out.columns[batch.width], KIND_BOOL, n, 0)
                memcpy(out.columns[batch.width].values, answers, n)
        finally:
            free(rows)
            free(answers)
            batch_release(kept)
        if out != NULL:
            self.send(self.next, out)
        self.flush(batch)
        return 0

    cdef int run_batch(self, Batch* batch) except -1:
        cdef Batch* out = NULL
        try:
            result = self.function(self.arrow.to_arrow(batch))
            check_result(result)
            out = self.arrow.from_arrow(result, batch)
        except Exception as error:           # whatever user code raises
            return self.refuse_batch(error, batch)
        if out != NULL:
            self.emitted += out.n
            self.send(self.next, out)
        return 0

    cdef int refuse_batch(self, object error, Batch* batch) except -1:
        """Nobody knows which row it was: with a policy all rows of the batch are counted, or become dead letters."""
        cdef int32_t i
        for i in range(batch.n):
            self.on_error(error, f"the function of a batch of {batch.n} rows", row_new(self.input_shape, batch, i), None, 0,
                          i64(&batch.sys[SYS_TIME])[i])
        self.flush(batch)
        return 0

    def metrics(self):
        figures = UserCodeOperator.metrics(self)
        if self.mode == MODE_FILTER:
            figures["dropped"] = self.dropped
        return figures
