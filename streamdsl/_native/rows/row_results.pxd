"""What user code may return: how it is read as a row."""

# How a value that user code returned is read.
cdef enum:
    RESULT_DICT = 1
    RESULT_ROW = 2
    RESULT_MAPPING = 3
    RESULT_OBJECT = 4      # dataclass, NamedTuple, anything with attributes
    RESULT_ROWS = 5        # an iterable: rows, not a row

cdef int result_kind(object result) except -1
cdef object shortened(object value)          # its repr, of readable length
