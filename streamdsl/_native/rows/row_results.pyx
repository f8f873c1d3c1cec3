"""What user code may return: how it is read as a row."""
from cpython.dict cimport PyDict_GetItem
from cpython.ref cimport PyObject

from streamdsl._native.rows.row cimport Row

import dataclasses
from collections.abc import Mapping

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


cdef object shortened(object value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
