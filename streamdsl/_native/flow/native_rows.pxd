"""What a reader has decoded, before it is a batch of a task: rows in native columns, which Python may look at."""
from streamdsl._native.flow.batch cimport Batch


cdef class NativeRows:
    cdef Batch* batch                        # owned; without system columns
    cdef readonly object schema              # pa.Schema of canonical types
    cdef object made                         # the record batch, once somebody has asked for it


cdef NativeRows wrap_rows(Batch* batch, object schema)                   # takes over the caller's reference
