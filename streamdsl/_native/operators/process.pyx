"""A user's Processor: Python with state by key. The GIL is taken once a batch.

Timers fire in pieces. Those of event time do as windows close: the watermark waits behind the last of them (`closing`). Those of
the wall clock that are due together fire before the task does anything else (`waking`), so that an end of the input, or a barrier,
comes behind them.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t

from streamdsl._native.event_time.clock cimport Clock
from streamdsl._native.event_time.timer_entry cimport CLOCK_EVENT, CLOCK_PROCESSING, timer_entry
from streamdsl._native.event_time.timers cimport TimerService
from streamdsl._native.flow.batch cimport SYS_SLOT, SYS_TIME, Batch, i64
from streamdsl._native.includes.checked cimport CHECK, CHECKED_BUILD, FAULT, PLANTED
from streamdsl._native.includes.clock cimport wall_ms
from streamdsl._native.rows.arrow_rows cimport ArrowRows
from streamdsl._native.operators.key_lookup cimport KeyLookup
from streamdsl._native.operators.process_context cimport (
    Context, KeyReader, ProcessTimers, Timer, new_context, undo_log_of,
)
from streamdsl._native.operators.refusals cimport POLICY_FAIL
from streamdsl._native.operators.base cimport Operator
from streamdsl._native.rows.row cimport Row, RowShape, row_new
from streamdsl._native.rows.row_results cimport RESULT_ROWS, result_kind
from streamdsl._native.rows.row_writer cimport RowWriter
from streamdsl._native.operators.user_code cimport UserCodeOperator, check_result
from streamdsl._native.state.key_hash cimport prefetch
from streamdsl._native.state.key_list cimport KeyList, keys_clear, keys_free, keys_push
from streamdsl._native.state.key_table cimport KeyTable
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.state_field cimport SWEEP_ROWS, Scope, StateField
from streamdsl._native.state.undo cimport UndoLog

from streamdsl._native.operators.declaration import Declaration, OwnTable
from streamdsl._native.operators.process_context import (
    CLOCK_NAMES, close_processor, instance_of, next_on_grid, open_processor, overrides, split_name,
)

cdef enum:
    FLUSH_ROWS = 4096        # rows that timers make before they are sent on
    STEP_TIMERS = 256        # timers of the wall clock that fire in one step
    FEW_TIMERS = 3           # the same in the checked build
    AHEAD = 3                # rows between asking for what a state holds and using it


@cython.final
cdef class ProcessPort(Operator):
    """Where the rows of one of two inputs come in. Time comes to both of them, and counts once."""
    cdef ProcessOperator owner
    cdef RowShape shape
    cdef object call                         # the method of the Processor, bound

    def __init__(self, ProcessOperator owner not None, schema, str method):
        self.owner = owner
        self.name = owner.name
        self.shape = RowShape(schema)
        self.call = getattr(owner.processor, method)

    cdef int process(self, Batch* batch) except -1 nogil:
        with gil:
            self.owner.begin_rows()
            self.owner.run_rows(batch, self.shape, self.call)
        return 0

    cdef int end_batch(self) except -1 nogil:
        return self.owner.end_batch()

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        return self.owner.on_watermark(watermark) if watermark > self.owner.watermark else 0

    cdef int on_idle(self, bint idle) except -1 nogil:
        if idle == self.owner.idle:
            return 0
        self.owner.idle = idle
        return self.owner.on_idle(idle)


@cython.final
cdef class ProcessOperator(UserCodeOperator):
    """`spec` is a `PhysicalProcess`, or a `PhysicalConnect`: then it has two inputs, each with a method of the Processor."""
    cdef KeyLookup lookup
    cdef KeyTable table
    cdef Context context
    cdef Scope scope
    cdef Clock clock
    cdef StateField state_field
    cdef ProcessTimers timers
    cdef readonly object processor
    cdef object call                         # processor.process, bound; None: there are two inputs
    cdef bint idle                           # of two inputs
    cdef ArrowRows arrow                     # None: process_batch is not overridden
    cdef int64_t watermark                   # passed on to it
    cdef int64_t latest                      # greatest event time of a record so far
    cdef int64_t latest_before               # the same before the call at hand
    cdef UndoLog undo                        # what the call at hand has written; None: a bad record ends the run
    cdef bint waking                         # an advance of the wall clock is not done yet
    cdef KeyList wanted                      # scratch: keys to be looked up together

    cdef object plan                         # the operator's part of it

    def __init__(self, spec, KeyLookup lookup not None):
        self.prepare(spec, True)
        self.plan = spec
        self.latest = self.watermark = INT64_MIN
        self.lookup = lookup
        self.table = lookup.table
        self.processor = instance_of(spec.processor)

    def declare(self):
        return Declaration(tables=(OwnTable("timers", "clock,time,({key}),name"),), deadlines=True, wakeups=True)

    def open(self, context):
        spec = self.plan
        self.clock = context.clock
        self.timers = ProcessTimers(TimerService(context.tables[0]))
        self.context = new_context(self, self.lookup, KeyReader(self.lookup, spec.key_schema), self.timers)
        self.scope = self.timers.scope = self.context.scope
        open_processor(self.name, self.processor, self.context)
        self.call = getattr(self.processor, "process", None)
        self.by_row = hasattr(spec, "sides") or not overrides(self.processor, "process_batch")
        if not self.by_row:
            self.arrow = ArrowRows(spec.name, spec.input_schema, spec.schema)
        self.state_field = self.context.state.lay_out(self.name)
        self.lookup.add_field(self.state_field)
        self.undo = undo_log_of(self.context)

    def restored(self):
        self.timers.service.restored()

    def port(self, int number):
        sides = getattr(self.plan, "sides", None)
        if sides is None:
            return self
        return ProcessPort(self, sides[number].schema, ("process_left", "process_right")[0 if PLANTED("right-row-as-left") else number])

    def __dealloc__(self):
        keys_free(&self.wanted)

    cdef void follow(self) noexcept nogil:
        self.scope.follow(self.watermark, self.lookup.shard_watermarks, self.lookup.latest_shard)

    cdef int64_t wall(self) noexcept nogil:
        return wall_ms() if self.clock is None else self.clock.now_ms()

    cdef int process(self, Batch* batch) except -1 nogil:
        with gil:
            self.begin_rows()
            if self.arrow is not None:
                self.run_batch(batch)
            else:
                self.run_rows(batch, self.input_shape, self.call)
        return 0

    cdef int begin_rows(self) except -1:
        self.follow()
        self.scope.wall = self.wall()
        return 0

    cdef int run_rows(self, Batch* batch, RowShape shape, object call) except -1:
        cdef int32_t i
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef Context context = self.context
        cdef Scope scope = self.scope
        cdef Row row = row_new(shape, batch, 0)
        cdef bint fails = self.policy == POLICY_FAIL
        context.active = True
        context.reader.slot = -1
        try:
            for i in range(batch.n):
                if Py_REFCNT(row) == 1:      # nobody kept the last row: it serves again
                    row.at = i
                else:
                    row = row_new(shape, batch, i)
                if i + 2 * AHEAD < batch.n:
                    prefetch(self.table.row(slots[i + 2 * AHEAD]) + self.state_field.offset)
                if i + AHEAD < batch.n:
                    self.state_field.prefetch_values(self.table.row(slots[i + AHEAD]) + self.state_field.offset)
                scope.bind(slots[i], times[i])
                context.row = i
                context.time = times[i]
                if not fails:
                    self.note_marks()
                if times[i] > self.latest:
                    self.latest = times[i]
                try:
                    result = call(row, context)
                    if result is not None:
                        self.collect(result, i, times[i], slots[i])
                        result = None
                except Exception as error:   # whatever user code raises
                    self.refuse(error, call.__name__, row, slots[i], times[i])
        finally:
            context.active = False
            scope.unbind()
        return self.flush(batch)

    cdef int collect(self, object result, int32_t row, int64_t time, int64_t slot) except -1:
        """Take what user code returned: a row or an iterable of rows."""
        check_result(result)
        if result_kind(result) != RESULT_ROWS:
            return self.main.append(result, row, time, slot)
        for item in result:
            self.main.append(item, row, time, slot)
        return 0

    cdef int note_marks(self) except -1:
        # What a record has emitted and written before it fails is taken back.
        self.marks = [(<RowWriter>writer).n for writer in self.writers.values()]
        self.latest_before = self.latest
        if self.undo is not None:
            self.undo.begin()
        return 0

    cdef int take_back(self) except -1:
        if self.undo is None:
            return 0
        for writer, n in zip(self.writers.values(), self.marks):
            (<RowWriter>writer).truncate(n)
        self.latest = self.latest_before
        return self.undo.take_back()

    cdef int refuse(self, object error, str method, Row row, int64_t slot, int64_t time) except -1:
        self.take_back()
        return self.on_error(error, f"{type(self.processor).__name__}.{method}", row, self.context.reader.key(slot), slot, time)

    cdef int run_batch(self, Batch* batch) except -1:
        """Give the whole batch to process_batch; state is reached through get_many and set_many."""
        cdef int32_t i
        cdef int64_t latest = INT64_MIN, reached = INT64_MAX
        cdef int64_t* times = i64(&batch.sys[SYS_TIME])
        cdef int64_t* slots = i64(&batch.sys[SYS_SLOT])
        cdef Context context = self.context
        cdef Batch* out = NULL
        cdef list keys = []
        cdef dict places = {}
        context.reader.slot = -1
        for i in range(batch.n):
            key = context.reader.key(slots[i])
            keys.append(key)
            place = places.get(key)
            if place is None or place[1] < times[i]:
                places[key] = (slots[i], times[i])
            latest = max(latest, times[i])
            reached = min(reached, max(self.watermark, self.scope.floor_of(self.table.header(slots[i]).shard)))
        self.note_marks()
        self.latest = max(self.latest, latest)
        context.batch_keys, context.batch_times = keys, [times[i] for i in range(batch.n)]
        context.active, context.row, context.time = True, -1, latest
        self.scope.keys = places
        # What holds for all keys of the batch.
        self.scope.reached = self.scope.watermark = self.scope.removing = reached
        try:
            result = self.processor.process_batch(self.arrow.to_arrow(batch), context)
            check_result(result)
            out = self.arrow.from_arrow(result, batch)
        except Exception as error:           # whatever user code raises
            self.refuse_batch(error, batch)
        finally:
            context.batch_keys = context.batch_times = None
            context.active = False
            self.scope.keys = None
            self.scope.unbind()
        if out != NULL:
            self.emitted += out.n
            self.send(self.next, out)
        return self.flush(NULL)

    cdef int refuse_batch(self, object error, Batch* batch) except -1:
        """Nobody knows which row it was: with a policy all rows of the batch are counted, or become dead letters."""
        cdef int32_t i
        cdef int64_t slot
        doing = f"{type(self.processor).__name__}.process_batch of {batch.n} rows"
        self.take_back()
        for i in range(batch.n):
            slot = i64(&batch.sys[SYS_SLOT])[i]
            row = row_new(self.input_shape, batch, i)
            self.on_error(error, doing, row, self.context.reader.key(slot), slot, i64(&batch.sys[SYS_TIME])[i])
        return 0

    cdef int on_watermark(self, int64_t watermark) except -1 nogil:
        cdef int64_t before = self.watermark
        CHECK(not self.closing, "time stands still while timers fire")
        self.watermark = watermark
        self.follow()
        self.scope.wall = self.wall()
        self.closing = self.timers.service.any_due(CLOCK_EVENT, watermark)
        if not self.closing:
            return self.pass_on(watermark)
        with gil:
            self.timers.begin(before, watermark)
        return 0

    cdef int pass_on(self, int64_t watermark) except -1 nogil:
        """No timer fires any more in this advance: what has expired leaves, the watermark goes on."""
        self.scope.settle(watermark)
        if self.state_field.any_ttl:
            with gil:
                self.scope.sweep(SWEEP_ROWS)
        return UserCodeOperator.on_watermark(self, watermark)

    cdef int64_t go_on_closing(self, int64_t most) except -1 nogil:
        cdef int64_t n
        self.scope.wall = self.wall()
        with gil:
            n = self.go_on_firing(CLOCK_EVENT, most)
        if n > 0:
            UserCodeOperator.end_batch(self)
            return n
        self.closing = False
        self.pass_on(self.timers.until)
        return 0

    cdef int on_processing_time(self, int64_t now_ms) except -1 nogil:
        cdef int64_t n, left = FEW_TIMERS if CHECKED_BUILD else STEP_TIMERS
        with gil:
            self.scope.wall = now_ms
            if not self.waking:
                self.timers.begin(INT64_MIN, now_ms)
                self.waking = True
            while self.waking and left > 0:
                n = self.go_on_firing(CLOCK_PROCESSING, left)
                self.waking = n > 0
                left -= n
        return UserCodeOperator.end_batch(self)

    cdef int64_t next_wakeup(self) noexcept nogil:
        if self.waking:
            return INT64_MIN
        return INT64_MAX if self.closing else self.timers.service.first(CLOCK_PROCESSING)

    cdef int64_t go_on_firing(self, int clock, int64_t most) except -1:
        """Go on with an advance by so many timers at most: fire them, then set what was put off; return 0 when all is done."""
        cdef int64_t n = 0 if self.timers.ending else self.fire(clock, most)
        return n if n > 0 else self.timers.end(most)

    cdef int64_t fire(self, int clock, int64_t most) except -1:
        """Call on_timer for the first `most` timers that are due, in order, those that are set on the way included; return for how many."""
        cdef TimerService service = self.timers.service
        cdef list due = service.take_entries(clock, self.timers.until, most)
        cdef bytes entry
        cdef int64_t n = 0, at = 0
        if not due:
            return 0
        self.warm_up(due)
        self.context.active = True
        self.context.reader.slot = -1
        try:
            while at < len(due) and n < most:
                entry = service.take_before(<bytes>due[at])      # set meanwhile
                if entry is None:
                    entry = <bytes>due[at]
                    at += 1
                if clock == CLOCK_EVENT and self.timers.waits(entry):
                    n += 1
                elif self.timers.take(entry):
                    n += 1
                    self.call_timer(clock, entry)
        finally:
            self.context.active = False
            self.scope.unbind()
        service.put_all_back(due[at:])
        self.flush(NULL)
        return n

    cdef int warm_up(self, list due) except -1:
        """Bring the rows of the keys whose timers fire back, by one read."""
        if self.table.cold == 0 and not self.table.any_cold:
            return 0
        keys_clear(&self.wanted)
        for entry in due:
            key = <bytes>self.timers.service.parts(<bytes>entry)[1]
            keys_push(&self.wanted, PyBytes_AS_STRING(key), len(key), NULL, 0)
        return self.table.warm_up_keys(self.wanted.values.data, self.wanted.offsets, self.wanted.n)

    cdef int call_timer(self, int clock, bytes entry) except -1:
        cdef int64_t time, slot
        cdef bytes key
        cdef RowHeader* header
        time, key, stored = self.timers.service.parts(entry)
        slot = self.table.find_or_insert(key, <int32_t>len(key), -1)
        header = self.table.header(slot)
        name, every = split_name(stored)
        if every and self.timers.until < INT64_MAX:
            later = next_on_grid(time, every, self.timers.until)
            if later < INT64_MAX:
                self.timers.service.put(timer_entry(clock, later, key, stored), header.shard)
        # Event-time state never looks at the wall clock.
        self.scope.bind(slot, time if clock == CLOCK_EVENT else self.event_time(time))
        self.context.row = -1
        self.context.time = time
        if self.policy != POLICY_FAIL:
            self.note_marks()
        try:
            result = self.processor.on_timer(Timer(time, name, CLOCK_NAMES[clock]), self.context)
            if result is not None:
                self.collect(result, -1, time, slot)
                result = None
        except Exception as error:           # whatever user code raises
            self.refuse(error, f"on_timer({name!r}, {time})", None, slot, time)
        FAULT("FP36")
        if self.main.n >= FLUSH_ROWS:
            self.flush(NULL)
        return 0

    cdef int64_t event_time(self, int64_t otherwise) noexcept:
        cdef int64_t time = max(self.latest, self.scope.watermark)
        return time if time > INT64_MIN else otherwise

    def declared_states(self):
        """Return what the Processor has declared of its states, as {part: text} for the manifest."""
        return self.context.state.declared()

    def state(self):
        """Return {key: {state: value}} of all keys, expired values included."""
        cdef int64_t slot = self.table.first_slot(0)
        found = {}
        while slot >= 0:
            values = self.state_field.states_at(slot)
            if values:
                found[self.context.reader.key(slot)] = values
            slot = self.table.first_slot(slot + 1)
        return found

    def close(self):
        """Close the Processor; called once."""
        close_processor(self.name, self.processor)

    def metrics(self):
        figures = UserCodeOperator.metrics(self)
        figures["timers_fired"] = self.timers.service.fired
        if self.timers.dropped:
            figures["timers_dropped"] = self.timers.dropped
        figures.update(self.context.metrics.values())
        return figures
