"""See changes_join.pxd."""
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport (
    KIND_NONE, SYS_ORDINAL, StringBuilder, batch_release, batch_share, column_share, column_take, is_valid, strings_append,
    strings_finish, strings_free, strings_init,
)
from streamdsl._native.operators.join cimport LEFT, PIECE_ROWS, RIGHT
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.table cimport says_removed
from streamdsl._native.state.write_stream cimport bytes_append, bytes_free, bytes_init


cdef class ChangesJoinOperator(JoinOperator):
    """Base. Both sides are changes of tables, and the last column of the output is the change."""

    def __init__(self, spec, KeyLookup lookup not None):
        cdef int side, i
        JoinOperator.__init__(self, spec, lookup)
        bytes_init(&self.bytes, 256)
        self.changes = <Change*>calloc(PIECE_ROWS, sizeof(Change))
        self.places = <int64_t*>calloc(2 * PIECE_ROWS, sizeof(int64_t))
        for side in range(2):
            self.removed[side] = spec.removed[side]
            self.keeps[side] = spec.how in (("left", "right")[side], "outer")
            self.others[side] = <bint*>calloc(self.sides[side].width + 1, sizeof(bint))
            if self.others[side] == NULL or self.changes == NULL or self.places == NULL:
                raise MemoryError("no memory left for a join")
            for i in spec.others[side]:
                self.others[side][i] = True

    def __dealloc__(self):
        free(self.changes)
        free(self.places)
        free(self.others[0])
        free(self.others[1])
        bytes_free(&self.bytes)

    cdef bint removes(self, int side, Batch* batch, int32_t row) noexcept nogil:
        """Whether the row takes the key's row away: it says so, or has nothing beside the key."""
        cdef int i, n = 0, said = says_removed(batch, self.removed[side], row)
        if said >= 0:
            return said
        for i in range(self.sides[side].width):
            if self.others[side][i]:
                n += 1
                if is_valid(&batch.columns[self.sides[side].columns[i]], row):
                    return False
        return n > 0

    cdef int note(self, Change change, const char* left, int64_t left_size, const char* right, int64_t right_size,
                  int64_t time) except -1 nogil:
        self.changes[self.n_pairs] = change
        self.places[2 * self.n_pairs] = self.keep(left, left_size)
        self.places[2 * self.n_pairs + 1] = self.keep(right, right_size)
        self.pairs[self.n_pairs].time = time
        self.pairs[self.n_pairs].row = self.cause_row
        self.pairs[self.n_pairs].sizes[LEFT] = <int32_t>left_size
        self.pairs[self.n_pairs].sizes[RIGHT] = <int32_t>right_size
        self.n_pairs += 1
        return self.send() if self.n_pairs == PIECE_ROWS else 0

    cdef int64_t keep(self, const char* data, int64_t size) except? -2 nogil:
        cdef int64_t place = self.bytes.used
        if data == NULL:
            return -1
        bytes_append(&self.bytes, data, size)
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
                if self.cause.sys[SYS_ORDINAL].kind != KIND_NONE:
                    column_take(&rows.sys[SYS_ORDINAL], &self.cause.sys[SYS_ORDINAL], self.rows, self.n_pairs)
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
