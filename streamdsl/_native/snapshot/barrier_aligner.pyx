"""Aligned barriers. The aligner only counts; the task asks it and tells the gate."""
from libc.stdlib cimport calloc, free


cdef class BarrierAligner:
    """Ended inputs count like the others: barriers come through behind END."""

    def __cinit__(self, int size):
        self.size = size
        self.arrived = <bint*>calloc(size + 1, sizeof(bint))
        if self.arrived == NULL:
            raise MemoryError("no memory left for a barrier aligner")

    def __dealloc__(self):
        free(self.arrived)

    cdef int on_barrier(self, int input, int64_t checkpoint_id) noexcept nogil:
        cdef int i
        cdef bint abandoned = False
        if checkpoint_id < self.checkpoint_id or checkpoint_id <= self.completed:
            return ALIGN_STALE
        if checkpoint_id > self.checkpoint_id:
            abandoned = self.checkpoint_id != 0
            self.checkpoint_id = checkpoint_id
            self.missing = self.size
            for i in range(self.size):
                self.arrived[i] = False
        if not self.arrived[input]:
            self.arrived[input] = True
            self.missing -= 1
        if self.missing == 0:
            self.completed = checkpoint_id
            self.checkpoint_id = 0
            return ALIGN_COMPLETE
        return ALIGN_ABANDON if abandoned else ALIGN_WAIT

    def barrier(self, int input, int64_t checkpoint_id):
        """What tests use: on_barrier, by name of its answer."""
        return ("wait", "complete", "abandon", "stale")[self.on_barrier(input, checkpoint_id)]
