"""See feed_poll.pxd."""
from libc.stdlib cimport free

from streamdsl._native.task.split cimport IDLE_LOOK_MS, Split
from streamdsl._native.task.task cimport references

from streamdsl.errors import connector_failure

cdef enum:
    # How often splits are asked of which their feed says nothing: where they become idle by themselves, and where not.
    PASS_MS = 250
    PASS_UNTIMED_MS = 1000
    LEAST_PASS_MS = 10
    # A feed that has brought little is not asked again at once: a few rows cost as much as a hundred.
    POLL_NS = 2000000
    MANY_ROWS = 256


cdef class FeedPoll:
    """`splits` of the source of that name; with several feeds, or with splits that have none, those that end first decide."""

    def __init__(self, str source, list splits, int64_t idle_timeout_ms):
        cdef Split split
        feeds = [split.reader.feed() for split in splits]
        self.source = source
        self.splits = splits
        self.refs = references(splits)
        self.n = len(splits)
        self.split_of = {split.name: split for split in splits}
        self.feed = next((feed for feed in reversed(feeds) if feed is not None), None)
        self.pass_ns = 1000000 * <int64_t>PASS_UNTIMED_MS
        if idle_timeout_ms >= 0:
            self.pass_ns = 1000000 * min(max(idle_timeout_ms // 4, <int64_t>LEAST_PASS_MS), <int64_t>PASS_MS)
        for split, feed in zip(splits, feeds):
            split.apart = feed is None or feed is not self.feed
            self.n_apart += split.apart and not split.ended

    def __dealloc__(self):
        free(self.refs)

    cdef bint asks_all(self) noexcept nogil:
        return self.n_apart > 0 or self.feed is None

    cdef bint look(self, int64_t now_ns) except -1 nogil:
        cdef bint found = False
        self.several = False
        if now_ns >= self.pass_at_ns:
            self.pass_at_ns = now_ns + self.pass_ns
            found = self.mark_all(now_ns)
        if now_ns >= self.poll_at_ns or self.rows >= MANY_ROWS:
            self.poll_at_ns = now_ns + POLL_NS
            self.rows = 0
            with gil:
                found = self._poll() or found
        self.quiet = self.quiet and not found
        return found

    def _poll(self):
        try:
            names = self.feed.poll()
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.source!r} cannot read", error)
        if names is None:
            self.poll_at_ns = 0
            for split in self.splits:
                (<Split>split).due = True
            return True
        self.names = names
        self.several = len(names) > 1
        for name in names:
            (<Split>self.split_of[name]).due = True
        return len(names) > 0

    cdef object read_together(self, int64_t limit):
        try:
            return self.feed.read_together(self.names, limit)
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.source!r} cannot read", error)

    cdef bint mark_all(self, int64_t now_ns) except -1 nogil:
        """Have all splits asked, but those that are idle and of which the feed is sure."""
        cdef int i
        cdef bint found = False, idle = False
        for i in range(self.n):
            if not (<Split>self.refs[i]).idle:
                (<Split>self.refs[i]).due = True
                found = True
            idle = idle or (<Split>self.refs[i]).idle
        if idle and now_ns >= self.sure_at_ns:
            self.sure_at_ns = now_ns + 1000000 * <int64_t>IDLE_LOOK_MS
            with gil:
                found = self._mark_unsure() or found
        return found

    def _mark_unsure(self):
        try:
            names = self.feed.unsure()
        except Exception as error:       # whatever a source raises
            raise connector_failure(f"the source {self.source!r} cannot read", error)
        for split in self.splits if names is None else map(self.split_of.__getitem__, names):
            (<Split>split).due = True
        return names is None or len(names) > 0
