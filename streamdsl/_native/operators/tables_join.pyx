"""See tables_join.pxd.

Each change of either table is held against the row of the other one: the pair is there, or not, before and after it. A pair that is
no longer there is withdrawn with the values that it had.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from streamdsl._native.aggregates.cell cimport ByteReader, cell_assign, cell_free, cell_read, cell_write, damaged_state
from streamdsl._native.flow.batch cimport (
    KIND_STR, SYS_SLOT, SYS_TIME, Column, StringBuilder, batch_release, column_share, i64, is_valid, strings_append, strings_finish,
    strings_free, strings_init, batch_share,
)
from streamdsl._native.operators.join cimport LEFT, PIECE_ROWS, RIGHT
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.state.write_stream cimport bytes_append, bytes_free, bytes_init


cdef class TwoRowsField(RowField):
    def __init__(self, str name, str layout, Arena arena):
        RowField.__init__(self, name, layout, 2 * sizeof(Cell))
        self.arena = arena

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        cell_write(<Cell*>field, KIND_STR, out)
        return cell_write(<Cell*>field + 1, KIND_STR, out)

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        cdef ByteReader source
        source.at = data
        source.end = data + size
        cell_read(<Cell*>field, KIND_STR, &source, self.arena)
        cell_read(<Cell*>field + 1, KIND_STR, &source, self.arena)
        return damaged_state() if source.at != source.end else 0

    cdef int clear(self, char* field) except -1 nogil:
        cell_free(<Cell*>field, KIND_STR, self.arena)
        return cell_free(<Cell*>field + 1, KIND_STR, self.arena)

    cdef bint empty(self, char* field) noexcept nogil:
        return (<Cell*>field).tag == 0 and (<Cell*>field + 1).tag == 0


cdef class TablesJoinOperator(JoinOperator):
    """Both sides are changes of tables."""

    def __init__(self, spec, KeyLookup lookup not None):
        cdef int side, i
        JoinOperator.__init__(self, spec, lookup)
        bytes_init(&self.bytes, 256)
        self.changes = <Change*>calloc(PIECE_ROWS, sizeof(Change))
        self.places = <int64_t*>calloc(2 * PIECE_ROWS, sizeof(int64_t))
        for side in range(2):
            self.ops[side] = spec.ops[side]
            self.keeps[side] = spec.how in (("left", "right")[side], "outer")
            self.others[side] = <bint*>calloc(self.sides[side].width + 1, sizeof(bint))
            if self.others[side] == NULL or self.changes == NULL or self.places == NULL:
                raise MemoryError("no memory left for a join")
            for i in spec.others[side]:
                self.others[side][i] = True
        self.field = TwoRowsField(spec.name, f"1|tables|{spec.sides[0].layout}|{spec.sides[1].layout}", lookup.table.arena)

    def __dealloc__(self):
        free(self.changes)
        free(self.places)
        free(self.others[0])
        free(self.others[1])
        bytes_free(&self.bytes)

    def open(self, context):
        self.lookup.add_field(self.field)

    cdef int take(self, JoinPort port, Batch* batch) except -1 nogil:
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef int64_t time
        cdef int32_t row
        cdef int side = port.side
        cdef Cell* held
        cdef Cell cell
        cdef bint before, after
        for row in range(batch.n):
            time = i64(&batch.sys[SYS_TIME])[row]
            held = <Cell*>(self.lookup.table.row(slots[row]) + self.field.offset)
            before = self.there(held, held + 1)
            if self.withdraws(side, batch, row):
                if held[side].tag == 0:
                    continue
                cell = held[side]
                held[side].tag = 0
                after = self.there(held, held + 1)
                held[side] = cell
                if before and not after:
                    self.note(port, batch, WITHDRAW, held, held + 1, time)
                self.lookup.table.touch(slots[row])
                cell_free(held + side, KIND_STR, self.field.arena)
                if before and after:
                    self.note(port, batch, REPLACE, held, held + 1, time)
                continue
            self.serialise(side, batch, row)
            cell.tag = 1 + self.scratch.used
            cell.bits = <int64_t>self.scratch.data
            self.lookup.table.touch(slots[row])
            cell_assign(held + side, KIND_STR, &cell, self.field.arena)
            if self.there(held, held + 1):
                self.note(port, batch, REPLACE if before else ADD, held, held + 1, time)
        return self.send()

    cdef bint there(self, const Cell* left, const Cell* right) noexcept nogil:
        if left.tag != 0 and right.tag != 0:
            return True
        return (left.tag != 0 and self.keeps[LEFT]) or (right.tag != 0 and self.keeps[RIGHT])

    cdef bint withdraws(self, int side, Batch* batch, int32_t row) noexcept nogil:
        """Whether the row takes the key's row away: it says so, or has nothing beside the key."""
        cdef int i, n = 0
        cdef Column* column
        if self.ops[side] >= 0:
            column = &batch.columns[self.ops[side]]
            return (column.offsets[row + 1] - column.offsets[row] == 8
                    and memcmp(column.values + column.offsets[row], b"withdraw", 8) == 0)
        for i in range(self.sides[side].width):
            if self.others[side][i]:
                n += 1
                if is_valid(&batch.columns[self.sides[side].columns[i]], row):
                    return False
        return n > 0

    cdef int note(self, JoinPort port, Batch* batch, Change change, const Cell* left, const Cell* right, int64_t time) except -1 nogil:
        """One more change of the output. It keeps copies: the next change of the key frees the rows."""
        self.changes[self.n_pairs] = change
        self.places[2 * self.n_pairs] = self.keep(left)
        self.places[2 * self.n_pairs + 1] = self.keep(right)
        self.pairs[self.n_pairs].time = time
        self.pairs[self.n_pairs].row = -1
        self.pairs[self.n_pairs].sizes[LEFT] = <int32_t>(left.tag - 1)
        self.pairs[self.n_pairs].sizes[RIGHT] = <int32_t>(right.tag - 1)
        self.n_pairs += 1
        return self.send() if self.n_pairs == PIECE_ROWS else 0

    cdef int64_t keep(self, const Cell* cell) except? -2 nogil:
        cdef int64_t place = self.bytes.used
        if cell.tag == 0:
            return -1
        bytes_append(&self.bytes, <const char*>cell.bits, cell.tag - 1)
        return place

    cdef int send(self) except -1 nogil:
        cdef int i, side
        cdef int64_t place
        cdef StringBuilder words
        cdef Batch* rows
        cdef Batch* out = NULL
        if self.n_pairs == 0:
            return 0
        for i in range(self.n_pairs):
            for side in range(2):
                place = self.places[2 * i + side]
                self.pairs[i].kept[side] = NULL if place < 0 else self.bytes.data + place
        self.emitted += self.n_pairs
        strings_init(&words, self.n_pairs, 8 * self.n_pairs)
        try:
            for i in range(self.n_pairs):
                if self.changes[i] == ADD:
                    strings_append(&words, b"add", 3)
                elif self.changes[i] == REPLACE:
                    strings_append(&words, b"replace", 7)
                else:
                    strings_append(&words, b"withdraw", 8)
            rows = self.build(LEFT, NULL)
            try:
                out = batch_share(rows, self.width + 1)
                for i in range(self.width):
                    column_share(&out.columns[i], &rows.columns[i])
                strings_finish(&words, &out.columns[self.width])
            finally:
                batch_release(rows)
        finally:
            strings_free(&words)
            self.n_pairs = 0
            self.bytes.used = 0
        return self.emit(out)
