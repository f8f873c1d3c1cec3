"""See read_order.pxd.

Nothing here waits. A round opens once every source task has emitted its rows of the round before, down to its output
channels, and has said what comes next. A channel may be full of rows of the open round: who reads it takes them out at once.
So no task waits for a round that somebody else cannot finish.

A barrier stands between two rounds, the same two in every source task: what a checkpoint has read is a moment of event time.
"""
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock, WAIT_LOCK,
)
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free, realloc

from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.checked cimport PLANTED


cdef class ReadOrder:
    """Shared by the tasks of one job."""

    def __cinit__(self, int tasks):
        self.n_tasks = tasks
        self.done = <int64_t*>calloc(tasks + 1, sizeof(int64_t))
        self.lock = <void*>PyThread_allocate_lock()
        if self.done == NULL or self.lock == NULL:
            raise MemoryError("no memory left for the order of sources")

    def __dealloc__(self):
        free(self.offers)
        free(self.done)
        free(self.readers)
        if self.lock != NULL:
            PyThread_free_lock(<PyThread_type_lock>self.lock)

    def add_reader(self, int task):
        """Have the source task with that number wait for others, and others for it; return its place. Before the job begins."""
        self.readers = <Reader*>realloc(self.readers, (self.n_readers + 1) * sizeof(Reader))
        if self.readers == NULL:
            raise MemoryError("no memory left for the order of sources")
        self.readers[self.n_readers] = Reader(task, -1, 0)
        self.n_readers += 1
        return self.n_readers - 1

    def add_split(self, int rank, int split, bint in_rounds):
        """Add split number `split` of the source that was declared at place `rank`; return its slot. Before the job begins."""
        self.offers = <Offer*>realloc(self.offers, (self.n_splits + 1) * sizeof(Offer))
        if self.offers == NULL:
            raise MemoryError("no memory left for the order of sources")
        # Before its first read nobody is known not to be ahead of it.
        self.offers[self.n_splits] = Offer(OFFER_WANTED, INT64_MIN, INT64_MIN, rank if in_rounds else -1, split, 0)
        self.n_splits += 1
        return self.n_splits - 1

    def number_splits(self):
        """Number the splits by source and place in it, whichever task reads them. Once all have been added."""
        cdef int number, slot
        in_rounds = [slot for slot in range(self.n_splits) if self.offers[slot].rank >= 0]
        in_rounds.sort(key=lambda slot: (self.offers[<int>slot].rank, self.offers[<int>slot].split))
        for number, slot in enumerate(in_rounds):
            self.offers[slot].number = number

    def passes_by(self, int task):
        """Nobody waits for the rounds of this task: it has none."""
        self.finish(task, INT64_MAX)

    cdef void offer(self, int split, int state, int64_t first, int64_t last) noexcept nogil:
        self.offers[split].last = last
        atomic_store(&self.offers[split].first, first)
        atomic_store(&self.offers[split].state, state)

    cdef void announce(self, int reader, int64_t round) noexcept nogil:
        PyThread_acquire_lock(<PyThread_type_lock>self.lock, WAIT_LOCK)
        self.readers[reader].ready = round
        PyThread_release_lock(<PyThread_type_lock>self.lock)

    cdef bint try_open(self) noexcept nogil:
        cdef bint opened
        PyThread_acquire_lock(<PyThread_type_lock>self.lock, WAIT_LOCK)
        opened = self.open_round()
        PyThread_release_lock(<PyThread_type_lock>self.lock)
        return opened

    cdef bint open_round(self) noexcept nogil:
        cdef int i, best = -1
        cdef int64_t barrier = -1
        cdef Offer* offer
        for i in range(self.n_readers):
            if self.readers[i].ready == INT64_MAX:
                continue
            if self.readers[i].ready != self.round or (barrier >= 0 and self.readers[i].barrier != barrier):
                return False
            barrier = self.readers[i].barrier
        for i in range(self.n_splits):
            offer = &self.offers[i]
            if offer.rank < 0 or offer.state != OFFER_MADE:
                continue
            if best < 0 or offer.last < self.until or (offer.last == self.until and offer.number < self.until_number):
                best = i
                self.until = offer.last
                self.until_number = offer.number
        if best < 0:
            return False
        atomic_store(&self.round, self.round + 1)
        return True

    cdef bint may_snapshot(self, int reader, int64_t checkpoint_id) noexcept nogil:
        cdef int i
        cdef bint may = True
        PyThread_acquire_lock(<PyThread_type_lock>self.lock, WAIT_LOCK)
        for i in range(self.n_readers):
            may = may and atomic_load(&self.done[self.readers[i].task]) >= self.round
        if may:
            self.readers[reader].barrier = checkpoint_id
        PyThread_release_lock(<PyThread_type_lock>self.lock)
        return may

    cdef bint takes_part(self, int split) noexcept nogil:
        cdef Offer* offer = &self.offers[split]
        if PLANTED("sources-not-in-time-order"):
            return True
        return offer.first < self.until or (offer.first == self.until and offer.number <= self.until_number)

    cdef int64_t until_of(self, int split) noexcept nogil:
        if PLANTED("sources-not-in-time-order"):
            return INT64_MAX
        # What takes part has a row before `until`, or may emit those at it: nothing wraps.
        return self.until if self.offers[split].number <= self.until_number else self.until - 1

    cdef void finish(self, int task, int64_t round) noexcept nogil:
        atomic_store(&self.done[task], round)

    cdef void leave(self, int reader) noexcept nogil:
        self.announce(reader, INT64_MAX)

    cdef int64_t reach(self, int split, int64_t drift) noexcept nogil:
        cdef int i
        cdef int64_t least = INT64_MAX
        for i in range(self.n_splits):
            if i != split and atomic_load(&self.offers[i].state) != OFFER_NONE:
                least = min(least, atomic_load(&self.offers[i].first))
        return least + drift if least < INT64_MAX - drift else INT64_MAX

    # What tests use.
    def say(self, int split, int64_t first, int64_t last):
        """Make an offer."""
        self.offer(split, OFFER_MADE, first, last)

    def open_next(self):
        """Open the next round as if all were ready, and return where it ends; None: nobody has rows."""
        cdef int i
        for i in range(self.n_readers):
            if self.readers[i].ready != INT64_MAX:
                self.readers[i].ready = self.round
        return self.until if self.try_open() else None
