"""Declared types of state values: checking, copying, and the plain form that the codec knows."""

# What set() may take without a closer look.
cdef enum:
    SCALAR_NONE = 0        # not a scalar: ask the type
    SCALAR_FLOAT = 1
    SCALAR_INT = 2
    SCALAR_STR = 3
    SCALAR_BOOL = 4
    SCALAR_BYTES = 5


cdef class ValueType:
    cdef readonly str text                   # as it stands in stored state and in errors
    cdef readonly bint immutable             # values need no copy
    cdef readonly bint keyable               # values can be keys of a map: immutable, and equal by value after a restore too
    cdef int scalar                          # SCALAR_*

    cdef object check(self, object value)    # the value to keep (a copy, if it can change); TypeError: another type
    cdef object copy(self, object value)     # of a kept value
    cdef object plain(self, object value)    # what the codec can write
    cdef object key(self, object value)      # the one that stands for all equal ones: NaN is one key, and -0.0 is 0.0
    cdef object typed(self, object plain)    # back; TypeError: something else was written

cdef ValueType value_type(object declared)
cdef int check_key(ValueType key, str owner) except -1           # raises TypeError where it cannot be the key of a dict or map
cdef dict one_each(dict found, dict plain)                       # `found`; TypeError if keys of `plain` became one
