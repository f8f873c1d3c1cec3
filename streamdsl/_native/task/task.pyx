"""The task: reads one stream element after another and dispatches it by the one switch in `read_input`.

Somebody else decides when `step` is called: a worker thread, a seeded scheduler, a test driver.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free

from streamdsl._native.flow.batch cimport batch_release, batch_retain, batch_slice
from streamdsl._native.flow.channel cimport BARRIER, END, RECORDS, STATUS, WATERMARK
from streamdsl._native.flow.pace cimport FREE_ROWS, PACE_NS, PACED_ROWS, Pace
from streamdsl._native.includes.atomic cimport atomic_load, atomic_store
from streamdsl._native.includes.checked cimport CHECK, CHECKED_BUILD, FAULT, PLANTED
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.keyed cimport OUTPUT_ROWS, KeyedOperator
from streamdsl._native.operators.output cimport Output
from streamdsl._native.operators.sink cimport SinkOperator
from streamdsl._native.operators.user_code cimport UserCodeOperator
from streamdsl._native.snapshot.barrier_aligner cimport ALIGN_ABANDON, ALIGN_COMPLETE, ALIGN_STALE

cdef enum:
    DRAIN_ROWS = 512         # rows of pending state written in one step
    FEW_ROWS = 3             # the same in the checked build: even a small state is pending for a while


def has_functions(spec):
    """Return whether the operator calls functions of the user's: of an aggregate, a reduction, a Processor's windows."""
    own = any(aggregate.kind == "custom" for aggregate in getattr(spec, "aggregates", ()))
    return own or hasattr(spec, "function") or hasattr(spec, "processor")


cdef void** references(list items) except? NULL:
    cdef int i
    cdef void** refs = <void**>calloc(len(items) + 1, sizeof(void*))
    if refs == NULL:
        raise MemoryError("no memory left for a task")
    for i in range(len(items)):
        refs[i] = <void*><PyObject*>items[i]
    return refs


cdef class Task:
    """`chain` says what runs (see `runtime.chain`), its operators what they want to be asked and told.

    `listener` has on_snapshot, on_failure and on_end.
    """

    def __init__(self, str id, str title, chain, InputGate gate, Clock clock, listener):
        self.id = id
        self.title = title
        self.clock = clock
        self.listener = listener
        self.store = chain.store
        self.operators = chain.operators
        self.owned_shards = chain.owned_shards
        self.gate = gate
        self.watermark = INT64_MIN
        self.drain_rows = FEW_ROWS if CHECKED_BUILD else DRAIN_ROWS
        distinct = list({id_of(head): head for head in chain.heads}.values())
        declared = [(operator, operator.declare()) for operator in chain.operators]
        settling = [operator for operator, says in declared if says.settles]
        sinks = [operator for operator in chain.operators if isinstance(operator, SinkOperator)]
        limited = [operator for operator, says in declared if says.room and isinstance(operator, SinkOperator)]
        holding = [operator for operator, says in declared if says.room and not isinstance(operator, SinkOperator)]
        self.most_at_once = min([says.most_rows for _, says in declared if says.most_rows], default=FREE_ROWS)
        timed = [operator for operator, says in declared if says.wakeups]
        closers = [operator for operator, says in declared if says.deadlines]
        self.keep = [chain.heads, distinct, chain.outputs, settling, sinks, limited, holding, timed, closers]
        self.heads = references(chain.heads)
        self.distinct_heads = references(distinct)
        self.n_heads = len(distinct)
        self.outputs = references(chain.outputs)
        self.n_outputs = len(chain.outputs)
        self.settling = references(settling)
        self.n_settling = len(settling)
        self.sinks = references(sinks)
        self.n_sinks = len(sinks)
        self.limited = references(limited)
        self.n_limited = len(limited)
        self.holding = references(holding)
        self.n_holding = len(holding)
        self.timed = references(timed)
        self.n_timed = len(timed)
        self.closers = references(closers)
        self.n_closers = len(closers)
        self.closing_rows = FEW_ROWS if CHECKED_BUILD else OUTPUT_ROWS
        if gate is not None:
            self.valve = WatermarkValve(gate.size)
            self.aligner = BarrierAligner(gate.size)

    def __dealloc__(self):
        free(self.heads)
        free(self.distinct_heads)
        free(self.outputs)
        free(self.settling)
        free(self.sinks)
        free(self.limited)
        free(self.holding)
        free(self.timed)
        free(self.closers)
        batch_release(self.rest)

    def keep_pace(self, list paces):
        """Measure user code, if the task runs any, and tell the sources in front of it how many rows it is through with soon."""
        calls = [(<UserCodeOperator>operator).by_row for operator in self.operators if isinstance(operator, UserCodeOperator)]
        keyed = [operator for operator in self.operators if isinstance(operator, KeyedOperator)]
        calls += [True for operator in keyed if has_functions((<KeyedOperator>operator).spec)]
        self.paced = len(calls) > 0
        if not self.paced:
            return
        self.most_rows = PACED_ROWS if any(calls) else FREE_ROWS
        self.pace_rows = self.pace_closing = 1 if any(calls) else FREE_ROWS
        self.paces = [(pace, pace.join(any(calls))) for pace in paces]

    def expect_nothing(self, list inputs):
        """Take the inputs (their numbers) as ended from the start: only barriers and END will come from them."""
        for input in inputs:
            self.valve.on_end(input)

    def name_inputs(self, str stage, list names):
        """Say by which names a checkpoint knows the task's stage and its inputs: (operator that emits, its task's index, its tasks)."""
        self.stage_name = stage
        self.input_names = names

    def restore_inputs(self, int64_t watermark, behind):
        """Leave the inputs `behind` (their numbers) out of the minimum until they have caught up with `watermark`, as before a restore."""
        cdef int i
        cdef bint* new
        new = <bint*>calloc(self.gate.size + 1, sizeof(bint))
        if new == NULL:
            raise MemoryError("no memory left for a task")
        for i in range(self.gate.size):
            new[i] = i not in behind
        self.valve.start_at(watermark, new)
        free(new)

    def read_in_order(self, ReadOrder order, int number):
        """Keep to rounds of event time; `number` is the task's in `order`."""
        self.order = order
        self.number = number

    def step_once(self):
        """Do a bounded piece of work; return whether there was any."""
        cdef int progress
        with nogil:
            progress = self.step()
        return progress != 0

    cdef int step(self) except -1 nogil:
        cdef int i, progress = 0
        cdef bint waking = False             # timers that are due come before all else
        cdef int64_t now, began = self.clock.now_ns()
        self.next_read_ns = 0
        if atomic_load(&self.committed):
            with gil:
                self._commit()
        for i in range(self.n_outputs):
            progress |= (<Output>self.outputs[i]).flush()
        if self.store is not None and self.store.barrier >= 0:
            progress |= self.store.write_pending(self.drain_rows)
        for i in range(self.n_outputs):
            if (<Output>self.outputs[i]).n_waiting:
                self.blocked += 1
                return progress          # back-pressure: nothing more is read
        if self.order is not None:
            # Before another round is begun: others may wait for this one while they have no room for the next.
            progress |= self.tell_round()
        if self.store is not None and not self.store.make_room():
            self.no_room += 1
            return progress | self.store.evictor.moved       # the state's writer comes first
        for i in range(self.n_sinks):
            (<SinkOperator>self.sinks[i]).on_step(began, self.crowded)
        for i in range(self.n_limited):
            if not (<Operator>self.limited[i]).has_room():
                self.blocked += 1
                return progress          # back-pressure from outside
        for i in range(self.n_timed):
            if self.closing:
                break                        # time stands still while windows close
            now = self.clock.now_ms()
            if (<Operator>self.timed[i]).next_wakeup() <= now:
                (<Operator>self.timed[i]).on_processing_time(now)
                self.settle(False)
                if self.n_closers > 0:
                    self.close_windows()     # an operator may have passed on a watermark that it had held back
                self.quiet = False       # rows may wait in a sink
                progress = 1
                waking |= (<Operator>self.timed[i]).next_wakeup() == INT64_MIN
        if not waking and self.held_back():
            self.blocked += 1
        elif not waking and self.advance():
            self.quiet = False
            progress = 1
        elif not waking:
            self.starved += not self.ended
            if self.n_holding > 0:
                self.next_read_ns = 0        # what is asked of others is answered at any time
            elif self.gate is not None:
                self.next_read_ns = INT64_MAX
            if not self.quiet:
                self.quiet = True
                self.on_quiet()
        if self.order is not None and self.tell_round():
            progress = 1                     # others wait for it
        if progress:
            self.busy_ns += self.clock.now_ns() - began
        return progress

    cdef bint held_back(self) except -1 nogil:
        cdef int i
        if self.closing:
            return False
        for i in range(self.n_holding):
            if not (<Operator>self.holding[i]).has_room():
                return True
        return False

    cdef bint unsettled(self) noexcept nogil:
        cdef int i
        for i in range(self.n_holding):
            if not (<Operator>self.holding[i]).has_room():
                return True
        return False

    cdef int advance(self) except -1 nogil:
        """What has begun comes before what waits: windows that close, timers that fire, a batch in pieces, then the input."""
        if self.closing:
            self.go_on_closing()
            # The end of the input waits for answers from outside, as long as they take: checkpoints do not.
            return self.read_input() | 1 if waits_outside(self) else 1
        if self.rest != NULL:
            return self.go_on()
        return self.read_input()

    cdef int read_input(self) except -1 nogil:
        cdef StreamElement element
        cdef int verdict, input = self.gate.next(&element)
        if input < 0:
            return self.gate.moved
        if self.order is not None:
            self.begin_round(self.gate.round)
        if element.kind == RECORDS:
            try:
                self.take_records(input, element.batch)
            finally:
                batch_release(element.batch)
        elif element.kind == WATERMARK:
            self.valve.on_watermark(input, element.value)
            self.pass_on_time()
        elif element.kind == STATUS:
            self.valve.on_status(input, element.value != 0)
            self.pass_on_time()
        elif element.kind == BARRIER:
            verdict = self.aligner.on_barrier(input, element.value)
            if verdict == ALIGN_COMPLETE:
                self.take_snapshot(element.value)
                self.gate.unblock_all()
            elif verdict != ALIGN_STALE:
                if verdict == ALIGN_ABANDON:
                    self.gate.unblock_all()
                if not PLANTED("no-alignment"):
                    self.gate.block(input)
                FAULT("FP02")
        elif element.kind == END:
            self.valve.on_end(input)
            self.pass_on_time()
            if PLANTED("end-unblocks"):
                self.gate.unblock_all()
            if self.valve.all_ended:
                self.end()
        return 1

    cdef int take_records(self, int input, Batch* batch) except -1 nogil:
        """Process as much of a batch as the memory of state has room for, and user code time; the rest waits for the next step."""
        self.crowded = batch.n >= CROWD_ROWS
        if batch.n <= self.piece_rows():
            return self.on_records(input, batch)
        batch_retain(batch)
        self.rest = batch
        self.rest_at = 0
        self.rest_input = input
        return self.go_on()

    cdef int64_t piece_rows(self) noexcept nogil:
        cdef int64_t rows = self.most_at_once if self.store is None else min(self.most_at_once, self.store.evictor.piece_rows)
        return min(rows, self.pace_rows) if self.paced else rows

    cdef int64_t fitting(self, int64_t rows, int64_t ns, int64_t before) noexcept nogil:
        """Return how many rows, or windows, take PACE_NS if so many have taken `ns`; four times as many as before at most."""
        cdef int64_t fitting = self.most_rows if ns <= 0 else <int64_t>(<double>PACE_NS / <double>ns * <double>rows)
        return max(min(fitting, 4 * before, self.most_rows), <int64_t>1)

    cdef int note_pace(self, int64_t rows, int64_t ns) except -1 nogil:
        """Give user code as many rows next time as it is through with in PACE_NS."""
        cdef int64_t fitting = self.fitting(rows, ns, self.pace_rows)
        if fitting == self.pace_rows and self.told:
            return 0
        self.pace_rows = fitting
        self.told = True
        with gil:
            for pace, member in self.paces:
                (<Pace>pace).tell(member, fitting)
        return 0

    cdef int go_on(self) except -1 nogil:
        cdef int64_t n = min(self.piece_rows(), <int64_t>(self.rest.n - self.rest_at))
        cdef Batch* piece = batch_slice(self.rest, self.rest_at, <int32_t>n)
        self.rest_at += <int32_t>n
        if self.rest_at == self.rest.n:
            batch_release(self.rest)
            self.rest = NULL
        try:
            self.on_records(self.rest_input, piece)
        finally:
            batch_release(piece)
        return 1

    cdef int on_records(self, int input, Batch* batch) except -1 nogil:
        cdef int64_t began = self.clock.now_ns() if self.paced else 0
        self.processed += batch.n
        self.batches += 1
        (<Operator>self.heads[input]).process(batch)
        (<Operator>self.heads[input]).end_batch()
        self.settle(True)
        if self.paced:
            self.note_pace(batch.n, self.clock.now_ns() - began)
        return 0

    cdef int pass_on_time(self) except -1 nogil:
        """Tell the chain what has changed of watermark and idleness; rows made on the way leave before the watermark.

        While windows close or timers fire, the valve keeps what comes: it is passed on behind them.
        """
        cdef int i
        CHECK(self.valve.watermark >= self.watermark or self.watermark == INT64_MIN, "a watermark never goes back")
        if self.closing:
            return 0
        if self.valve.watermark > self.watermark:
            self.watermark = self.valve.watermark
            for i in range(self.n_heads):
                (<Operator>self.distinct_heads[i]).on_watermark(self.watermark)
            self.settle(False)
            if self.n_closers > 0:
                self.close_windows()
                if self.closing:
                    return 0
        if self.valve.all_idle != self.idle:
            self.idle = self.valve.all_idle
            for i in range(self.n_heads):
                (<Operator>self.distinct_heads[i]).on_idle(self.idle)
            self.settle(False)
        return 0

    cdef void begin_round(self, int64_t round) noexcept nogil:
        """What is emitted from now on belongs to `round`."""
        cdef int i
        if round < INT64_MAX:
            for i in range(self.n_outputs):
                (<Output>self.outputs[i]).round = round

    cdef int64_t round_over(self) noexcept nogil:
        return -1 if self.gate.busy or self.unsettled() else self.gate.round

    cdef bint tell_round(self) noexcept nogil:
        """Tell the tasks behind this one once all rows of a round are in the channels."""
        cdef int i
        cdef int64_t over = self.round_over()
        if over <= self.told_round or self.closing or self.rest != NULL:
            return False
        for i in range(self.n_outputs):
            if (<Output>self.outputs[i]).n_waiting:
                return False
        self.told_round = over
        self.order.finish(self.number, over)
        return True

    cdef int close_windows(self) except -1 nogil:
        """Have windows close and timers fire, as many as the memory of state has room for; the others follow in the next steps.

        An operator whose last window has closed, or whose last timer has fired, passes the watermark on, and those behind it begin.
        """
        cdef int i
        cdef int64_t most, left = self.closing_rows
        cdef int64_t began = self.clock.now_ns() if self.paced else 0
        if self.store is not None:
            left = min(left, self.store.evictor.piece_rows)
        if self.paced:
            left = min(left, self.pace_closing)
        most = left
        while True:
            self.closing = False
            for i in range(self.n_closers):
                self.closing |= (<Operator>self.closers[i]).closing
            if not self.closing or left <= 0:
                if self.paced and left < most:
                    self.pace_closing = self.fitting(most - left, self.clock.now_ns() - began, self.pace_closing)
                return 0
            # The last of the chain first: nothing comes to an operator while its windows close.
            for i in range(self.n_closers - 1, -1, -1):
                if (<Operator>self.closers[i]).closing:
                    left -= (<Operator>self.closers[i]).go_on_closing(left)
                    break
            self.settle(False)

    cdef int go_on_closing(self) except -1 nogil:
        self.close_windows()
        if not self.closing:
            self.pass_on_time()              # what has come meanwhile
            if self.gate is not None and self.valve.all_ended:
                self.end()
        return 1

    cdef int settle(self, bint ended_batch) except -1 nogil:
        cdef int i
        for i in range(self.n_settling):
            (<Operator>self.settling[i]).settle(ended_batch)
        return 0

    cdef int take_snapshot(self, int64_t checkpoint_id) except -1 nogil:
        """Mark the state, then pass the barrier on: nothing is processed in between. A failure is reported, the barrier goes on.

        Handing rows to a sink is not part of the snapshot: where that fails, rows are lost, and so the task fails.
        """
        cdef int i
        for i in range(self.n_sinks):
            (<SinkOperator>self.sinks[i]).hand_over()
        self.settle(False)                   # dead letters of the sinks
        with gil:
            self._snapshot(checkpoint_id)
        FAULT("FP03")
        for i in range(self.n_outputs):
            (<Output>self.outputs[i]).broadcast(BARRIER, checkpoint_id)
        return 0

    def _snapshot(self, int64_t checkpoint_id):
        try:
            part = self.snapshot_part(checkpoint_id)
        except Exception as error:       # the edge of the task: whatever it was, the coordinator must hear of it
            part = None
            self.listener.on_snapshot_failed(self.id, checkpoint_id, error)
        if self.store is not None:
            self.store.begin(checkpoint_id)
        if part is not None:
            self.listener.on_snapshot(self.id, checkpoint_id, part)

    def snapshot_part(self, checkpoint_id):
        """Return this task's part of a checkpoint, keyed state apart: JSON values by operator name."""
        operators = {}
        for operator in self.operators:
            state = operator.snapshot(checkpoint_id)
            if state is not None:
                operators[operator.name] = state
        part = {
            "operators": operators,
            "shard_watermarks": {
                operator.name: operator.shard_state(self.owned_shards) for operator in self.operators if isinstance(operator, KeyLookup)
            },
            "arrivals": max([operator.arrived() for operator in self.operators if isinstance(operator, KeyLookup)], default=0),
        }
        if self.gate is not None and not self.valve.all_ended:
            part["behind"] = {self.stage_name: {
                "watermark": self.valve.watermark,
                "inputs": [list(self.input_names[input]) for input in self.valve.behind()],
                "timely": sorted({self.input_names[input][0] for input in self.valve.timely()}),
            }}
        return part

    cdef int on_quiet(self) except -1 nogil:
        cdef int i
        for i in range(self.n_sinks):
            (<SinkOperator>self.sinks[i]).on_quiet()
        self.settle(False)                   # dead letters of the sinks
        return 0

    cdef int end(self) except -1 nogil:
        cdef int i
        if self.ended or self.closing:       # the last windows and timers come first
            return 0
        self.on_quiet()
        self.ended = True
        for i in range(self.n_outputs):
            (<Output>self.outputs[i]).broadcast(END, 0)
        with gil:
            self.listener.on_end(self.id)
        return 0

    def commit(self, int64_t checkpoint_id):
        """Have the sinks told, in the task's next step, that the checkpoint has completed."""
        atomic_store(&self.committed, checkpoint_id)

    def commit_now(self):
        """Tell the sinks at once; only for a task that is no longer stepped."""
        if self.committed:
            self._commit()

    def _commit(self):
        checkpoint_id = self.committed
        atomic_store(&self.committed, 0)
        for sink in self.keep[4]:
            sink.commit(checkpoint_id)

    def close(self):
        """Close what the operators hold: sink writers, processors."""
        close_all([operator for operator in self.operators if hasattr(operator, "close")])

    def abandon(self):
        """Let threads and connections of operators go; nothing is flushed, and no writer, reader or Processor is told."""
        for operator in self.operators:
            if hasattr(operator, "abandon"):
                operator.abandon()

    def metrics(self):
        """Return the task's figures and those of its operators."""
        operators = {operator.name: operator.metrics() for operator in self.operators}
        return {
            "id": self.id, "name": self.title, "processed": self.processed, "batches": self.batches,
            "busy_ms": self.busy_ns // 1_000_000, "blocked": self.blocked, "starved": self.starved, "no_room": self.no_room,
            "ended": self.ended,
            "watermark": None if self.watermark == INT64_MIN else self.watermark, "idle": self.idle,
            "operators": {name: figures for name, figures in operators.items() if figures},
        }

    def latency_buckets(self):
        """Return the latency histogram of the task's sinks."""
        total = {}
        for sink in self.keep[4]:
            for bucket, rows in sink.latency_buckets().items():
                total[bucket] = total.get(bucket, 0) + rows
        return total

    def operators_of_chain(self):
        """Return the operators, head to tail."""
        return list(self.operators)

    def operator(self, str name):
        """Return the operator of that name, or None."""
        for operator in self.operators:
            if operator.name == name:
                return operator
        return None


cdef bint waits_outside(Task task) noexcept nogil:
    """Whether all input has ended, and nothing but calls that are under way is in front of the end."""
    cdef int i, k
    cdef bint outside
    if not task.closing or not task.valve.all_ended:
        return False
    for i in range(task.n_closers):
        outside = not (<Operator>task.closers[i]).closing
        for k in range(task.n_holding):
            outside |= task.closers[i] == task.holding[k]
        if not outside:
            return False
    return True


def close_all(things):
    """Close all of them, whatever happens on the way; the first error is raised."""
    first = None
    for thing in things:
        try:
            thing.close()
        except Exception as error:       # whatever a connector or a Processor raises
            first = first or error
    if first is not None:
        raise first


cdef object id_of(object thing):
    return <size_t><PyObject*>thing
