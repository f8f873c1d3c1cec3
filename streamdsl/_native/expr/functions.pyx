"""See functions.pxd."""
from cpython.ref cimport PyObject

from libc.stdint cimport int64_t

from streamdsl._native.expr.vector cimport Frame, Instruction, Kernel, Vector, text, text_size

from streamdsl.errors import RecordError

cdef dict FUNCTIONS = {}


cdef class Function:
    """One row."""


cdef int define(str name, str kinds, Kernel kernel, int which=0, Setup setup=NULL, bint strict=True) except -1:
    cdef Function row = Function()
    args, arrow, result = kinds.partition("->")
    if name in FUNCTIONS or not arrow:
        raise ValueError(f"the function {name!r} ({kinds}) cannot be defined")
    row.name, row.args, row.result, row.strict = name, tuple(args.split()), result.strip(), strict
    row.kernel, row.which, row.setup = kernel, which, setup
    FUNCTIONS[name] = row
    return 0


cdef Function function_of(str name):
    return FUNCTIONS.get(name)


def defined():
    """Return the names of all functions that are defined."""
    return frozenset(FUNCTIONS)


cdef int keep_params(Instruction* ins, tuple params, list keep) except -1:
    keep.append(params)
    ins.params = <PyObject*>params
    return 0


cdef int refuse_text(Frame* frame, const Vector* source, int64_t row, str what) except -1 nogil:
    with gil:
        value = text(source, row)[:text_size(source, row)].decode("utf-8", "replace")
        shown = repr(value if len(value) <= 80 else value[:80] + "…")
        raise RecordError(row if frame.error_row < 0 else frame.error_row, f"{shown} {what}")
