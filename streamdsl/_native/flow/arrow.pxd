"""Batches from and to Arrow, through the Arrow C data interface: no Arrow headers, no copies where the layouts agree.

Canonical types: int64, uint64, float64, bool, string, binary and decimal128. Everything else goes through `convert.py` first.
"""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch, Column


cdef struct ArrowSchema:
    const char* format
    const char* name
    const char* metadata
    int64_t flags
    int64_t n_children
    ArrowSchema** children
    ArrowSchema* dictionary
    void (*release)(ArrowSchema* schema) noexcept nogil
    void* private_data

cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void** buffers
    ArrowArray** children
    ArrowArray* dictionary
    void (*release)(ArrowArray* array) noexcept nogil
    void* private_data

# All need the GIL. Foreign memory stays alive as long as a column refers to it, and is released from any thread.
cdef Batch* batch_from_arrow(object record_batch) except NULL            # TypeError: a column is not canonical
cdef object batch_to_arrow(Batch* batch, object schema)                  # pa.Schema of canonical types -> pa.RecordBatch
cdef int column_from_arrow(object array, Column* out) except -1          # pa.Array
cdef object column_to_arrow(const Column* column, int64_t n, object type)


cdef class PyBatch:
    """A batch as a Python object: for tests, and for planes that pass batches through Python."""

    cdef Batch* batch                        # owned; NULL only before from_arrow or wrap


cdef PyBatch wrap_batch(Batch* batch)                                    # takes over the caller's reference
