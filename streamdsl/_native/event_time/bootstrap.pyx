"""See bootstrap.pxd."""
from streamdsl._native.includes.atomic cimport atomic_add, atomic_load
from streamdsl._native.includes.checked cimport PLANTED


cdef class Bootstrap:
    """Shared by the source tasks of one job."""

    def expect(self):
        """Wait for one more task. Before the job begins."""
        self.behind += 1

    cdef bint over(self) noexcept nogil:
        return atomic_load(&self.behind) <= 0 or PLANTED("bootstrap-not-awaited")

    cdef void read(self) noexcept nogil:
        atomic_add(&self.behind, -1)
