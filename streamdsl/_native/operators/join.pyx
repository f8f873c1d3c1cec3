"""See join.pxd.

Both sides are brought together by the hash of their keys and looked up in one table: a row of the table is a key, and holds what
waits of either side. Each side has a port, so a task reads them as it reads any inputs.
"""
from libc.stdint cimport INT32_MAX, INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.aggregates.cell cimport cell_decimal, kind_number
from streamdsl._native.aggregates.packed_row cimport packed_free, packed_init, packed_view, packed_write
from streamdsl._native.flow.batch cimport (
    KIND_BOOL, KIND_DEC, KIND_I64, KIND_NONE, KIND_STR, SYS_ORDINAL, SYS_TIME, Column, batch_new, batch_release, column_alloc,
    column_alloc_valid, column_take, i64,
)
from streamdsl._native.includes.decimal cimport dec_store
from streamdsl._native.operators.refusals cimport warn_late
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.write_stream cimport bytes_free, bytes_init

from types import SimpleNamespace

from streamdsl.errors import StateError

cdef enum:
    AHEAD = 8                # pairs whose kept rows are fetched before they are read


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for a join")


cdef int too_long(str name) except -1 nogil:
    with gil:
        raise StateError(f"{name}: the texts of {PIECE_ROWS} rows of its output are longer than 2 GiB",
                         remedy="select the columns that are needed before the join")


cdef class JoinPort(Operator):
    def __init__(self, JoinOperator join not None, int side, bint unkeyed, spec):
        self.join = join
        self.side = side
        self.unkeyed = unkeyed
        self.spec = spec
        self.name = join.name

    cdef int process(self, Batch* batch) except -1 nogil:
        return self.join.take_unkeyed(self, batch) if self.unkeyed else self.join.take(self, batch)

    cdef int end_batch(self) except -1 nogil:
        return self.join.end_batch()

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        return self.join.on_watermark(watermark)

    cdef int on_idle(self, bint idle) except -1 nogil:
        return self.join.on_idle(idle)


cdef class JoinOperator(Operator):
    """`spec` is a `PhysicalJoin`, `lookup` the first of its sides' lookups."""

    def __init__(self, spec, KeyLookup lookup not None):
        cdef int i, side
        self.spec = spec
        self.name = spec.name
        self.lookup = lookup
        self.watermark = self.passed = INT64_MIN
        bytes_init(&self.scratch, 256)
        self.width = len(spec.columns)
        for side in range(2):
            self.sides[side].width = len(spec.sides[side].columns)
            self.sides[side].columns = <int*>calloc(self.sides[side].width + 1, sizeof(int))
            self.sides[side].kinds = <int*>calloc(self.sides[side].width + 1, sizeof(int))
            self.sides[side].cells = <Cell*>calloc(self.sides[side].width * PIECE_ROWS + 1, sizeof(Cell))
            if self.sides[side].columns == NULL or self.sides[side].kinds == NULL or self.sides[side].cells == NULL:
                no_memory()
            for i in range(self.sides[side].width):
                self.sides[side].columns[i] = spec.sides[side].columns[i]
                self.sides[side].kinds[i] = kind_number(spec.sides[side].kinds[i])
            packed_init(&self.sides[side].format, self.sides[side].kinds, self.sides[side].width)
        self.left = <int*>calloc(self.width + 1, sizeof(int))
        self.right = <int*>calloc(self.width + 1, sizeof(int))
        self.kinds = <int*>calloc(self.width + 1, sizeof(int))
        self.pairs = <Pair*>calloc(PIECE_ROWS, sizeof(Pair))
        self.rows = <int32_t*>calloc(PIECE_ROWS, sizeof(int32_t))
        if self.left == NULL or self.right == NULL or self.kinds == NULL or self.pairs == NULL or self.rows == NULL:
            no_memory()
        for i in range(self.width):
            self.left[i], self.right[i] = spec.columns[i]
            self.kinds[i] = self.sides[LEFT].kinds[self.left[i]] if self.left[i] >= 0 else self.sides[RIGHT].kinds[self.right[i]]

    def __dealloc__(self):
        cdef int side
        for side in range(2):
            free(self.sides[side].columns)
            free(self.sides[side].kinds)
            free(self.sides[side].cells)
            packed_free(&self.sides[side].format)
        free(self.left)
        free(self.right)
        free(self.kinds)
        free(self.pairs)
        free(self.rows)
        bytes_free(&self.scratch)

    def port(self, int number):
        side, unkeyed = self.spec.ports[number]
        spec = SimpleNamespace(name=self.name, input_schema=self.spec.sides[side].schema)
        return JoinPort(self, side, unkeyed, spec)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        return 0

    cdef int take_unkeyed(self, JoinPort port, Batch* batch) except -1 nogil:
        """Rows with a null key match nothing: they leave at once."""
        cdef int32_t row
        for row in range(batch.n):
            self.add_pair(port.side, batch, row, NULL, 0, i64(&batch.sys[SYS_TIME])[row])
        return self.flush_pairs(port.side, batch)

    cdef int note_late(self, JoinPort port, Batch* batch, int32_t row, int64_t watermark) except -1 nogil:
        if self.late == 0:
            with gil:
                warn_late(port.spec, batch, row, watermark)
        self.late += 1
        return 0

    cdef int serialise(self, int side, Batch* batch, int32_t row) except -1 nogil:
        self.scratch.used = 0
        return packed_write(&self.sides[side].format, batch.columns, self.sides[side].columns, row, &self.scratch)

    # Output ------------------------------------------------------------------------------------------------------

    cdef int add_pair(self, int side, Batch* batch, int32_t row, const char* data, int32_t size, int64_t time) except -1 nogil:
        cdef Pair* pair = &self.pairs[self.n_pairs]
        pair.row = row
        pair.kept[side] = NULL
        pair.kept[1 - side] = <char*>data
        pair.sizes[1 - side] = size
        pair.time = time
        self.n_pairs += 1
        return self.flush_pairs(side, batch) if self.n_pairs == PIECE_ROWS else 0

    cdef int add_kept(self, const char* left, int32_t left_size, const char* right, int32_t right_size, int64_t time) except -1 nogil:
        cdef Pair* pair = &self.pairs[self.n_pairs]
        pair.kept[LEFT] = <char*>left
        pair.sizes[LEFT] = left_size
        pair.kept[RIGHT] = <char*>right
        pair.sizes[RIGHT] = right_size
        pair.time = time
        self.n_pairs += 1
        return self.flush_pairs(LEFT, NULL) if self.n_pairs == PIECE_ROWS else 0

    cdef int flush_pairs(self, int side, Batch* batch) except -1 nogil:
        cdef Batch* out
        if self.n_pairs == 0:
            return 0
        self.emitted += self.n_pairs
        out = self.build(side, batch)
        self.n_pairs = 0
        return self.emit(out)

    cdef Batch* build(self, int side, Batch* batch) except NULL nogil:
        cdef int i
        cdef int* own = self.left if side == LEFT else self.right
        cdef bint done = False
        cdef Batch* out = batch_new(self.n_pairs, self.width)
        try:
            column_alloc(&out.sys[SYS_TIME], KIND_I64, self.n_pairs, 0)
            for i in range(self.n_pairs):
                i64(&out.sys[SYS_TIME])[i] = self.pairs[i].time
                self.rows[i] = self.pairs[i].row
            if batch == NULL:
                self.parse(LEFT)
                self.parse(RIGHT)
            else:
                self.parse(1 - side)
                out.read_ns = batch.read_ns
                if batch.sys[SYS_ORDINAL].kind != KIND_NONE:
                    column_take(&out.sys[SYS_ORDINAL], &batch.sys[SYS_ORDINAL], self.rows, self.n_pairs)
            for i in range(self.width):
                if batch != NULL and own[i] >= 0:
                    column_take(&out.columns[i], &batch.columns[self.sides[side].columns[own[i]]], self.rows, self.n_pairs)
                else:
                    self.fill(out, i, self.left[i], self.right[i])
            done = True
        finally:
            if not done:
                self.n_pairs = 0
                batch_release(out)
        return out

    cdef int parse(self, int side) except -1 nogil:
        """Read the kept rows of one side of the pairs back."""
        cdef int i
        cdef JoinSide* one = &self.sides[side]
        cdef Cell* cells = one.cells
        for i in range(self.n_pairs):
            if i + AHEAD < self.n_pairs:
                prefetch(self.pairs[i + AHEAD].kept[side])
            if self.pairs[i].kept[side] == NULL:
                memset(cells, 0, one.width * sizeof(Cell))
            else:
                packed_view(&one.format, self.pairs[i].kept[side], self.pairs[i].sizes[side], cells)
            cells += one.width
        return 0

    cdef int fill(self, Batch* out, int column, int left, int right) except -1 nogil:
        """An output column of what the kept rows have: the left one, if there is one, or the right one."""
        cdef int i
        cdef int64_t n_bytes = 0
        cdef Column* target = &out.columns[column]
        cdef const Cell* cell
        if self.kinds[column] == KIND_STR:
            for i in range(self.n_pairs):
                n_bytes += max(self.cell_of(i, left, right).tag - 1, 0)
            if n_bytes > INT32_MAX:
                too_long(self.name)
            column_alloc(target, KIND_STR, self.n_pairs, n_bytes)
            target.offsets[0] = 0
        else:
            column_alloc(target, self.kinds[column], self.n_pairs, 0)
        for i in range(self.n_pairs):
            cell = self.cell_of(i, left, right)
            if cell.tag == 0:
                if target.valid == NULL:
                    column_alloc_valid(target, self.n_pairs)
                target.valid[i] = 0
            if target.kind == KIND_STR:
                target.offsets[i + 1] = target.offsets[i]
                if cell.tag > 1:
                    memcpy(target.values + target.offsets[i], <const char*>cell.bits, cell.tag - 1)
                    target.offsets[i + 1] += <int32_t>(cell.tag - 1)
            elif target.kind == KIND_BOOL:
                target.values[i] = <char>cell.bits
            elif target.kind == KIND_DEC:
                dec_store(target.values + 16 * i, cell_decimal(cell))
            elif target.kind != KIND_NONE:
                i64(target)[i] = cell.bits
        return 0

    cdef inline const Cell* cell_of(self, int pair, int left, int right) noexcept nogil:
        if left >= 0 and (right < 0 or self.pairs[pair].kept[LEFT] != NULL):
            return &self.sides[LEFT].cells[pair * self.sides[LEFT].width + left]
        return &self.sides[RIGHT].cells[pair * self.sides[RIGHT].width + right]

    # Time --------------------------------------------------------------------------------------------------------

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        if watermark <= self.watermark:          # both ports tell of it
            return 0
        self.watermark = watermark
        return self.pass_on()

    cdef int64_t passing(self) noexcept nogil:
        return self.watermark

    cdef int pass_on(self) except -1 nogil:
        cdef int64_t passing = INT64_MAX if self.watermark == INT64_MAX else self.passing()
        if passing > self.passed:
            self.passed = passing
            return self.next.on_watermark(passing)
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        if idle == self.idle:
            return 0
        self.idle = idle
        return self.next.on_idle(idle)

    def metrics(self):
        return {"late": self.late, "emitted": self.emitted}
