"""A Python view of aggregate states: what tests of them need, nothing that a job uses."""
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free

from streamdsl._native.aggregates.accumulators cimport ADD, CHANGE_WITHDRAWS, EMIT, AccumulatorSet, make_set
from streamdsl._native.aggregates.cell cimport ByteReader
from streamdsl._native.flow.arrow cimport PyBatch, wrap_batch
from streamdsl._native.flow.batch cimport batch_new
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_free, bytes_init

from streamdsl.errors import RecordError, UserCodeError


cdef class States:
    """States of some aggregates, each in memory of its own, by number."""
    cdef Arena arena
    cdef AccumulatorSet accumulators
    cdef list types
    cdef char** states
    cdef int n
    cdef char* saved

    def __init__(self, specs):
        self.arena = Arena()
        self.accumulators = make_set("test", specs, self.arena, 0)
        self.types = [spec.output_type for spec in specs]
        self.states = <char**>calloc(1024, sizeof(char*))
        self.saved = <char*>calloc(1, self.accumulators.saved_size + 8)

    def __dealloc__(self):
        cdef int i
        for i in range(self.n):
            free(self.states[i])
        free(self.states)
        free(self.saved)

    def new(self):
        """Return the number of an empty state."""
        self.states[self.n] = <char*>calloc(1, self.accumulators.size + 8)
        self.n += 1
        return self.n - 1

    def withdraw(self, int state, arguments, rows):
        """Take rows of a batch out again."""
        self.add(state, arguments, rows, 0, True)

    def add(self, int state, arguments, rows, int64_t arrived, bint withdrawn=False):
        """Add rows of a batch, of which row 0 has the number `arrived`; return those that are refused."""
        cdef bytes changes
        cdef PyBatch batch = PyBatch.from_arrow(arguments)
        cdef int32_t row
        cdef list refused = []
        self.accumulators.begin(batch.batch.columns, 0, arrived)
        if withdrawn:
            changes = bytes([CHANGE_WITHDRAWS]) * batch.batch.n
            self.accumulators.follow(<const uint8_t*><const char*>changes)
        for number in rows:
            row = number
            self.accumulators.save(self.states[state], self.saved)
            try:
                self.accumulators.run_those(True, self.states + state, &row, 1, ADD)
                self.accumulators.run_those(False, self.states + state, &row, 1, ADD)
            except (RecordError, UserCodeError):
                self.accumulators.restore(self.states[state], self.saved)
                refused.append(number)
            finally:
                self.accumulators.forget(self.saved)
        return refused

    def merge(self, int into, int other):
        """Add one state to another."""
        self.accumulators.begin(NULL, 0, 0)
        self.accumulators.merge(self.states[into], self.states[other])

    def rewrite(self, int state):
        """Write the state, clear it and read it back; return its bytes."""
        cdef ByteWriter out
        cdef ByteReader source
        bytes_init(&out, 64)
        try:
            self.accumulators.write(self.states[state], &out)
            self.clear(state)
            source.at = out.data
            source.end = out.data + out.used
            self.accumulators.read(self.states[state], &source)
            assert source.at == source.end
            return out.data[:out.used]
        finally:
            bytes_free(&out)

    def clear(self, int state):
        """Make the state empty."""
        self.accumulators.clear(self.states[state])

    def empty(self, int state):
        """Whether the memory of the state is all zero."""
        return self.states[state][:self.accumulators.size] == bytes(self.accumulators.size)

    def results(self, int state):
        """Return the result of each aggregate."""
        cdef PyBatch batch = wrap_batch(batch_new(1, self.accumulators.count))
        self.accumulators.begin(NULL, 1, 0)
        self.accumulators.run(self.states + state, NULL, 1, EMIT)
        self.accumulators.finish(batch.batch.columns)
        names = [f"{i}" for i in range(self.accumulators.count)]
        return [column[0].as_py() for column in batch.to_arrow(names).columns]

    @property
    def kept(self):
        """Bytes that the states hold in the arena."""
        return self.arena.used
