"""What user code holds of its states: handles bound to the key at hand, and `ctx.state`, which declares them."""
cimport cython
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport INT64_MAX, int64_t

from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.serdes.codec cimport encode
from streamdsl._native.state.state_field cimport (
    DEFAULT_TTL, NO_TTL, STATE_LIST, STATE_MAP, STATE_VALUE, Elements, Entries, LateCell, cell_clear, cell_put,
)
from streamdsl._native.state.undo cimport UndoLog
from streamdsl._native.state.value_types cimport SCALAR_FLOAT, SCALAR_INT, SCALAR_STR, ValueType, check_key, value_type

import dataclasses
import types
import typing

from streamdsl._native.state.state_field import KINDS
from streamdsl.durations import MAX_DURATION_MS, parse_duration
from streamdsl.errors import StateError

cdef enum:
    LEAST_SLACK = 3600000    # an hour: records later than that are rare


cdef int64_t duration_ms(object value, str what, bint saturate) except? -1:
    if PyLong_CheckExact(value) and 0 <= value <= MAX_DURATION_MS:
        return value
    return parse_duration(value, what, saturate=saturate)


def form_of(declared):
    """Return a type of state as checkpoints are compared by it: values are held to `| None` and the fields of dataclasses one by one."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return " | ".join([form_of(item) for item in arguments if item is not type(None)])
    if origin is not None:
        return f"{origin.__name__}[{', '.join(['...' if item is Ellipsis else form_of(item) for item in arguments])}]"
    return "dataclass" if dataclasses.is_dataclass(declared) else getattr(declared, "__name__", str(declared))


cdef class Handle:
    """A state of the key at hand."""

    cdef int empty(self) except -1:
        cdef Cell* cell = self.cell(False)
        if cell == NULL or cell.value == NULL:
            return 0
        cell = self.cell(True)
        if self.scope.undo is not None:
            (<UndoLog>self.scope.undo).note_cell(cell)
        cell_clear(cell)
        return 0

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
    if type.scalar == SCALAR_INT:
        if PyLong_CheckExact(value):
            return value
    elif type.scalar == SCALAR_FLOAT:
        if PyFloat_CheckExact(value):
            return value
    elif type.scalar == SCALAR_STR and PyUnicode_CheckExact(value):
        return value
    try:
        return type.check(value)
    except TypeError as error:
        type_error(spec, error)


cdef int64_t ttl_given(object ttl) except? -1:
    if ttl is UNSET:
        return DEFAULT_TTL
    return NO_TTL if ttl is None else duration_ms(ttl, "ttl", True)


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
        if self.scope.undo is not None:
            (<UndoLog>self.scope.undo).note_cell(cell)
        cell_put(cell, value, cell.deadline if cell.value != NULL and PLANTED("ttl-not-refreshed") else self.scope.deadline(self.spec, ttl))
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
        self.empty()

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
        for i in range(len(elements.values)):
            if self.scope.gone(self.spec, elements.deadlines[i]):
                return [elements.values[i] for i in range(len(elements.values)) if not self.scope.gone(self.spec, elements.deadlines[i])]
        return elements.values

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
            if self.scope.undo is not None:
                (<UndoLog>self.scope.undo).note_cell(cell)
            cell_put(cell, elements, INT64_MAX)
        elements = <Elements>cell.value
        deadline = self.scope.deadline(self.spec, DEFAULT_TTL)
        if deadline != INT64_MAX:
            if elements.deadlines is None:
                elements.deadlines = [INT64_MAX] * len(elements.values)
            elif elements.values and self.scope.removable(self.spec, elements.deadlines[0]):
                self.remove_gone(elements)
        if self.scope.undo is not None:
            (<UndoLog>self.scope.undo).note_growth(elements)
        if elements.deadlines is not None:
            elements.deadlines.extend([deadline] * len(values))
        elements.values.extend(values)
        return 0

    cdef int remove_gone(self, Elements elements) except -1:
        # In place: the list is about to grow again.
        cdef Py_ssize_t i, left = 0
        for i in range(len(elements.values)):
            if not self.scope.removable(self.spec, elements.deadlines[i]):
                elements.values[left] = elements.values[i]
                elements.deadlines[left] = elements.deadlines[i]
                left += 1
        del elements.values[left:]
        del elements.deadlines[left:]
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
        cdef Cell* cell = self.cell(False)
        if new and self.spec.ttl == NO_TTL and cell != NULL and cell.value != NULL and (<Elements>cell.value).deadlines is None:
            cell = self.cell(True)
            if self.scope.undo is not None:
                (<UndoLog>self.scope.undo).note_values(<Elements>cell.value)
            (<Elements>cell.value).values = new
            return
        self.clear()
        self.add(new)

    def clear(self):
        """Forget all values."""
        self.empty()

    def __len__(self):
        return len(self.alive())

    def __iter__(self):
        return iter(self.copied())

    def __getitem__(self, index):
        found = self.alive()[index]
        if self.spec.type.immutable:
            return found
        return [self.spec.type.copy(value) for value in found] if isinstance(index, slice) else self.spec.type.copy(found)

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
        key = self.spec.key_type.key(key)
        if entries is None or key not in entries.values or not self.alive(entries, key):
            return default
        return self.spec.type.copy(entries.values[key])

    cdef int store(self, object key, object value, int64_t ttl) except -1:
        cdef Cell* cell
        cdef Entries entries
        cdef int64_t deadline
        key = self.spec.key_type.key(kept(self.spec, self.spec.key_type, key))
        value = kept(self.spec, self.spec.type, value)
        cell = self.cell(True)
        if cell.value == NULL:
            entries = Entries.__new__(Entries)
            entries.values = {}
            entries.deadlines = {}
            if self.scope.undo is not None:
                (<UndoLog>self.scope.undo).note_cell(cell)
            cell_put(cell, entries, INT64_MAX)
        entries = <Entries>cell.value
        gone = bool(entries.deadlines) and not self.alive(entries, key)
        if self.scope.undo is not None:
            if gone:
                (<UndoLog>self.scope.undo).note_entries(entries)
            else:
                (<UndoLog>self.scope.undo).note_entry(entries, key)
        if gone:
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
        key = self.spec.key_type.key(key)
        if entries is not None and key in entries.values:
            self.cell(True)
            if self.scope.undo is not None:
                (<UndoLog>self.scope.undo).note_entries(entries)
            entries.values.pop(key)
            entries.deadlines.pop(key, None)
            if not entries.values:
                self.empty()

    def clear(self):
        """Forget all entries."""
        self.empty()

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
        key = self.spec.key_type.key(key)
        return entries is not None and key in entries.values and self.alive(entries, key)

    def __len__(self):
        cdef Entries entries = self.entries()
        cdef Py_ssize_t n
        if entries is None:
            return 0
        n = len(entries.values)
        for deadline in entries.deadlines.values():
            n -= self.scope.gone(self.spec, deadline)
        return n

    def __bool__(self):
        return len(self) > 0

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

    def map(self, str name, key_type, item_type, *, ttl=None, str clock="event"):
        """Declare a dict for each key."""
        return self.declare(STATE_MAP, name, key_type, item_type, ttl, clock)

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
            if spec.key_type is not None:
                check_key(spec.key_type, "map")
        except TypeError as error:
            raise TypeError(f"state {name!r}: {error}") from None
        spec.name, spec.kind, spec.index = name, kind, -1
        inner = spec.type.text if spec.key_type is None else f"{spec.key_type.text}: {spec.type.text}"
        spec.text = f"{KINDS[kind]} {inner}"
        inner = form_of(type) if key_type is None else f"{form_of(key_type)}: {form_of(type)}"
        spec.form = f"{KINDS[kind]} {inner}" + (", by the wall clock" if clock == "processing" else "")
        spec.ttl = ttl_given(ttl)
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

    def declared(self):
        """Return {"state 'x'": kind, type and clock} of the states that are declared, for the manifest."""
        found = {}
        for name, handle in self.handles.items():
            spec = (<Handle>handle).spec
            found[f"state {name!r}"] = (<StateSpec>spec).form
        return found

    cdef StateField lay_out(self, str operator):
        cdef dict specs = {name: (<Handle>handle).spec for name, handle in self.handles.items()}
        self.scope.field = StateField(operator, specs)
        self.scope.field.any_ttl = any([(<StateSpec>spec).ttl != NO_TTL for spec in specs.values()])
        self.laid_out = True
        return self.scope.field
