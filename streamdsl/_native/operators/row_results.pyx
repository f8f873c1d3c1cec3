"""What user code may return: how it is read as a row, and as JSON."""
from cpython.dict cimport PyDict_GetItem
from cpython.ref cimport PyObject

from streamdsl._native.operators.row cimport Row

import base64
import dataclasses
import datetime as datetimes
import json
from collections.abc import Mapping
from decimal import Decimal

cdef object DATETIME = datetimes.datetime
cdef object DATE = datetimes.date
cdef object DURATION = datetimes.timedelta
cdef object MILLISECOND = datetimes.timedelta(milliseconds=1)
cdef object DECIMAL = Decimal
cdef dict result_kinds = {dict: RESULT_DICT, Row: RESULT_ROW, list: RESULT_ROWS, tuple: RESULT_ROWS}


class BadRow(ValueError):
    """A row does not fit the output schema; `field` is the column at fault, if there is one."""

    def __init__(self, message, field=None):
        super().__init__(message)
        self.field = field


cdef int result_kind(object result) except -1:
    cdef PyObject* known = PyDict_GetItem(result_kinds, type(result))
    if known != NULL:
        return <int><object>known
    kind = type(result)
    if isinstance(result, (str, bytes, int, float, bool)):
        return RESULT_OBJECT                 # has no columns: the error names the first that is missing
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        number = RESULT_OBJECT
    elif issubclass(kind, Mapping):
        number = RESULT_MAPPING
    else:
        number = RESULT_ROWS if hasattr(kind, "__iter__") else RESULT_OBJECT
    if len(result_kinds) < 1000:
        result_kinds[kind] = number
    return number


def _plain(value):
    # What json does not know, in the text form that the column kinds use as well.
    if isinstance(value, Row):
        return value.asdict()
    if isinstance(value, (DATETIME, DATE)):
        return value.isoformat()
    if isinstance(value, DECIMAL):
        return format(value, "f")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, DURATION):
        return value // MILLISECOND
    raise TypeError(f"{type(value).__name__} has no JSON form")


cdef object json_text(object value):
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False)


cdef object shortened(object value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
