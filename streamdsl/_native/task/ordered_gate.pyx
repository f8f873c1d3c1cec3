"""See ordered_gate.pxd.

Rows of a round that is not complete are taken out of their channels all the same and wait here (a batch of each split at most):
a full channel would keep its producer from finishing the round.
"""
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

from streamdsl._native.event_time.read_order cimport not_after, places
from streamdsl._native.flow.batch cimport (
    KIND_DEC, SYS_ORDINAL, batch_concat, batch_release, batch_take, column_alloc, column_clear,
)
from streamdsl._native.flow.channel cimport BARRIER, RECORDS, Channel
from streamdsl._native.includes.atomic cimport atomic_load
from streamdsl._native.includes.checked cimport CHECK, PLANTED


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for rows that wait for others of their time")


cdef bint ascends(const Column* column, int32_t n) noexcept nogil:
    cdef int32_t row
    for row in range(1, n):
        if not not_after(places(column) + row - 1, places(column) + row):
            return False
    return True


cdef void merge_runs(Merge* merge) noexcept nogil:
    """Sort the rows by place: neighbouring runs become one, until there is one. Of equal places what was staged first comes first."""
    cdef int32_t left, middle, right, end, out
    cdef int i, n
    cdef int32_t* swap
    while merge.n_runs > 1:
        n = 0
        for i in range(0, merge.n_runs, 2):
            left = out = merge.run_starts[i]
            right = middle = merge.run_starts[i + 1]
            end = merge.run_starts[i + 2] if i + 1 < merge.n_runs else middle
            while left < middle or right < end:
                if right == end or (left < middle and not_after(merge.places + merge.rows[left], merge.places + merge.rows[right])):
                    merge.scratch[out] = merge.rows[left]
                    left += 1
                else:
                    merge.scratch[out] = merge.rows[right]
                    right += 1
                out += 1
            merge.run_starts[n] = merge.run_starts[i]
            n += 1
        merge.run_starts[n] = merge.n
        merge.n_runs = n
        swap = merge.rows
        merge.rows = merge.scratch
        merge.scratch = swap


cdef Batch* taken_rows(Merge* merge, int port, int32_t* rows, int32_t n) except NULL nogil:
    """Return rows of one port; each with the place that it has been given."""
    cdef int32_t i
    cdef Batch* out
    cdef Column given
    memset(&given, 0, sizeof(Column))
    column_alloc(&given, KIND_DEC, n, 0)
    for i in range(n):
        places(&given)[i] = merge.places[rows[i]]
        rows[i] -= merge.port_starts[port]
    out = batch_take(merge.ports[port], rows, n)
    column_clear(&out.sys[SYS_ORDINAL])
    out.sys[SYS_ORDINAL] = given
    return out


cdef class OrderedGate(InputGate):
    """Reads nothing before `follow`."""

    def follow(self, ReadOrder order not None, list producers, list ports, bint interleaved):
        """Read by the rounds of `order`. By input: the number of the task that writes it, its port.

        Rows of one port come as one batch a round. `interleaved`: so do those of several ports, as far as event time allows.
        """
        cdef int i
        self.order = order
        self.interleaved = interleaved
        self.producers = <int*>calloc(2 * self.size + 2, sizeof(int))
        self.held = <bint*>calloc(self.size + 1, sizeof(bint))
        self.reached = <int64_t*>calloc(self.size + 1, sizeof(int64_t))
        if self.producers == NULL or self.held == NULL or self.reached == NULL:
            raise MemoryError("no memory left for an input gate")
        self.ports = self.producers + self.size
        for i in range(self.size):
            self.producers[i] = producers[i]
            self.ports[i] = ports[i]

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_staged):
            batch_release(self.staged[i])
        free(self.staged)
        free(self.staged_input)
        free(self.staged_part)
        free(self.staged_rows)
        free(self.pending)
        free(self.pending_input)
        free(self.producers)
        free(self.held)
        free(self.reached)

    cdef int64_t complete(self) noexcept nogil:
        """Return the round up to which every producer has emitted all it has; see `reached`."""
        cdef int i
        cdef int64_t least = INT64_MAX
        for i in range(self.size):
            least = min(least, self.reached[i])
        return least

    cdef int next(self, StreamElement* element) except -2 nogil:
        cdef int i, at
        cdef int64_t complete, head, lowest = INT64_MAX
        self.moved = False
        if self.busy:
            return self.next_pending(element)
        if self.random:
            self.random = self.random * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
            self.turn = <int>((self.random >> 33) % <uint64_t>self.size)
        # Asked first: what is in a channel by then belongs to a complete round, or comes behind all of them.
        for i in range(self.size):
            self.reached[i] = atomic_load(&self.order.done[self.producers[i]])
        for i in range(self.size):
            at = (self.turn + i) % self.size
            head = (<Channel>self.refs[at]).head_round()
            if head <= self.round and not self.blocked[at] and not self.held[at] and (<Channel>self.refs[at]).poll(element):
                self.turn = (at + 1) % self.size
                return at
            lowest = min(lowest, head)
        complete = self.complete()
        for i in range(self.size):
            if self.blocked[i] and atomic_load(&self.order.done[self.producers[i]]) < INT64_MAX:
                return -1            # the barriers of all others stand behind the same round
        if self.staging == 0 and complete > self.round and (lowest > complete or lowest == INT64_MAX):
            self.round = complete
            self.moved = True
            return -1
        if self.round == INT64_MAX:
            return -1
        # The lowest round that is there comes next, if none below can come.
        head = self.staging
        if head == 0:
            head = lowest if complete > self.round and lowest < INT64_MAX else self.round + 1
        self.stage(head)
        if complete < head:
            return -1
        for i in range(self.size):
            if self.blocked[i] and (<Channel>self.refs[i]).head_round() <= head:
                return -1            # rows of this round stand behind a barrier
        if head > self.round + 1 and not PLANTED("passed-rounds-untold"):
            # Told before rows of `head` may wait for room: two tasks behind this one may wait for one another's rows else.
            self.round = head - 1
            self.moved = True
            return -1
        self.round = head
        return self.emit_round(element)

    cdef int next_pending(self, StreamElement* element) except -2 nogil:
        cdef int input = self.pending_input[self.at_pending]
        element[0] = self.pending[self.at_pending]
        self.held[input] = False
        self.at_pending += 1
        if self.at_pending == self.n_pending:
            self.at_pending = self.n_pending = 0
            self.busy = False
        return input

    cdef int stage(self, int64_t round) except -1 nogil:
        """Take what belongs to `round` out of the channels."""
        cdef int i
        cdef StreamElement element
        for i in range(self.size):
            while not self.blocked[i] and not self.held[i] and (<Channel>self.refs[i]).head_round() <= round:
                (<Channel>self.refs[i]).poll(&element)
                self.keep(i, &element)
                self.staging = round
                self.moved = True
                self.held[i] = element.kind == BARRIER
        return 0

    cdef int keep(self, int input, StreamElement* element) except -1 nogil:
        cdef int at
        if element.kind == RECORDS:
            if self.n_staged == self.capacity:
                self.capacity = 2 * self.capacity + 8
                self.staged = <Batch**>realloc(self.staged, self.capacity * sizeof(Batch*))
                self.staged_input = <int*>realloc(self.staged_input, self.capacity * sizeof(int))
                self.staged_part = <int*>realloc(self.staged_part, self.capacity * sizeof(int))
                self.staged_rows = <int32_t*>realloc(self.staged_rows, self.capacity * sizeof(int32_t))
                if self.staged == NULL or self.staged_input == NULL or self.staged_part == NULL or self.staged_rows == NULL:
                    no_memory()
            at = self.n_staged
            while at > 0 and self.staged_input[at - 1] > input:
                # Equal places: by input, not by which came first.
                self.staged[at], self.staged_input[at] = self.staged[at - 1], self.staged_input[at - 1]
                self.staged_part[at] = self.staged_part[at - 1]
                at -= 1
            self.staged[at], self.staged_input[at], self.staged_part[at] = element.batch, input, element.part
            self.n_staged += 1
            return 0
        self.reserve_pending()
        self.pending[self.n_pending] = element[0]
        self.pending_input[self.n_pending] = input
        self.n_pending += 1
        return 0

    cdef int reserve_pending(self) except -1 nogil:
        if self.n_pending < self.pending_capacity:
            return 0
        self.pending_capacity = 2 * self.pending_capacity + 8
        self.pending = <StreamElement*>realloc(self.pending, self.pending_capacity * sizeof(StreamElement))
        self.pending_input = <int*>realloc(self.pending_input, self.pending_capacity * sizeof(int))
        if self.pending == NULL or self.pending_input == NULL:
            no_memory()
        return 0

    cdef int put_first(self, int at, int input, Batch* batch) except -1 nogil:
        """Put rows in front of what stood behind them, as number `at` of those that are put there."""
        self.reserve_pending()
        memmove(self.pending + at + 1, self.pending + at, (self.n_pending - at) * sizeof(StreamElement))
        memmove(self.pending_input + at + 1, self.pending_input + at, (self.n_pending - at) * sizeof(int))
        self.pending[at].kind = RECORDS
        self.pending[at].value = 0
        self.pending[at].round, self.pending[at].part = self.round, 0
        self.pending[at].batch = batch
        self.pending_input[at] = input
        self.n_pending += 1
        return 0

    cdef int emit_round(self, StreamElement* element) except -2 nogil:
        """The rows of the round, what stood behind them follows."""
        self.moved = True
        self.staging = 0
        if self.n_staged > 0:
            self.merged()
        self.busy = self.n_pending > 0
        return self.next_pending(element) if self.busy else -1

    cdef int merged(self) except -1 nogil:
        """Put the staged rows first, in the order of their places."""
        cdef int i, n_ports = 0, first = 0, n_batches = self.n_staged
        cdef Merge merge
        self.n_staged = 0
        if n_batches == 1 and ascends(&self.staged[0].sys[SYS_ORDINAL], self.staged[0].n):
            return self.put_first(0, self.staged_input[0], self.staged[0])
        memset(&merge, 0, sizeof(Merge))
        try:
            self.reserve_merge(&merge, n_batches)
            while first < n_batches:
                i = first
                while i < n_batches and self.ports[self.staged_input[i]] == self.ports[self.staged_input[first]]:
                    i += 1
                merge.inputs[n_ports] = self.staged_input[first]
                merge.port_starts[n_ports] = merge.n
                merge.ports[n_ports] = self.together(first, i - first)
                n_ports += 1
                self.add_runs(&merge, first, i, merge.ports[n_ports - 1])
                first = i
            merge.port_starts[n_ports] = merge.run_starts[merge.n_runs] = merge.n
            merge_runs(&merge)
            self.put_rows(&merge, n_ports)
        finally:
            for i in range(n_ports):
                batch_release(merge.ports[i])
            free(merge.ports)
            free(merge.places)
        return 0

    cdef int reserve_merge(self, Merge* merge, int n_batches) except -1 nogil:
        cdef int i
        cdef int64_t total = 0
        for i in range(n_batches):
            total += self.staged[i].n
        merge.ports = <Batch**>calloc(n_batches + 1, sizeof(Batch*) + 3 * sizeof(int))
        merge.places = <Place*>malloc((total + 1) * (sizeof(Place) + 2 * sizeof(int32_t)))
        if merge.ports == NULL or merge.places == NULL:
            no_memory()
        merge.inputs = <int*>(merge.ports + n_batches + 1)
        merge.port_starts = <int32_t*>(merge.inputs + n_batches + 1)
        merge.run_starts = merge.port_starts + n_batches + 1
        merge.rows = <int32_t*>(merge.places + total + 1)
        merge.scratch = merge.rows + total + 1
        return 0

    cdef int add_runs(self, Merge* merge, int first, int end, const Batch* batch) except -1 nogil:
        """Note the runs among the staged batches first .. end, which `batch` holds."""
        cdef int i
        cdef int32_t row, at = 0
        cdef bint new
        cdef const Place* own = places(&batch.sys[SYS_ORDINAL])
        CHECK(batch.sys[SYS_ORDINAL].kind == KIND_DEC, "rows that are merged have places")
        for i in range(first, end):
            new = i == first or self.staged_input[i] != self.staged_input[i - 1] or self.staged_part[i] != self.staged_part[i - 1]
            if new:
                merge.run_starts[merge.n_runs] = merge.n
                merge.n_runs += 1
            for row in range(at, at + self.staged_rows[i]):
                # One that came behind others stays behind them, whatever its own place.
                if new or not_after(merge.places + merge.n - 1, own + row):
                    merge.places[merge.n] = own[row]
                else:
                    merge.places[merge.n] = merge.places[merge.n - 1]
                merge.rows[merge.n] = merge.n
                merge.n += 1
                new = False
            at += self.staged_rows[i]
        return 0

    cdef int put_rows(self, Merge* merge, int n_ports) except -1 nogil:
        """Put them first in this order; where ports are not interleaved, as one batch for each."""
        cdef int port, pieces = 0
        cdef int32_t at = 0, end, taken
        if self.interleaved or n_ports == 1:
            while at < merge.n:
                port = 0
                while merge.rows[at] >= merge.port_starts[port + 1]:
                    port += 1
                end = at
                while end < merge.n and merge.port_starts[port] <= merge.rows[end] < merge.port_starts[port + 1]:
                    end += 1
                self.put_first(pieces, merge.inputs[port], taken_rows(merge, port, merge.rows + at, end - at))
                pieces += 1
                at = end
            return 0
        for port in range(n_ports):
            taken = 0
            for at in range(merge.n):
                if merge.port_starts[port] <= merge.rows[at] < merge.port_starts[port + 1]:
                    merge.scratch[taken] = merge.rows[at]
                    taken += 1
            self.put_first(port, merge.inputs[port], taken_rows(merge, port, merge.scratch, taken))
        return 0

    cdef Batch* together(self, int first, int n) except NULL nogil:
        """Return `n` staged batches as one."""
        cdef int i
        cdef Batch* out
        if n == 1:
            self.staged_rows[first] = self.staged[first].n
            return self.staged[first]
        out = batch_concat(self.staged + first, n)
        for i in range(first, first + n):
            out.read_ns = min(out.read_ns, self.staged[i].read_ns)
            self.staged_rows[i] = self.staged[i].n
            batch_release(self.staged[i])
        return out
