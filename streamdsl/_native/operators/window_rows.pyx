"""See window_rows.pxd."""
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, realloc

from streamdsl._native.flow.batch cimport (
    KIND_I64, SYS_ORDINAL, SYS_SLOT, SYS_TIME, StringBuilder, batch_new, batch_release, column_alloc, column_take, i64,
    strings_append, strings_finish, strings_free, strings_init,
)
from streamdsl._native.state.key_hash cimport CACHE_LINE, prefetch
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.windows.contents cimport CHANGE_ADD, CHANGE_NONE, CHANGE_REPLACE
from streamdsl._native.windows.window_list cimport WINDOW_CHANGED, WINDOW_SHOWN, WINDOW_TOUCHED, contents_of


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for windows")


cdef class WindowRows(KeyedOperator):
    """Base of `WindowRecords`, which fills the fields."""

    def __dealloc__(self):
        free(self.shown)
        free(self.touched)

    cdef void fetch_key(self, int64_t slot) noexcept nogil:
        cdef char* row = <char*>self.lookup.table.header(slot)
        cdef int64_t at = 2 * CACHE_LINE
        prefetch(row)
        prefetch(row + self.field.offset + CACHE_LINE)
        while at < <int64_t>sizeof(RowHeader) + self.field.looked_at:
            prefetch(row + self.field.offset + at)
            at += CACHE_LINE

    cdef void fetch_windows(self, KeyWindows* windows) noexcept nogil:
        if windows.block != NULL:
            prefetch(self.field.at(windows, 0))
            prefetch(self.field.at(windows, windows.n - 1))
            prefetch(<char*>self.field.at(windows, windows.n - 1) + CACHE_LINE)

    cdef void fetch_latest(self, KeyWindows* windows) noexcept nogil:
        self.fetch_windows(windows)

    cdef int show_change(self, int64_t slot, WindowEntry* entry, int32_t row) except -1 nogil:
        cdef Change change = CHANGE_NONE
        if self.changes:
            change = CHANGE_REPLACE if entry.flags & WINDOW_SHOWN else CHANGE_ADD
        self.show(slot, entry, row, change)
        entry.flags = (entry.flags | WINDOW_SHOWN) & ~<int32_t>WINDOW_CHANGED
        return 0

    cdef int show(self, int64_t slot, WindowEntry* entry, int32_t row, Change change) except -1 nogil:
        cdef Shown* shown
        if self.n_shown >= self.most_shown:
            self.flush_shown()
        self.reserve_shown(self.n_shown + 1)
        shown = &self.shown[self.n_shown]
        shown.slot, shown.row, shown.change = slot, row, change
        shown.start, shown.last, shown.end = entry.start, entry.last, self.windower.end_of(entry.last)
        if self.windower.full > 0 and self.passed < INT64_MAX:
            shown.last = max(shown.last, self.passed + 1)        # it may have waited long: it is not late at the next stage
        self.contents.show(contents_of(entry), shown)
        self.n_shown += 1
        return 0

    cdef void put_shown(self, int64_t i, int64_t slot, const WindowEntry* entry) noexcept nogil:
        self.shown[i].slot, self.shown[i].row, self.shown[i].change = slot, -1, CHANGE_NONE
        self.shown[i].start, self.shown[i].last = entry.start, entry.last
        self.shown[i].end = self.windower.end_of(entry.last)

    cdef int reserve_shown(self, int64_t n) except -1 nogil:
        cdef Shown* more
        if n > self.shown_capacity:
            more = <Shown*>realloc(self.shown, 2 * n * sizeof(Shown))
            if more == NULL:
                no_memory()
            self.shown = more
            self.shown_capacity = 2 * n
        return 0

    cdef int touch_window(self, int64_t slot, WindowEntry* entry) except -1 nogil:
        cdef DueWindow* more
        if entry.flags & WINDOW_TOUCHED:
            return 0
        entry.flags |= WINDOW_TOUCHED
        if self.n_touched == self.touched_capacity:
            more = <DueWindow*>realloc(self.touched, (2 * self.n_touched + 64) * sizeof(DueWindow))
            if more == NULL:
                no_memory()
            self.touched = more
            self.touched_capacity = 2 * self.n_touched + 64
        self.touched[self.n_touched].slot, self.touched[self.n_touched].id = slot, entry.id
        self.n_touched += 1
        return 0

    cdef int show_batch(self, Batch* batch) except -1 nogil:
        """Show each window that the batch has changed, with all that is in it so far."""
        cdef int64_t i
        cdef WindowEntry* entry
        for i in range(self.n_touched):
            entry = self.field.find(self.windows_of(self.touched[i].slot), self.touched[i].id)
            if entry != NULL and entry.flags & WINDOW_TOUCHED:
                entry.flags &= ~<int32_t>WINDOW_TOUCHED
                self.show_change(self.touched[i].slot, entry, -1)
        self.n_touched = 0
        return 0

    cdef int flush_shown(self) except -1 nogil:
        self.send_shown()
        # A record that fails now can no longer take back what has left: it is shown last, and nothing of it is left to fail.
        self.shown_before = 0
        return self.contents.open(self.columns if self.batch != NULL else NULL, self.most_shown, self.arrived)

    cdef int send_shown(self) except -1 nogil:
        cdef Batch* out
        if self.n_shown == 0:
            return 0
        if self.contents.sends:
            self.n_shown = 0
            return self.contents.send(self.batch)
        out = self.shown_rows()
        self.n_shown = 0
        return self.emit(out)

    cdef Batch* shown_rows(self) except NULL nogil:
        cdef int32_t i, n = <int32_t>self.n_shown
        cdef int bounds = self.n_keys
        cdef bint done = False
        cdef Batch* out = batch_new(n, self.n_keys + 2 + self.n_results + self.changes)
        try:
            column_alloc(&out.sys[SYS_SLOT], KIND_I64, n, 0)
            column_alloc(&out.sys[SYS_TIME], KIND_I64, n, 0)
            column_alloc(&out.columns[bounds], KIND_I64, n, 0)
            column_alloc(&out.columns[bounds + 1], KIND_I64, n, 0)
            for i in range(n):
                i64(&out.sys[SYS_SLOT])[i] = self.shown[i].slot
                i64(&out.sys[SYS_TIME])[i] = self.shown[i].last
                i64(&out.columns[bounds])[i] = self.shown[i].start
                i64(&out.columns[bounds + 1])[i] = self.shown[i].end
            if self.batch != NULL:
                out.read_ns = self.batch.read_ns
                self.reserve(n)
                for i in range(n):
                    self.rows[i] = self.shown[i].row
                column_take(&out.sys[SYS_ORDINAL], &self.batch.sys[SYS_ORDINAL], self.rows, n)
            self.lookup.decoder.decode(self.lookup.table, i64(&out.sys[SYS_SLOT]), n, out.columns)
            self.contents.finish(out.columns + bounds + 2)
            if self.changes:
                self.fill_changes(out)
            done = True
        finally:
            if not done:
                batch_release(out)
        return out

    cdef int fill_changes(self, Batch* out) except -1 nogil:
        cdef StringBuilder words
        cdef int32_t i
        cdef bint done = False
        strings_init(&words, out.n, 8 * out.n)
        try:
            for i in range(out.n):
                if self.shown[i].change == CHANGE_ADD:
                    strings_append(&words, b"add", 3)
                elif self.shown[i].change == CHANGE_REPLACE:
                    strings_append(&words, b"replace", 7)
                else:
                    strings_append(&words, b"withdraw", 8)
            strings_finish(&words, &out.columns[out.width - 1])
            done = True
        finally:
            if not done:
                strings_free(&words)
        return 0
