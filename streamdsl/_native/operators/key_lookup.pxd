"""Keys to slots: the one lookup in front of all operators of a keyed stream."""
from libc.stdint cimport int64_t

from streamdsl._native.flow.batch cimport Batch, Column
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.state.key_table cimport KeyTable


cdef class KeyDecoder:
    cdef readonly list kinds                 # of the key's components
    cdef int n_components
    cdef int* component_kinds
    cdef bint plain                          # one string column: the key is its bytes

    # Fills out[0 .. n_components) with the key components of the slots.
    cdef int decode(self, KeyTable table, const int64_t* slots, int64_t n, Column* out) except -1 nogil
    cdef int _decode_strings(self, KeyTable table, const int64_t* slots, int64_t n, int k, Column* out) except -1 nogil


cdef class KeyLookup(Operator):
    cdef readonly KeyTable table             # of its own, or that of another lookup whose keys meet these
    cdef readonly KeyDecoder decoder
    cdef Operator null_output                # takes rows with a null key; None: they are dropped
    cdef int64_t* shard_watermarks           # S entries, ms: what each shard had reached before a restore
    cdef int64_t latest_shard                # the greatest of them
    cdef int64_t watermark                   # of the task, before the records now being processed
    cdef int64_t null_keys
    cdef int64_t arrivals                    # records that have arrived at the operators behind it, over all restores

    # The watermark that decides whether a record of this slot's key is late.
    cdef inline int64_t lateness_watermark(self, int64_t slot) noexcept nogil:
        cdef int64_t shard_watermark
        if self.one_watermark():             # no look at the row
            return self.watermark
        shard_watermark = self.shard_watermarks[self.table.header(slot).shard]
        return self.watermark if self.watermark > shard_watermark else shard_watermark

    # The arrival number of the first of n records that an operator is about to take; theirs are consecutive. Of two records
    # of a key the later one has the greater number, in whatever task, also after a restore.
    cdef inline int64_t arrive(self, int64_t n) noexcept nogil:
        self.arrivals += n
        return self.arrivals - n

    # Whether the task has overtaken what its shards had reached before the restore: then one watermark holds for all.
    cdef inline bint one_watermark(self) noexcept nogil:
        return self.watermark >= self.latest_shard

    cdef Batch* _without_null_keys(self, Batch* batch) except? NULL nogil
