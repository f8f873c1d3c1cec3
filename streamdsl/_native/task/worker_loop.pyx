"""Steps tasks in turn without the GIL, and sleeps while none has anything to do."""
from collections import deque

from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport free

from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.clock cimport sleep_ns
from streamdsl._native.task.task cimport Task, references

cdef enum:
    # A quarter of the time for which there has been nothing: so much of it may be added to a record's latency, up to a bound.
    IDLE_TO_SLEEP = 4
    SLEEP_LEAST_NS = 40000
    SLEEP_SHORT_NS = 4000000
    # Behind a longer silence, a fiftieth of it.
    IDLE_TO_DOZE = 50
    SLEEP_MOST_NS = 8000000
    # Where the tasks know when there may be something to read: barriers and timers wait so long for them.
    SLEEP_KNOWN_NS = 4000000


cdef inline int64_t sleep_after(int64_t idle) noexcept nogil:
    cdef int64_t most = max(<int64_t>SLEEP_SHORT_NS, min(idle // IDLE_TO_DOZE, <int64_t>SLEEP_MOST_NS))
    return min(max(idle // IDLE_TO_SLEEP, <int64_t>SLEEP_LEAST_NS), most)


cdef class WorkerLoop:
    """One thread's tasks. `alone`: nobody else sends them anything."""
    cdef bint alone
    cdef list tasks
    cdef void** refs
    cdef int n_tasks
    cdef int64_t stopping
    cdef int64_t asked                       # whether there are questions
    cdef object questions                    # functions to be called between two steps

    def __init__(self, list tasks, bint alone=False):
        self.alone = alone
        self.tasks = tasks
        self.questions = deque()
        self.n_tasks = len(tasks)
        self.refs = references(tasks)

    def __dealloc__(self):
        free(self.refs)

    def run(self):
        """Step until `stop`; an error of a task ends the loop and is raised."""
        cdef int i, progress
        cdef int64_t sleep, idle = 0
        with nogil:
            while not atomic_load(&self.stopping):
                if atomic_load(&self.asked):
                    with gil:
                        self.answer()
                progress = 0
                for i in range(self.n_tasks):
                    progress |= (<Task>self.refs[i]).step()
                if progress:
                    idle = 0
                else:
                    sleep = max(sleep_after(idle), self.until_read())
                    sleep_ns(sleep)
                    idle += sleep

    cdef int64_t until_read(self) noexcept nogil:
        """Return for how many ns no task can have anything to read; 0 where that is not known."""
        cdef int i
        cdef int64_t at = INT64_MAX
        if not self.alone:
            return 0
        for i in range(self.n_tasks):
            if not (<Task>self.refs[i]).ended:
                at = min(at, (<Task>self.refs[i]).next_read_ns)
        if at == 0 or at == INT64_MAX:
            return 0
        return min(at - (<Task>self.refs[0]).clock.now_ns(), <int64_t>SLEEP_KNOWN_NS)

    def ask(self, question):
        """Have `question()` called by the thread of these tasks, between two steps. It must not raise, and it must be short."""
        self.questions.append(question)
        atomic_store(&self.asked, 1)

    cdef int answer(self) except -1:
        atomic_store(&self.asked, 0)
        while self.questions:
            self.questions.popleft()()
        return 0

    def stop(self):
        """End the loop after the current step."""
        atomic_store(&self.stopping, 1)
