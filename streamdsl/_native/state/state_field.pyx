"""See state_field.pxd. Values live in memory as Python objects; they are encoded when a checkpoint wants the row.

A value with a time to live is gone from its deadline on, exactly, by the time of the record that asks. It is removed
from memory only when the watermark has passed the deadline by `slack` as well, and then every reader finds it gone:
so what a late record sees does not depend on when the removal came by.
"""
cimport cython
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from streamdsl._native.includes.checked cimport FAULT
from streamdsl._native.serdes.codec cimport codec_free, codec_init, decode_buffer, encode_into, put_dict_head, put_raw
from streamdsl._native.state.value_types cimport one_each
from streamdsl._native.state.write_stream cimport bytes_append

from sys import getsizeof

from streamdsl.errors import StateError

KINDS = ("value", "list", "map")


cdef inline int64_t saturated(int64_t time, int64_t ttl) noexcept:
    # Never INT64_MAX, which means permanent.
    return time + ttl if time < INT64_MAX - 1 - ttl else INT64_MAX - 1


cdef void cell_put(Cell* cell, object value, int64_t deadline) noexcept:
    cdef PyObject* old = cell.value
    Py_INCREF(value)
    cell.value = <PyObject*>value
    cell.deadline = deadline
    Py_XDECREF(old)


cdef void cell_clear(Cell* cell) noexcept:
    cdef PyObject* old = cell.value
    cell.value = NULL
    cell.deadline = INT64_MAX
    Py_XDECREF(old)


cdef class LateCell:
    def __dealloc__(self):
        cell_clear(&self.cell)


# The table's rows refer to values that Python's collector cannot see: the table must outlive the field.
@cython.final
@cython.no_gc_clear
cdef class StateField(RowField):
    """The states of one Processor: rows are maps of name to (type, value, deadline)."""

    def __init__(self, str name, dict specs):
        self.specs = specs
        self.inline_specs = list(specs.values())
        self.n_cells = len(self.inline_specs)
        for i, spec in enumerate(self.inline_specs):
            (<StateSpec>spec).index = i
        RowField.__init__(self, name, "states/1", self.n_cells * sizeof(Cell) + sizeof(PyObject*))
        self.on_heap = True
        codec_init(&self.buffer, 256)

    def __dealloc__(self):
        cdef int64_t slot
        if self.table is not None:
            slot = self.table.first_slot(0)
            while slot >= 0:
                self.clear_row(self.table.row(slot) + self.offset)
                slot = self.table.first_slot(slot + 1)
        codec_free(&self.buffer)

    cdef int write(self, char* field, ByteWriter* out) except -1 nogil:
        with gil:
            self.write_row(field, out)
        return 0

    cdef int read(self, char* field, const char* data, int64_t size) except -1 nogil:
        with gil:
            self.read_row(field, data, size)
        return 0

    cdef int clear(self, char* field) except -1 nogil:
        with gil:
            self.clear_row(field)
        return 0

    cdef bint empty(self, char* field) noexcept nogil:
        cdef Cell* cells = <Cell*>field
        cdef int i
        for i in range(self.n_cells):
            if cells[i].value != NULL:
                return False
        return (<PyObject**>(cells + self.n_cells))[0] == NULL

    cdef int64_t heap_bytes(self, char* field):
        cdef Cell* cells = <Cell*>field
        cdef PyObject* rest = (<PyObject**>(cells + self.n_cells))[0]
        cdef int64_t size = 0
        cdef int i
        for i in range(self.n_cells):
            if cells[i].value != NULL:
                size += heap_size(<object>cells[i].value)
        return size if rest == NULL else size + heap_size(<object>rest)

    cdef int write_row(self, char* field, ByteWriter* out) except -1:
        cdef Cell* cells = <Cell*>field
        cdef PyObject* rest = (<PyObject**>(cells + self.n_cells))[0]
        cdef int i, present = 0
        cdef LateCell late
        for i in range(self.n_cells):
            present += cells[i].value != NULL
        if rest != NULL:
            for item in (<dict>rest).values():
                present += not (isinstance(item, LateCell) and (<LateCell>item).cell.value == NULL)
        if present == 0:
            return 0
        self.buffer.used = 0
        put_dict_head(&self.buffer, present)
        for i in range(self.n_cells):
            if cells[i].value != NULL:
                self.write_cell(<StateSpec>self.inline_specs[i], &cells[i])
        if rest != NULL:
            for name, item in (<dict>rest).items():
                if isinstance(item, LateCell):
                    late = item
                    if late.cell.value != NULL:
                        self.write_cell(<StateSpec>self.specs[name], &late.cell)
                else:
                    encode_into(&self.buffer, name, 0)
                    encode_into(&self.buffer, item, 0)
        return bytes_append(out, self.buffer.data, self.buffer.used)

    cdef int write_cell(self, StateSpec spec, Cell* cell) except -1:
        cdef Elements elements
        cdef Entries entries
        cdef object value = <object>cell.value
        put_raw(&self.buffer, spec.head)
        if spec.kind == STATE_VALUE:
            encode_into(&self.buffer, value if spec.type.scalar else spec.type.plain(value), 2)
            return encode_into(&self.buffer, None if cell.deadline == INT64_MAX else cell.deadline, 2)
        if spec.kind == STATE_LIST:
            elements = value
            encode_into(&self.buffer, [spec.type.plain(item) for item in elements.values], 2)
            return encode_into(&self.buffer, elements.deadlines, 2)
        entries = value
        plain = {spec.key_type.plain(key): spec.type.plain(item) for key, item in entries.values.items()}
        encode_into(&self.buffer, plain, 2)
        deadlines = {spec.key_type.plain(key): deadline for key, deadline in entries.deadlines.items()}
        return encode_into(&self.buffer, deadlines, 2)

    cdef int read_row(self, char* field, const char* data, int64_t size) except -1:
        cdef Cell* cells = <Cell*>field
        cdef PyObject** rest = <PyObject**>(cells + self.n_cells)
        cdef StateSpec spec
        self.clear_row(field)        # a later entry of the same key replaces what was read before
        if size == 0:
            return 0
        kept = decode_buffer(data, size)
        if type(kept) is not dict:
            raise StateError(f"the state of {self.name} is damaged: it is no map", remedy="Restore another checkpoint.")
        for name, item in kept.items():
            if type(item) is not tuple or len(item) != 3 or type(name) is not str:
                raise StateError(f"the state {name!r} of {self.name} is damaged", remedy="Restore another checkpoint.")
            spec = self.specs.get(name)
            if spec is not None and spec.index >= 0:
                self.read_cell(spec, &cells[spec.index], item)
                continue
            if rest[0] == NULL:
                others = {}
                Py_INCREF(others)
                rest[0] = <PyObject*>others
            (<dict>rest[0])[name] = item
        return 0

    cdef int read_cell(self, StateSpec spec, Cell* cell, tuple kept) except -1:
        cdef Elements elements
        cdef Entries entries
        text, plain, deadline = kept
        try:
            if type(text) is not str or text.split(" ", 1)[0] != KINDS[spec.kind]:
                raise TypeError(f"it is declared as {spec.text}")
            if spec.kind == STATE_VALUE:
                cell_put(cell, spec.type.typed(plain), INT64_MAX if deadline is None else time_kept(deadline))
                return 0
            if spec.kind == STATE_LIST:
                elements = Elements.__new__(Elements)
                elements.values = [spec.type.typed(item) for item in checked(plain, list)]
                elements.deadlines = None if deadline is None else [time_kept(item) for item in checked(deadline, list)]
                if deadline is not None and len(elements.deadlines) != len(elements.values):
                    raise TypeError("it has another number of deadlines than of elements")
                cell_put(cell, elements, INT64_MAX)
                return 0
            entries = Entries.__new__(Entries)
            entries.values = one_each({
                spec.key_type.key(spec.key_type.typed(key)): spec.type.typed(item) for key, item in checked(plain, dict).items()}, plain)
            entries.deadlines = {
                spec.key_type.key(spec.key_type.typed(key)): time_kept(item) for key, item in checked(deadline, dict).items()}
            if not entries.deadlines.keys() <= entries.values.keys():
                raise TypeError("it has deadlines of entries that do not exist")
            cell_put(cell, entries, INT64_MAX)
        except TypeError as error:
            raise StateError(
                f"the state {spec.name!r} of {self.name} was kept as {text!r} and is now {spec.text!r}: {error}",
                remedy="Declare it with its old type, or give the new state another name.",
            ) from error
        return 0

    cdef int clear_row(self, char* field) except -1:
        cdef Cell* cells = <Cell*>field
        cdef PyObject** rest = <PyObject**>(cells + self.n_cells)
        cdef PyObject* others = rest[0]
        cdef int i
        for i in range(self.n_cells):
            cell_clear(&cells[i])
        rest[0] = NULL
        Py_XDECREF(others)
        return 0

    cdef int init(self, char* field) except -1 nogil:
        cdef int i
        for i in range(self.n_cells):
            (<Cell*>field)[i].deadline = INT64_MAX
        return 0

    cdef LateCell late_cell(self, char* field, StateSpec spec, bint create):
        cdef PyObject** rest = <PyObject**>(<Cell*>field + self.n_cells)
        cdef LateCell late
        item = None
        if rest[0] != NULL:
            item = (<dict>rest[0]).get(spec.name)
        if isinstance(item, LateCell):
            return item
        if item is None and not create:
            return None
        late = LateCell.__new__(LateCell)
        late.cell.deadline = INT64_MAX
        if item is not None:
            self.read_cell(spec, &late.cell, item)
        if rest[0] == NULL:
            others = {}
            Py_INCREF(others)
            rest[0] = <PyObject*>others
        (<dict>rest[0])[spec.name] = late
        return late

    def states_at(self, int64_t slot):
        """Return {name: value} of the states of a row, expired ones included: for tests and inspection."""
        cdef char* field = self.table.row(slot) + self.offset
        cdef Cell* cells = <Cell*>field
        cdef LateCell late
        found = {}
        for i in range(self.n_cells):
            if cells[i].value != NULL:
                found[(<StateSpec>self.inline_specs[i]).name] = inspected(<object>cells[i].value)
        for name, spec in self.specs.items():
            if (<StateSpec>spec).index < 0:
                late = self.late_cell(field, spec, False)
                if late is not None and late.cell.value != NULL:
                    found[name] = inspected(<object>late.cell.value)
        return found


cdef int64_t heap_size(object value):
    """Bytes of a value, about: containers are measured by what they hold."""
    cdef int64_t size = getsizeof(value)
    if isinstance(value, Elements):
        return size + heap_size((<Elements>value).values) + heap_size((<Elements>value).deadlines)
    if isinstance(value, Entries):
        return size + heap_size((<Entries>value).values) + heap_size((<Entries>value).deadlines)
    if isinstance(value, dict):
        for key, item in value.items():
            size += heap_size(key) + heap_size(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            size += heap_size(item)
    return size


cdef object inspected(object value):
    if isinstance(value, Elements):
        return list((<Elements>value).values)
    if isinstance(value, Entries):
        return dict((<Entries>value).values)
    return value


cdef object checked(object value, type kind):
    if type(value) is not kind:
        raise TypeError(f"it is a {type(value).__name__} where a {kind.__name__} was expected")
    return value


cdef object time_kept(object value):
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise TypeError("a deadline is no time")
    return value


@cython.final
cdef class Scope:
    def __cinit__(self):
        self.slot = -1
        self.watermark = self.reached = self.settled = self.removing = INT64_MIN

    cdef void unbind(self) noexcept:
        self.slot = -1
        self.cells = NULL
        self.watermark = self.reached
        self.removing = self.settled

    cdef int touch(self) except -1:
        self.table.touch(self.slot)
        self.touched = True
        return 0

    cdef int64_t time_of(self, StateSpec spec) noexcept:
        return self.wall if spec.wall_clock else self.now

    cdef bint gone(self, StateSpec spec, int64_t deadline) noexcept:
        return deadline != INT64_MAX and (self.time_of(spec) >= deadline or self.removable(spec, deadline))

    cdef bint removable(self, StateSpec spec, int64_t deadline) noexcept:
        if deadline == INT64_MAX:
            return False
        if spec.wall_clock:
            return self.time_of(spec) >= deadline
        return self.removing > INT64_MIN + spec.slack and self.removing - spec.slack >= deadline

    cdef int64_t deadline(self, StateSpec spec, int64_t ttl) noexcept:
        if ttl == DEFAULT_TTL:
            ttl = spec.ttl
        if ttl == NO_TTL:
            return INT64_MAX
        self.field.any_ttl = True
        return saturated(self.time_of(spec), ttl)

    cdef int sweep(self, int64_t n) except -1:
        """Remove what has expired for everybody from the next n rows."""
        cdef int64_t slot = self.sweep_at
        cdef Cell* cells
        cdef int i
        cdef StateSpec spec
        if not self.field.any_ttl:
            return 0
        if self.table.cold > 0 or self.table.any_cold:
            self.table.warm_up_next()          # they are looked at in their turn; what is left of them leaves again
        while n > 0:
            slot = self.table.first_slot(slot)
            if slot < 0:
                self.sweep_at = 0
                return 0
            cells = <Cell*>(self.table.row(slot) + self.field.offset)
            for i in range(self.field.n_cells):
                spec = <StateSpec>self.field.inline_specs[i]
                if cells[i].value != NULL and self.sweep_cell(spec, &cells[i], False):
                    FAULT("FP40")
                    self.table.touch(slot)
                    self.sweep_cell(spec, &cells[i], True)
            slot += 1
            n -= 1
        self.sweep_at = slot
        return 0

    cdef bint sweep_cell(self, StateSpec spec, Cell* cell, bint remove):
        """Whether there is something to remove; `remove` does it, looking at the live value again."""
        cdef Elements elements
        cdef Entries entries
        cdef Py_ssize_t i
        if spec.kind == STATE_VALUE:
            if not self.removable(spec, cell.deadline):
                return False
            if remove:
                cell_clear(cell)
            return True
        if spec.kind == STATE_LIST:
            elements = <Elements>cell.value
            if elements.deadlines is None:
                return False
            kept = [i for i in range(len(elements.deadlines)) if not self.removable(spec, elements.deadlines[i])]
            if len(kept) == len(elements.values):
                return False
            if remove:
                elements.values = [elements.values[i] for i in kept]
                elements.deadlines = [elements.deadlines[i] for i in kept]
                if not kept:
                    cell_clear(cell)
            return True
        entries = <Entries>cell.value
        dead = [key for key, deadline in entries.deadlines.items() if self.removable(spec, deadline)]
        if remove:
            for key in dead:
                del entries.values[key]
                del entries.deadlines[key]
            if not entries.values:
                cell_clear(cell)
        return len(dead) > 0
