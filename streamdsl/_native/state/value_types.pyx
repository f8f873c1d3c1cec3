"""See value_types.pxd. A value is checked when it is set, so that what a checkpoint holds can be read again."""
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact

import dataclasses
import datetime
import math
import types
import typing
from decimal import Decimal

from streamdsl._native.serdes.codec cimport decode, encode

DEEPEST_TYPE = 20

cdef object NAN = math.nan                   # Python finds a NaN in a dict only by its identity
cdef object DECIMAL_NAN = Decimal("NaN")


cdef object shortened(object value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


cdef int refuse(ValueType expected, object value) except -1:
    raise TypeError(f"expected {expected.text}, not {shortened(value)} of type {type(value).__name__}")


cdef class ValueType:
    """Base: immutable values that the codec writes as they are."""

    cdef object check(self, object value):
        return value

    cdef object copy(self, object value):
        return value

    cdef object plain(self, object value):
        return value

    cdef object key(self, object value):
        return value

    cdef object typed(self, object plain):
        return self.check(plain)


cdef object unwrapped(object value):
    # NumPy scalars hold a Python value.
    if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    return value


cdef class FloatType(ValueType):
    def __cinit__(self):
        self.text, self.immutable, self.keyable, self.scalar = "float", True, True, SCALAR_FLOAT

    cdef object check(self, object value):
        if type(value) is float:
            return value
        if isinstance(value, float):
            return float(value)
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                refuse(self, value)
            return number if int(number) == value else refuse(self, value)   # nothing is rounded
        plain = unwrapped(value)
        return self.check(plain) if plain is not value else refuse(self, value)

    cdef object key(self, object value):
        if isinstance(value, float):
            return NAN if value != value else value + 0.0
        return value


cdef class ExactType(ValueType):
    """int, str, bool, bytes, date, Decimal: instances of the class; subclasses are kept as the class itself."""
    cdef type kind

    def __cinit__(self, type kind):
        self.kind, self.text, self.immutable, self.keyable = kind, kind.__name__, True, True
        self.scalar = {int: SCALAR_INT, str: SCALAR_STR, bool: SCALAR_BOOL, bytes: SCALAR_BYTES}.get(kind, SCALAR_NONE)

    cdef object check(self, object value):
        if type(value) is self.kind:
            return value
        if isinstance(value, self.kind) and not (self.kind is int and isinstance(value, bool)) and not (
                self.kind is datetime.date and isinstance(value, datetime.datetime)):
            return self.kind(value) if self.kind in (int, str, bytes) else value
        plain = unwrapped(value)
        return self.check(plain) if plain is not value else refuse(self, value)

    cdef object key(self, object value):
        return DECIMAL_NAN if isinstance(value, Decimal) and value.is_nan() else value


cdef class OptionalType(ValueType):
    cdef ValueType inner

    def __cinit__(self, ValueType inner):
        self.inner, self.text, self.immutable, self.keyable = inner, f"{inner.text} | None", inner.immutable, inner.keyable

    cdef object check(self, object value):
        return None if value is None else self.inner.check(value)

    cdef object copy(self, object value):
        return None if value is None else self.inner.copy(value)

    cdef object plain(self, object value):
        return None if value is None else self.inner.plain(value)

    cdef object key(self, object value):
        return None if value is None else self.inner.key(value)

    cdef object typed(self, object plain):
        return None if plain is None else self.inner.typed(plain)


cdef class ListType(ValueType):
    cdef ValueType item

    def __cinit__(self, ValueType item):
        self.item, self.text, self.immutable = item, f"list[{item.text}]", False

    cdef object check(self, object value):
        if not isinstance(value, (list, tuple)):
            refuse(self, value)
        return [self.item.check(item) for item in value]

    cdef object copy(self, object value):
        return list(value) if self.item.immutable else [self.item.copy(item) for item in value]

    cdef object plain(self, object value):
        return value if self.item.immutable and self.item.scalar else [self.item.plain(item) for item in value]

    cdef object typed(self, object plain):
        if type(plain) is not list:
            refuse(self, plain)
        return [self.item.typed(item) for item in plain]


cdef inline bint is_exactly(ValueType expected, object value) noexcept:
    if expected.scalar == SCALAR_INT:
        return PyLong_CheckExact(value)
    if expected.scalar == SCALAR_FLOAT:
        return PyFloat_CheckExact(value)
    return expected.scalar == SCALAR_STR and PyUnicode_CheckExact(value)


cdef class TupleType(ValueType):
    """tuple[A, B] and, with `many`, tuple[A, ...]."""
    cdef list items
    cdef bint many

    def __cinit__(self, list items, bint many):
        inner = ", ".join([(<ValueType>item).text for item in items])
        self.items, self.many, self.text = items, many, f"tuple[{inner}, ...]" if many else f"tuple[{inner}]"
        self.immutable = all([(<ValueType>item).immutable for item in items])
        self.keyable = all([(<ValueType>item).keyable for item in items])

    cdef ValueType item(self, Py_ssize_t i):
        return <ValueType>self.items[0 if self.many else i]

    cdef object check(self, object value):
        cdef Py_ssize_t i, n
        if not isinstance(value, tuple) or not (self.many or len(value) == len(self.items)):
            refuse(self, value)
        if type(value) is tuple:             # most are right as they are
            n = len(<tuple>value)
            i = 0
            while i < n and is_exactly(self.item(i), (<tuple>value)[i]):
                i += 1
            if i == n:
                return value
        return tuple([self.item(i).check(value[i]) for i in range(len(value))])

    cdef object copy(self, object value):
        return value if self.immutable else tuple([self.item(i).copy(value[i]) for i in range(len(value))])

    cdef object plain(self, object value):
        return tuple([self.item(i).plain(value[i]) for i in range(len(value))])

    cdef object key(self, object value):
        if not isinstance(value, tuple) or not (self.many or len(value) == len(self.items)):
            return value                     # no key of this map; looking it up finds nothing
        return tuple([self.item(i).key(value[i]) for i in range(len(value))])

    cdef object typed(self, object plain):
        if type(plain) is not tuple or not (self.many or len(plain) == len(self.items)):
            refuse(self, plain)
        return tuple([self.item(i).typed(plain[i]) for i in range(len(plain))])


cdef dict one_each(dict found, dict plain):
    # A dataclass that has lost a field may tell fewer keys apart.
    if len(found) != len(plain):
        raise TypeError("different keys that were kept are equal now")
    return found


cdef class DictType(ValueType):
    cdef ValueType key_type
    cdef ValueType item

    def __cinit__(self, ValueType key, ValueType item):
        check_key(key, "dict")
        self.key_type, self.item, self.text, self.immutable = key, item, f"dict[{key.text}, {item.text}]", False

    cdef object check(self, object value):
        if not isinstance(value, dict):
            refuse(self, value)
        return {self.key_type.key(self.key_type.check(key)): self.item.check(item) for key, item in value.items()}

    cdef object copy(self, object value):
        return dict(value) if self.item.immutable else {key: self.item.copy(item) for key, item in value.items()}

    cdef object plain(self, object value):
        return {self.key_type.plain(key): self.item.plain(item) for key, item in value.items()}

    cdef object typed(self, object plain):
        if type(plain) is not dict:
            refuse(self, plain)
        found = {self.key_type.key(self.key_type.typed(key)): self.item.typed(item) for key, item in plain.items()}
        return one_each(found, plain)


cdef int check_key(ValueType key, str owner) except -1:
    if not key.keyable:
        raise TypeError(f"{key.text} cannot be the key of a {owner}; use a scalar, a tuple or a dataclass with "
                        "frozen=True (and eq=True) of those")
    return 0


cdef class DataclassType(ValueType):
    """Kept by field name: a field with a default may be added later, and one may go.

    The plain form is a tuple of name, value, name, value, …: it can be the key of a dict.
    """
    cdef type kind
    cdef dict fields                         # name -> ValueType
    cdef dict defaults                       # name -> function that makes the default

    def __cinit__(self, type kind, dict fields):
        inner = ", ".join([f"{name}: {(<ValueType>item).text}" for name, item in fields.items()])
        self.kind, self.fields, self.text = kind, fields, f"{kind.__name__}({inner})"
        self.immutable = kind.__dataclass_params__.frozen and all([(<ValueType>item).immutable for item in fields.values()])
        # frozen=True with eq=False leaves the hash of the object's address.
        self.keyable = (self.immutable and kind.__hash__ not in (None, object.__hash__)
                        and all([(<ValueType>item).keyable for item in fields.values()]))
        self.defaults = {}
        for field in dataclasses.fields(kind):
            if field.default_factory is not dataclasses.MISSING:
                self.defaults[field.name] = field.default_factory
            elif field.default is not dataclasses.MISSING:
                self.defaults[field.name] = lambda default=field.default: default

    cdef object made(self, dict values):
        # Not through __init__: state is read without running user code.
        value = self.kind.__new__(self.kind)
        for name, item in values.items():
            object.__setattr__(value, name, item)
        return value

    cdef object check(self, object value):
        if type(value) is not self.kind:
            refuse(self, value)
        checked = {}
        for name, item in self.fields.items():
            try:
                checked[name] = (<ValueType>item).check(getattr(value, name))
            except TypeError as error:
                raise TypeError(f"{self.kind.__name__}.{name}: {error}") from None
        return self.made(checked)

    cdef object copy(self, object value):
        if self.immutable:
            return value
        return self.made({name: (<ValueType>item).copy(getattr(value, name)) for name, item in self.fields.items()})

    cdef object plain(self, object value):
        cdef list parts = []
        for name, item in self.fields.items():
            parts += (name, (<ValueType>item).plain(getattr(value, name)))
        return tuple(parts)

    cdef object key(self, object value):
        if type(value) is not self.kind:
            return value
        return self.made({name: (<ValueType>item).key(getattr(value, name)) for name, item in self.fields.items()})

    cdef object typed(self, object plain):
        if type(plain) is not tuple or len(plain) % 2:
            refuse(self, plain)
        values, kept = {}, dict(zip(plain[::2], plain[1::2], strict=True))
        for name, item in self.fields.items():
            if name in kept:
                values[name] = (<ValueType>item).typed(kept[name])
            elif name in self.defaults:
                values[name] = self.defaults[name]()
            else:
                raise TypeError(f"the field {name!r} of {self.kind.__name__} was not kept and has no default")
        return self.made(values)


cdef class PlainType(ValueType):
    """list, dict or tuple without item types: whatever the codec can write."""
    cdef type kind

    def __cinit__(self, type kind):
        self.kind, self.text, self.immutable = kind, kind.__name__, False

    cdef object check(self, object value):
        if not isinstance(value, self.kind):
            refuse(self, value)
        return decode(encode(((value,),)))[0][0]      # as deep as it will lie in a row

    cdef object copy(self, object value):
        return decode(encode(value))

    cdef object typed(self, object plain):
        return plain if type(plain) is self.kind else refuse(self, plain)


cdef ValueType generic_type(object declared, int depth):
    origin = typing.get_origin(declared)
    arguments = typing.get_args(declared)
    if origin is list and len(arguments) == 1:
        return ListType(typed_at(arguments[0], depth))
    if origin is dict and len(arguments) == 2:
        return DictType(typed_at(arguments[0], depth), typed_at(arguments[1], depth))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return TupleType([typed_at(arguments[0], depth)], True)
        return TupleType([typed_at(item, depth) for item in arguments], False)
    if origin in (typing.Union, types.UnionType):
        inner = [item for item in arguments if item is not type(None)]
        if len(inner) == 1 and len(arguments) == 2:
            return OptionalType(typed_at(inner[0], depth))
    return None


cdef ValueType typed_at(object declared, int depth):
    cdef ValueType found = None
    if depth > DEEPEST_TYPE:
        raise TypeError(f"{declared!r} contains itself")
    if declared is float:
        return FloatType()
    if declared in (int, str, bool, bytes, datetime.datetime, datetime.date, Decimal):
        return ExactType(declared)
    if declared in (list, dict, tuple):
        return PlainType(declared)
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        hints = typing.get_type_hints(declared)
        fields = {field.name: typed_at(hints[field.name], depth + 1) for field in dataclasses.fields(declared)}
        return DataclassType(declared, fields)
    found = generic_type(declared, depth + 1)
    if found is None:
        raise TypeError(
            f"{declared!r} is not a type of state; use int, float, bool, str, bytes, datetime, date, Decimal, list[T], "
            "dict[K, V], tuple[...], a dataclass of those, or T | None")
    return found


cdef ValueType value_type(object declared):
    return typed_at(declared, 0)
