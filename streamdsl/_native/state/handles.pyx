"""See handles.pxd. Values live in memory as Python objects; they are encoded when a checkpoint wants the row.

A value with a time to live is gone from its deadline on, exactly, by the time of the record that asks. It is removed
from memory only when the watermark has passed the deadline by `slack` as well, and then every reader finds it gone:
so what a late record sees does not depend on when the removal came by.
"""
cimport cython
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport INT64_MAX, INT64_MIN, uint8_t
from libc.string cimport memcpy

from streamdsl._native.includes.clock cimport wall_ms
from streamdsl._native.serdes.codec cimport (
    CODEC_VERSION, codec_free, codec_init, decode_buffer, encode, encode_into, put_dict_head, put_raw,
)
from streamdsl._native.state.value_types cimport (
    SCALAR_FLOAT, SCALAR_INT, SCALAR_STR, value_type,
)
from streamdsl._native.state.write_stream cimport bytes_append

import datetime
import re

from streamdsl.errors import StateError

cdef enum:
    LEAST_SLACK = 3600000    # an hour: records later than that are rare

KINDS = ("value", "list", "map")
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
PART = re.compile(r"\s*(\d+)\s*(ms|s|m|h|d|w)", re.ASCII)


cdef int64_t duration_ms(object value) except? -1:
    """Milliseconds of "10m", a timedelta or an int (what `windows.parse_duration` takes, for the data plane)."""
    cdef int64_t total = 0
    if isinstance(value, datetime.timedelta):
        value = value // datetime.timedelta(milliseconds=1)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= 2**62:
            raise ValueError(f"the duration {value} is out of range")
        return value
    if isinstance(value, str) and value:
        at = 0
        text = value.strip().lower()
        while at < len(text):
            match = PART.match(text, at)
            if match is None:
                break
            total += int(match.group(1)) * UNITS[match.group(2)]
            at = match.end()
        if at == len(text) and at > 0:
            return total
    raise ValueError(f"{value!r} is not a duration; write \"100ms\", \"60s\", \"5m\", \"1h\", \"2d\", a timedelta, or an int of milliseconds")


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
        codec_init(&self.buffer, 256)

    def __dealloc__(self):
        cdef int64_t slot
        if self.table is not None and self.table.fields is not None:
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
            entries.values = {spec.key_type.typed(key): spec.type.typed(item) for key, item in checked(plain, dict).items()}
            entries.deadlines = {spec.key_type.typed(key): time_kept(item) for key, item in checked(deadline, dict).items()}
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
        self.watermark = INT64_MIN

    cdef void unbind(self) noexcept:
        self.slot = -1
        self.cells = NULL

    cdef int touch(self) except -1:
        self.table.touch(self.slot)
        self.touched = True
        return 0

    cdef int64_t time_of(self, StateSpec spec) noexcept:
        if spec.wall_clock:
            return wall_ms() if self.clock is None else self.clock.now_ms()
        return self.now

    cdef bint gone(self, StateSpec spec, int64_t deadline) noexcept:
        return deadline != INT64_MAX and (self.time_of(spec) >= deadline or self.removable(spec, deadline))

    cdef bint removable(self, StateSpec spec, int64_t deadline) noexcept:
        if deadline == INT64_MAX:
            return False
        if spec.wall_clock:
            return self.time_of(spec) >= deadline
        return self.watermark > INT64_MIN + spec.slack and self.watermark - spec.slack >= deadline

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
        cdef bint found
        cdef StateSpec spec
        if not self.field.any_ttl:
            return 0
        while n > 0:
            slot = self.table.first_slot(slot)
            if slot < 0:
                self.sweep_at = 0
                return 0
            cells = <Cell*>(self.table.row(slot) + self.field.offset)
            for i in range(self.field.n_cells):
                spec = <StateSpec>self.field.inline_specs[i]
                if cells[i].value != NULL and self.sweep_cell(spec, &cells[i], False):
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


cdef class Handle:
    """A state of the key at hand."""

    cdef Cell* cell(self, bint write) except? NULL:
        cdef Scope scope = self.scope
        cdef LateCell late
        if scope.cells == NULL:
            raise StateError(
                f"the state {self.spec.name!r} was used where there is no key",
                remedy="Use it in process, on_timer or process_window; in process_batch use get_many and set_many.",
            )
        if write and not scope.touched:
            scope.touch()
        if self.spec.index >= 0:
            return <Cell*>scope.cells + self.spec.index
        late = scope.field.late_cell(scope.cells, self.spec, write)
        return NULL if late is None else &late.cell

    @property
    def name(self):
        return self.spec.name

    def __repr__(self):
        return f"<state {self.spec.name!r}: {self.spec.text}>"


cdef int type_error(StateSpec spec, object error) except -1:
    raise TypeError(f"state {spec.name!r}: {error}") from None


cdef inline object kept(StateSpec spec, ValueType type, object value):
    # The usual case first: a scalar of exactly the declared type.
    if type.scalar == SCALAR_FLOAT and value.__class__ is float:
        return value
    try:
        return type.check(value)
    except TypeError as error:
        type_error(spec, error)


cdef int64_t ttl_given(object ttl) except? -1:
    if ttl is UNSET:
        return DEFAULT_TTL
    return NO_TTL if ttl is None else duration_ms(ttl)


class _Unset:
    def __repr__(self):
        return "<as declared>"


cdef object UNSET = _Unset()


@cython.final
cdef class ValueState(Handle):
    """One value for each key."""

    cdef object read(self, object default):
        cdef Cell* cell = self.cell(False)
        if cell == NULL or cell.value == NULL:
            return default
        if cell.deadline != INT64_MAX and self.scope.gone(self.spec, cell.deadline):
            return default
        value = <object>cell.value
        return value if self.spec.type.immutable else self.spec.type.copy(value)

    cdef int store(self, object value, int64_t ttl) except -1:
        cdef Cell* cell
        value = kept(self.spec, self.spec.type, value)
        cell = self.cell(True)
        cell_put(cell, value, self.scope.deadline(self.spec, ttl))
        return 0

    def get(self, default=None):
        """Return the value of the key, or `default`. What is returned may be changed without effect on the state."""
        return self.read(default)

    @property
    def value(self):
        """The value of the key, or None."""
        return self.read(None)

    def set(self, value, *, ttl=UNSET):
        """Keep a value. `ttl`: another time to live than the declared one; None makes it permanent."""
        self.store(value, DEFAULT_TTL if ttl is UNSET else ttl_given(ttl))

    def clear(self):
        """Forget the value."""
        cdef Cell* cell = self.cell(False)
        if cell != NULL and cell.value != NULL:
            cell_clear(self.cell(True))

    def get_many(self, keys, default=None):
        """Return the values of keys of the batch (see `ctx.keys`), in their order."""
        cdef list found = []
        for key in keys:
            bind_key(self, key)
            found.append(self.read(default))
        self.scope.unbind()
        return found

    def set_many(self, keys, values):
        """Keep a value for each of the keys of the batch; of a key that stands there twice the last value stays."""
        if len(keys) != len(values):
            raise ValueError(f"state {self.spec.name!r}: {len(keys)} keys, but {len(values)} values")
        for key, value in zip(keys, values):
            bind_key(self, key)
            self.store(value, DEFAULT_TTL)
        self.scope.unbind()


cdef int bind_key(Handle handle, object key) except -1:
    cdef Scope scope = handle.scope
    if scope.keys is None:
        raise StateError(f"get_many and set_many of the state {handle.spec.name!r} work in process_batch only")
    place = scope.keys.get(key)
    if place is None:
        scope.unbind()
        raise KeyError(f"the key {key!r} has no row in this batch")
    scope.bind(<int64_t>place[0], <int64_t>place[1])
    return 0


@cython.final
cdef class ListState(Handle):
    """A list for each key; with a time to live each element has its own."""

    cdef list alive(self):
        cdef Cell* cell = self.cell(False)
        cdef Elements elements
        cdef Py_ssize_t i
        if cell == NULL or cell.value == NULL:
            return []
        elements = <Elements>cell.value
        if elements.deadlines is None:
            return elements.values
        return [elements.values[i] for i in range(len(elements.values)) if not self.scope.gone(self.spec, elements.deadlines[i])]

    cdef list copied(self):
        if self.spec.type.immutable:
            return list(self.alive())
        return [self.spec.type.copy(value) for value in self.alive()]

    cdef int add(self, list values) except -1:
        cdef Cell* cell
        cdef Elements elements
        cdef int64_t deadline
        if not values:
            return 0
        cell = self.cell(True)
        if cell.value == NULL:
            elements = Elements.__new__(Elements)
            elements.values = []
            cell_put(cell, elements, INT64_MAX)
        elements = <Elements>cell.value
        deadline = self.scope.deadline(self.spec, DEFAULT_TTL)
        if deadline != INT64_MAX:
            if elements.deadlines is None:
                elements.deadlines = [INT64_MAX] * len(elements.values)
            elif elements.values and self.scope.removable(self.spec, elements.deadlines[0]):
                self.scope.sweep_cell(self.spec, cell, True)
                if cell.value == NULL:
                    return self.add(values)
        if elements.deadlines is not None:
            elements.deadlines.extend([deadline] * len(values))
        elements.values.extend(values)
        return 0

    def append(self, value):
        """Add a value at the end."""
        self.add([kept(self.spec, self.spec.type, value)])

    def extend(self, values):
        """Add several values at the end."""
        self.add([kept(self.spec, self.spec.type, value) for value in values])

    def get(self):
        """Return the values as a new list."""
        return self.copied()

    def set(self, values):
        """Replace the list."""
        cdef list new = [kept(self.spec, self.spec.type, value) for value in values]
        self.clear()
        self.add(new)

    def clear(self):
        """Forget all values."""
        cdef Cell* cell = self.cell(False)
        if cell != NULL and cell.value != NULL:
            cell_clear(self.cell(True))

    def __len__(self):
        return len(self.alive())

    def __iter__(self):
        return iter(self.copied())

    def __getitem__(self, index):
        return self.copied()[index]

    def __bool__(self):
        return len(self.alive()) > 0


@cython.final
cdef class MapState(Handle):
    """A dict for each key; with a time to live each entry has its own."""

    cdef Entries entries(self):
        cdef Cell* cell = self.cell(False)
        return None if cell == NULL or cell.value == NULL else <Entries>cell.value

    cdef bint alive(self, Entries entries, object key):
        if not entries.deadlines:
            return True
        deadline = entries.deadlines.get(key)
        return deadline is None or not self.scope.gone(self.spec, deadline)

    cdef list pairs(self):
        cdef Entries entries = self.entries()
        if entries is None:
            return []
        if self.spec.type.immutable:
            return [pair for pair in entries.values.items() if self.alive(entries, pair[0])]
        return [(key, self.spec.type.copy(value)) for key, value in entries.values.items() if self.alive(entries, key)]

    cdef object found(self, object key, object default):
        cdef Entries entries = self.entries()
        if entries is None or key not in entries.values or not self.alive(entries, key):
            return default
        return self.spec.type.copy(entries.values[key])

    cdef int store(self, object key, object value, int64_t ttl) except -1:
        cdef Cell* cell
        cdef Entries entries
        cdef int64_t deadline
        key = kept(self.spec, self.spec.key_type, key)
        value = kept(self.spec, self.spec.type, value)
        cell = self.cell(True)
        if cell.value == NULL:
            entries = Entries.__new__(Entries)
            entries.values = {}
            entries.deadlines = {}
            cell_put(cell, entries, INT64_MAX)
        entries = <Entries>cell.value
        if entries.deadlines and not self.alive(entries, key):
            entries.values.pop(key, None)    # an entry that was gone comes back as a new one, at the end
        deadline = self.scope.deadline(self.spec, ttl)
        entries.values[key] = value
        if deadline != INT64_MAX:
            entries.deadlines[key] = deadline
        elif entries.deadlines:
            entries.deadlines.pop(key, None)
        return 0

    def get(self, key, default=None):
        """Return the value of an entry, or `default`."""
        return self.found(key, default)

    def put(self, key, value, *, ttl=UNSET):
        """Keep an entry. `ttl`: another time to live than the declared one; None makes it permanent."""
        self.store(key, value, DEFAULT_TTL if ttl is UNSET else ttl_given(ttl))

    def remove(self, key):
        """Forget an entry; one that is not there is no error."""
        cdef Entries entries = self.entries()
        cdef Cell* cell
        if entries is not None and key in entries.values:
            cell = self.cell(True)
            entries.values.pop(key)
            entries.deadlines.pop(key, None)
            if not entries.values:
                cell_clear(cell)

    def clear(self):
        """Forget all entries."""
        cdef Cell* cell = self.cell(False)
        if cell != NULL and cell.value != NULL:
            cell_clear(self.cell(True))

    def items(self):
        """Return the entries as a list of (key, value), in the order in which they came."""
        return self.pairs()

    def keys(self):
        """Return the keys as a list."""
        return [key for key, _ in self.pairs()]

    def values(self):
        """Return the values as a list."""
        return [value for _, value in self.pairs()]

    def __contains__(self, key):
        cdef Entries entries = self.entries()
        return entries is not None and key in entries.values and self.alive(entries, key)

    def __len__(self):
        return len(self.pairs())

    def __bool__(self):
        return len(self.pairs()) > 0

    def __iter__(self):
        return iter(self.keys())

    def __getitem__(self, key):
        value = self.found(key, UNSET)
        if value is UNSET:
            raise KeyError(key)
        return value

    def __setitem__(self, key, value):
        self.store(key, value, DEFAULT_TTL)

    def __delitem__(self, key):
        if key not in self:
            raise KeyError(key)
        self.remove(key)


cdef class StateDeclarations:
    """`ctx.state`: declares states; asking again for a declared one gives the same handle."""

    def __cinit__(self):
        self.scope = Scope()
        self.handles = {}

    def value(self, str name, type, *, ttl=None, str clock="event"):
        """Declare one value for each key."""
        return self.declare(STATE_VALUE, name, None, type, ttl, clock)

    def list(self, str name, type, *, ttl=None, str clock="event"):
        """Declare a list for each key."""
        return self.declare(STATE_LIST, name, None, type, ttl, clock)

    def map(self, str name, key_type, value_type, *, ttl=None, str clock="event"):
        """Declare a dict for each key."""
        return self.declare(STATE_MAP, name, key_type, value_type, ttl, clock)

    cdef object declare(self, int kind, str name, object key_type, object type, object ttl, str clock):
        cdef StateSpec spec = StateSpec.__new__(StateSpec)
        cdef Handle handle
        if not name:
            raise ValueError("a state needs a name: it is its identity in a checkpoint")
        if clock not in ("event", "processing"):
            raise ValueError(f"state {name!r}: clock={clock!r} is unknown; use \"event\" or \"processing\"")
        try:
            spec.type = value_type(type)
            spec.key_type = None if key_type is None else value_type(key_type)
        except TypeError as error:
            raise TypeError(f"state {name!r}: {error}") from None
        if spec.key_type is not None and not spec.key_type.immutable:
            raise TypeError(f"state {name!r}: {spec.key_type.text} cannot be the key of a map")
        spec.name, spec.kind, spec.index = name, kind, -1
        inner = spec.type.text if spec.key_type is None else f"{spec.key_type.text}: {spec.type.text}"
        spec.text = f"{KINDS[kind]} {inner}"
        spec.ttl = NO_TTL if ttl is None else duration_ms(ttl)
        spec.wall_clock = clock == "processing"
        spec.slack = max(LEAST_SLACK, spec.ttl)
        # As `encode` of (name, (text, value, deadline)) would begin: 0x93 is a tuple of three.
        spec.head = encode(name)[1:] + b"\x93" + encode(spec.text)[1:]
        handle = self.handles.get(name)
        if handle is not None:
            if (handle.spec.text, handle.spec.ttl, handle.spec.wall_clock) != (spec.text, spec.ttl, spec.wall_clock):
                raise ValueError(f"the state {name!r} is declared twice: as {handle.spec.text} and as {spec.text}")
            return handle
        if kind == STATE_VALUE:
            handle = ValueState.__new__(ValueState)
        elif kind == STATE_LIST:
            handle = ListState.__new__(ListState)
        else:
            handle = MapState.__new__(MapState)
        handle.scope = self.scope
        handle.spec = spec
        self.handles[name] = handle
        if self.laid_out:
            self.scope.field.specs[name] = spec
            self.scope.field.any_ttl = self.scope.field.any_ttl or spec.ttl != NO_TTL
        return handle

    cdef StateField lay_out(self, str operator):
        cdef dict specs = {name: (<Handle>handle).spec for name, handle in self.handles.items()}
        self.scope.field = StateField(operator, specs)
        self.scope.field.any_ttl = any([(<StateSpec>spec).ttl != NO_TTL for spec in specs.values()])
        self.laid_out = True
        return self.scope.field
