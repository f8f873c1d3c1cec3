"""Functions that a file of kernels defines by itself: one row each, by name.

A row says which kinds the function takes and gives, which kernel computes it and how its parameters are read.
"""
from libc.stdint cimport int64_t

from streamdsl._native.expr.vector cimport Frame, Instruction, Kernel, Vector

# Reads the parameters of an instruction; what it keeps alive goes to `keep`.
ctypedef int (*Setup)(Instruction* ins, tuple params, list keep) except -1

cdef class Function:
    cdef readonly str name
    cdef readonly tuple args                 # kinds of the arguments: "str", "i64", ...; ("*",): any number, of any kinds
    cdef readonly str result                 # kind of the result
    cdef readonly bint strict                # null if any argument is null
    cdef Kernel kernel
    cdef Setup setup                         # NULL: takes no parameters
    cdef int which                           # tells a kernel of several functions which one is meant

# define("str_reverse", "str -> str", kernel): a row; ends the import if the name is taken
cdef int define(str name, str kinds, Kernel kernel, int which=*, Setup setup=*, bint strict=*) except -1
cdef Function function_of(str name)          # None: there is none

cdef int keep_params(Instruction* ins, tuple params, list keep) except -1    # as Python objects, in ins.params
cdef int refuse_text(Frame* frame, const Vector* source, int64_t row, str what) except -1 nogil   # raises RecordError
