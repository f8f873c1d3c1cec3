"""The operator contract: a chain of operators that call one another directly."""
from libc.stdint cimport INT64_MAX

from streamdsl._native.flow.arrow cimport wrap_batch
from streamdsl._native.flow.batch cimport batch_release, batch_retain, batch_sound
from streamdsl._native.includes.checked cimport CHECK

from streamdsl._native.operators.declaration import Declaration

PLAIN = Declaration()


cdef class Operator:
    """One step of a chain. Subclasses override what they react to; the defaults pass everything on.

    A task is built in this order: `declare`, `open`, `connect`, `restore` (what `snapshot` returned), `restored` (the tables are
    loaded), `start`. Only then does anything run.
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

    cdef int has_room(self) except -1 nogil:
        return 1

    cdef int settle(self, bint ended_batch) except -1 nogil:
        return 0

    cdef int emit(self, Batch* batch) except -1 nogil:
        cdef int result = 0
        CHECK(batch_sound(batch), "columns have n rows, offsets ascend within their buffer")
        try:
            if batch.n > 0:
                result = self.next.process(batch)
        finally:
            batch_release(batch)
        return result

    def declare(self):
        """Return the operator's `Declaration`: its tables, and what it wants to be asked and told."""
        return PLAIN

    def open(self, context):
        """Take what was declared (see `Context`), and add fields to the rows of the key lookup, if there is one."""

    def port(self, int number):
        """Return what gets the rows of an input: an operator with several inputs has one for each."""
        return self

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
        """Take back what the `snapshot` of one task returned: called for each that had one, so never or several times after a rescale."""

    def restored(self):
        """The tables have been loaded."""

    def start(self):
        """Open what is outside of the job: nothing of it has been touched before."""

    def named(self, str name):
        """Set the operator's name."""
        self.name = name

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
