"""The operator contract: a chain of operators that call one another directly."""
from libc.stdint cimport INT64_MAX

from streamdsl._native.flow.arrow cimport wrap_batch
from streamdsl._native.flow.batch cimport batch_release, batch_retain, batch_sound
from streamdsl._native.includes.checked cimport CHECK


cdef class Operator:
    """One step of a chain. Subclasses override what they react to; the defaults pass everything on.

    Python sees five methods: `connect`, `snapshot`, `restore`, `metrics`, `take_failed`.
    """

    def __cinit__(self, *args, **kwargs):
        self.tagged = {}
        self.name = ""

    cdef int process(self, Batch* batch) except -1 nogil:
        return self.next.process(batch)

    cdef int end_batch(self) except -1 nogil:
        return self.next.end_batch()

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        return self.next.on_watermark(watermark)

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        return 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        return self.next.on_idle(idle)

    cdef int on_processing_time(self, int64_t now_ms) except -1 nogil:
        return 0

    cdef int64_t next_wakeup(self) noexcept nogil:
        return INT64_MAX

    cdef int emit(self, Batch* batch) except -1 nogil:
        cdef int result = 0
        CHECK(batch_sound(batch), "columns have n rows, offsets ascend within their buffer")
        try:
            if batch.n > 0:
                result = self.next.process(batch)
        finally:
            batch_release(batch)
        return result

    def connect(self, Operator target, str tag=""):
        """Send the output `tag` ("" is the main one) to `target`."""
        if tag:
            self.tagged[tag] = target
        else:
            self.next = target

    def snapshot(self, checkpoint_id):
        """Return a JSON value to be kept in the manifest, or None. Keyed state is not part of it."""
        return None

    def restore(self, state):
        """Take back what `snapshot` returned."""

    def metrics(self):
        """Return the operator's counters and gauges."""
        return {}

    def take_failed(self):
        """Return the batch in which a row failed and the output that was being computed (-1: unknown); None: nothing failed."""
        failed, self.failed = self.failed, None
        return failed


cdef int blame(Operator operator, Batch* batch, int output) except -1 nogil:
    with gil:
        if operator.failed is None:
            batch_retain(batch)
            operator.failed = (wrap_batch(batch), output)
    return 0
