"""See ordered_gate.pxd.

Rows of a round that is not complete are taken out of their channels all the same and wait here (a batch of each split at most):
a full channel would keep its producer from finishing the round.
"""
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove

from streamdsl._native.flow.batch cimport SYS_TIME, batch_concat, batch_release, batch_take, i64
from streamdsl._native.flow.channel cimport BARRIER, RECORDS, Channel
from streamdsl._native.includes.atomic cimport atomic_load
from streamdsl._native.includes.checked cimport PLANTED


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory left for rows that wait for others of their time")


cdef bint before(const Run* left, const Run* right) noexcept nogil:
    """Whether the next row of `left` comes first, where `left` was staged first."""
    return left.time < right.time or (left.time == right.time and left.rank <= right.rank)


cdef class OrderedGate(InputGate):
    """Reads nothing before `follow`."""

    def follow(self, ReadOrder order not None, list producers, list ranks, list ports, bint interleaved):
        """Read by the rounds of `order`. By input: the number of the task that writes it, the place of its source, its port.

        Rows of one port come as one batch a round. `interleaved`: so do those of several ports, as far as event time allows.
        """
        cdef int i
        self.order = order
        self.interleaved = interleaved
        self.producers = <int*>calloc(3 * self.size + 3, sizeof(int))
        self.held = <bint*>calloc(self.size + 1, sizeof(bint))
        self.reached = <int64_t*>calloc(self.size + 1, sizeof(int64_t))
        if self.producers == NULL or self.held == NULL or self.reached == NULL:
            raise MemoryError("no memory left for an input gate")
        self.ranks = self.producers + self.size
        self.ports = self.ranks + self.size
        for i in range(self.size):
            self.producers[i] = producers[i]
            self.ranks[i] = ranks[i]
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
            if head < INT64_MAX and not PLANTED("round-behind-full-channel"):
                # Its producer may have passed over rounds without a row, and say so only once there is room for this one's.
                self.reached[at] = max(self.reached[at], head - 1)
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
                # Equal times of one source: by input, not by which came first.
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
        """Put the staged rows first, by time; of equal times those of the source declared first come first."""
        cdef int i, best, second, n = 0, n_ports = 0, first = 0, n_batches = self.n_staged
        cdef int32_t at = 0, total = 0
        cdef Run* runs
        cdef int32_t* rows
        cdef int32_t* row_ports
        cdef Batch** ports
        cdef int* inputs
        self.n_staged = 0
        if n_batches == 1:
            return self.put_first(0, self.staged_input[0], self.staged[0])
        runs = <Run*>malloc(n_batches * sizeof(Run))
        ports = <Batch**>malloc(n_batches * (sizeof(Batch*) + sizeof(int)))
        if runs == NULL or ports == NULL:
            no_memory()
        inputs = <int*>(ports + n_batches)
        for i in range(n_batches):
            total += self.staged[i].n
        while first < n_batches:
            i = first
            while i < n_batches and self.ports[self.staged_input[i]] == self.ports[self.staged_input[first]]:
                i += 1
            inputs[n_ports] = self.staged_input[first]
            ports[n_ports] = self.together(first, i - first)
            n = self.runs_of(runs, n, first, i, n_ports, ports[n_ports])
            n_ports += 1
            first = i
        rows = <int32_t*>malloc(2 * (total + 1) * sizeof(int32_t))
        if rows == NULL:
            no_memory()
        row_ports = rows + total
        while at < total:
            best = second = -1
            for i in range(n):
                if runs[i].at == runs[i].end:
                    continue
                if best < 0 or not before(&runs[best], &runs[i]):
                    second = best
                    best = i
                elif second < 0 or not before(&runs[second], &runs[i]):
                    second = i
            while True:
                rows[at] = runs[best].at
                row_ports[at] = runs[best].port
                at += 1
                runs[best].at += 1
                if runs[best].at == runs[best].end:
                    break
                runs[best].time = max(runs[best].time, i64(&ports[runs[best].port].sys[SYS_TIME])[runs[best].at])
                if second >= 0 and not (before(&runs[best], &runs[second]) if best < second else not before(&runs[second], &runs[best])):
                    break
        self.put_rows(rows, row_ports, total, ports, inputs, n_ports)
        for i in range(n_ports):
            batch_release(ports[i])
        free(runs)
        free(ports)
        free(rows)
        return 0

    cdef int runs_of(self, Run* runs, int n, int first, int end, int port, const Batch* batch) noexcept nogil:
        """Note the runs among the staged batches first .. end, which `batch` holds; return how many runs there are then."""
        cdef int i
        cdef int32_t at = 0
        for i in range(first, end):
            if i == first or self.staged_input[i] != self.staged_input[i - 1] or self.staged_part[i] != self.staged_part[i - 1]:
                runs[n] = Run(at, at, i64(&batch.sys[SYS_TIME])[at], self.ranks[self.staged_input[i]], port)
                n += 1
            at += self.staged_rows[i]
            runs[n - 1].end = at
        return n

    cdef int put_rows(self, int32_t* rows, int32_t* row_ports, int32_t n, Batch** ports, const int* inputs, int n_ports) except -1 nogil:
        """Put them first in this order; where ports are not interleaved, as one batch for each."""
        cdef int port, pieces = 0
        cdef int32_t at, end, taken
        cdef int32_t* picked
        if self.interleaved or n_ports == 1:
            at = 0
            while at < n:
                end = at
                while end < n and row_ports[end] == row_ports[at]:
                    end += 1
                port = row_ports[at]
                self.put_first(pieces, inputs[port], batch_take(ports[port], rows + at, end - at))
                pieces += 1
                at = end
            return 0
        picked = <int32_t*>malloc((n + 1) * sizeof(int32_t))
        if picked == NULL:
            no_memory()
        for port in range(n_ports):
            taken = 0
            for at in range(n):
                if row_ports[at] == port:
                    picked[taken] = rows[at]
                    taken += 1
            self.put_first(port, inputs[port], batch_take(ports[port], picked, taken))
        free(picked)
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
