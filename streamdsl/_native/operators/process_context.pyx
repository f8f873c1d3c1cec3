"""See process_context.pxd; the words are explained in `streamdsl.processor.Context`."""
cimport cython
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from streamdsl._native.event_time.timer_entry cimport CLOCK_EVENT, CLOCK_PROCESSING, PUT_OFF, timer_entry
from streamdsl._native.rows.row cimport (
    VALUE_BYTES, VALUE_DATE, VALUE_DECIMAL, VALUE_DURATION, VALUE_JSON, VALUE_STR, VALUE_TIMESTAMP, VALUE_WIDE_DECIMAL, detail,
    moment_value, plain_code, span_value, value_code,
)
from streamdsl._native.operators.refusals cimport POLICY_FAIL
from streamdsl._native.rows.row_writer cimport RowWriter
from streamdsl._native.state.handles cimport duration_ms
from streamdsl._native.state.row_table cimport RowHeader
from streamdsl._native.state.undo cimport Undo, UndoLog

import copy
import datetime as datetimes
import json
import logging
from decimal import Decimal
from operator import index

from streamdsl._native.serdes.decimal_text import text_of_unscaled
from streamdsl.errors import StateError, UserCodeError

cdef enum:
    RUNS_AT_END = 100        # times that on_timer may set the same timer anew while the input ends
    FIRED = 0                # the run of a mark that says that a timer has fired in this advance

EPOCH = datetimes.datetime(1970, 1, 1, tzinfo=datetimes.timezone.utc)
EPOCH_DATE = datetimes.date(1970, 1, 1)
CLOCKS = {"event": CLOCK_EVENT, "processing": CLOCK_PROCESSING}
CLOCK_NAMES = ("event", "processing")
EVERY = "\x00every="         # a periodic timer keeps its period behind its name


cdef class KeyReader:
    def __init__(self, KeyLookup lookup, key_schema):
        self.lookup = lookup
        self.codes = tuple(value_code(str(field.type)) for field in key_schema.fields)
        self.text = lookup.decoder.plain and self.codes == (VALUE_STR,)
        self.slot = -1

    cdef object key(self, int64_t slot):
        cdef RowHeader* header
        if slot != self.slot:
            header = self.lookup.table.header(slot)
            if self.text:
                self.last = PyUnicode_DecodeUTF8(header.key, header.key_size, "surrogateescape")
            else:
                self.last = self.key_of_bytes(header.key[:header.key_size])
            self.slot = slot
        return self.last

    cdef object key_of_bytes(self, bytes encoded):
        key = self.lookup.decoder.key_of(encoded)
        if len(self.codes) == 1:
            return in_type(self.codes[0], key)
        return tuple([in_type(code, part) for code, part in zip(self.codes, key)])


cdef object in_type(int code, object part):
    if plain_code(code) == VALUE_TIMESTAMP:
        return moment_value(detail(code), part)
    if code == VALUE_DATE:
        return EPOCH_DATE + datetimes.timedelta(days=part)
    if plain_code(code) == VALUE_DURATION:
        return span_value(detail(code), part)
    if code == VALUE_BYTES:
        return part.encode("utf-8", "surrogateescape")
    if plain_code(code) == VALUE_DECIMAL:
        return Decimal(text_of_unscaled(part, detail(code)))
    if code == VALUE_WIDE_DECIMAL:
        return Decimal(part)
    return json.loads(part) if code == VALUE_JSON else part


cdef class Timer:
    """A timer that fired."""

    def __init__(self, int64_t time, str name, str clock):
        self.time, self.name, self.clock = time, name, clock

    @property
    def timestamp(self):
        """The same as `time`: what `ctx.timestamp` is while the timer is handled."""
        return self.time

    def __repr__(self):
        return f"Timer(time={self.time}, name={self.name!r}, clock={self.clock!r})"


@cython.final
cdef class TimerUndo(Undo):
    """A timer that has been set, or cancelled."""
    cdef TimerService service
    cdef bytes entry
    cdef int shard
    cdef bint was_set

    cdef int take_back(self) except -1:
        if self.was_set:
            self.service.put(self.entry, self.shard)
        else:
            self.service.cancel_entry(self.entry, self.shard)
        return 0


@cython.final
cdef class FigureUndo(Undo):
    """A figure that user code has changed."""
    cdef object figure
    cdef object before

    cdef int take_back(self) except -1:
        self.figure.n = self.before
        return 0


cdef class ProcessTimers:
    """A timer set while time advances fires in the same advance if it lies within, and once at most: what on_timer sets
    again for the very moment it is called for waits for the next advance.

    Only what is set at or before the furthest timer that has fired can have fired already. Of those that have, a hash of 64 bits
    is kept until the advance ends: with a billion of them, one question in 18 billion is answered wrongly.
    """

    def __init__(self, TimerService service):
        self.service = service

    cdef int begin(self, int64_t began, int64_t until) except -1:
        self.firing, self.began, self.until = True, began, until
        return 0

    cdef int64_t end(self, int64_t most) except -1:
        cdef int64_t n = self.service.put_on(CLOCK_EVENT, most)
        if n == 0:
            n = self.service.put_on(CLOCK_PROCESSING, most)
        self.ending = self.firing = n > 0
        if n == 0:
            self.furthest = None
            self.service.forget_marks()
        return n

    cdef bint waits(self, bytes entry) except -1:
        cdef int64_t slot
        if self.scope.floors == NULL:
            return False
        slot = self.service.slot_of(entry)
        if slot < 0 or self.until > self.scope.floor_of(self.service.table.header(slot).shard):
            return False
        return self.service.put_off(entry)

    cdef bint take(self, bytes entry) except -1:
        if not self.service.fire(entry):
            return False
        self.service.mark(entry, FIRED)
        if self.furthest is None or entry > self.furthest:
            self.furthest = entry
        return True

    cdef int set(self, bytes key, int shard, int64_t time, str name, int clock) except -1:
        cdef bytes entry = timer_entry(clock, time, key, name)
        cdef int64_t began = self.began
        if self.firing:
            if clock == CLOCK_EVENT:
                began = max(began, self.scope.floor_of(shard))
            if self.until == INT64_MAX and clock == CLOCK_EVENT:
                if not self.may_run_again(key, name):
                    return 0
                began = INT64_MIN            # no advance follows for which one for the past could wait
            if time <= self.until and (
                    time <= began
                    or (self.furthest is not None and entry <= self.furthest and self.service.marked(entry, FIRED))):
                entry = timer_entry(PUT_OFF + clock, time, key, name)
        return self.put(entry, shard)

    cdef int put(self, bytes entry, int shard) except -1:
        cdef TimerUndo step
        if self.service.put(entry, shard) and self.undo is not None:
            step = TimerUndo.__new__(TimerUndo)
            step.service, step.entry, step.shard, step.was_set = self.service, entry, shard, False
            self.undo.steps.append(step)
        return 0

    cdef int drop(self, bytes entry, int shard) except -1:
        cdef TimerUndo step
        if self.service.cancel_entry(entry, shard) and self.undo is not None:
            step = TimerUndo.__new__(TimerUndo)
            step.service, step.entry, step.shard, step.was_set = self.service, entry, shard, True
            self.undo.steps.append(step)
        return 0

    cdef bint may_run_again(self, bytes key, str name) except -1:
        cdef bytes whose = timer_entry(CLOCK_EVENT, 0, key, name)
        cdef int run
        for run in range(FIRED + 1, FIRED + 1 + RUNS_AT_END):
            if not self.service.marked(whose, run):
                self.service.mark(whose, run)
                return True
        if self.dropped == 0:
            logging.getLogger("streamdsl").warning(
                "a timer that sets itself again was dropped at the end of the input; every= makes one that ends")
        self.dropped += 1
        return False

    cdef int cancel(self, bytes key, int shard, int64_t time, str name, int clock) except -1:
        self.drop(timer_entry(clock, time, key, name), shard)
        if self.firing:
            self.drop(timer_entry(PUT_OFF + clock, time, key, name), shard)
        return 0


class Figure:
    """A number, under the metrics of its Processor."""

    __slots__ = ("metrics", "n")

    def __init__(self, metrics):
        self.metrics = metrics
        self.n = 0

    def note(self):
        """Keep what the figure is, for the case that the record at hand fails."""
        cdef FigureUndo step
        if self.metrics.undo is not None:
            step = FigureUndo.__new__(FigureUndo)
            step.figure, step.before = self, self.n
            (<UndoLog>self.metrics.undo).steps.append(step)


class Counter(Figure):
    """A figure that only grows."""

    __slots__ = ()

    def inc(self, n=1):
        """Add n."""
        self.note()
        self.n += n


class Gauge(Figure):
    """A figure that is set."""

    __slots__ = ()

    def set(self, value):
        """Set the figure."""
        self.note()
        self.n = value


class ProcessMetrics:
    """The figures of a Processor, by name."""

    def __init__(self):
        self.figures = {}
        self.undo = None

    def counter(self, name):
        """Return the counter of that name."""
        return self._figure(name, Counter)

    def gauge(self, name):
        """Return the gauge of that name."""
        return self._figure(name, Gauge)

    def _figure(self, name, kind):
        figure = self.figures.get(name)
        if figure is None:
            figure = self.figures[name] = kind(self)
        if type(figure) is not kind:
            raise ValueError(f"the metric {name!r} is a {type(figure).__name__.lower()} already")
        return figure

    def values(self):
        """Return {name: figure}."""
        return {name: figure.n for name, figure in self.figures.items()}


cdef int64_t moment(object at) except? -1:
    if isinstance(at, datetimes.datetime):
        at = (at - (EPOCH if at.tzinfo is not None else EPOCH.replace(tzinfo=None))) // datetimes.timedelta(milliseconds=1)
    try:
        if isinstance(at, bool):
            raise TypeError
        at = index(at)
    except TypeError:
        raise TypeError(f"a time is an int of milliseconds or a datetime, not {at!r}") from None
    return max(INT64_MIN, min(INT64_MAX, at))


cdef class Context:
    """What a Processor knows about the record, key or timer at hand; see `streamdsl.processor.Context`."""

    cdef int check_active(self, str what) except -1:
        if self.scope.cells == NULL:
            raise StateError(f"{what} needs a key: it works in process, on_timer and process_window")
        return 0

    cdef int clock_number(self, str clock) except -1:
        if self.timers is None:
            raise StateError("process_window has no timers", remedy="Use a Processor without a window.")
        if clock not in CLOCKS:
            raise ValueError(f"clock={clock!r} is unknown; use \"event\" or \"processing\"")
        return CLOCKS[clock]

    @property
    def key(self):
        self.check_active("ctx.key")
        return self.reader.key(self.scope.slot)

    @property
    def timestamp(self):
        return self.time

    @property
    def watermark(self):
        return None if self.scope.watermark == INT64_MIN else self.scope.watermark

    @property
    def processing_time(self):
        return self.scope.wall

    @property
    def keys(self):
        if self.batch_keys is None:
            raise StateError("ctx.keys works in process_batch")
        return self.batch_keys

    @property
    def timestamps(self):
        if self.batch_times is None:
            raise StateError("ctx.timestamps works in process_batch")
        return self.batch_times

    def emit(self, row, *, str to="", timestamp=None, key=None):
        """Send a row to the main output, or to a tagged one."""
        cdef RowWriter writer = self.operator.writers.get(to)
        cdef int64_t time = self.time
        cdef int64_t slot = self.scope.slot
        if writer is None:
            known = ", ".join(repr(tag) for tag in self.operator.writers if tag) or "none"
            raise ValueError(f"there is no output {to!r}; declared in `outputs`: {known}")
        if not self.active:
            raise StateError("rows cannot be emitted in open and close")
        if self.batch_keys is not None:
            if self.scope.keys.get(key) is None:
                raise KeyError(f"emit in process_batch needs key=, one of ctx.keys, not {key!r}")
            slot, time = self.scope.keys[key]
        if timestamp is not None:
            time = moment(timestamp)
        writer.append(row, self.row, time, slot)

    def set_timer(self, at, str name="", str clock="event", *, every=None):
        """Call on_timer for this key when the clock passes `at`."""
        cdef RowHeader* header
        cdef int number = self.clock_number(clock)
        self.check_active("set_timer")
        header = self.scope.table.header(self.scope.slot)
        self.timers.set(header.key[:header.key_size], header.shard, moment(at), stored_name(name, every), number)

    def cancel_timer(self, at, str name="", str clock="event", *, every=None):
        """Forget a timer; of a periodic one `at` may be any time of its grid."""
        cdef RowHeader* header
        cdef int number = self.clock_number(clock)
        cdef int64_t now = self.scope.watermark if number == CLOCK_EVENT else self.scope.wall
        cdef int64_t time = moment(at)
        cdef str stored = stored_name(name, every)
        self.check_active("cancel_timer")
        header = self.scope.table.header(self.scope.slot)
        key = header.key[:header.key_size]
        self.timers.cancel(key, header.shard, time, stored, number)
        if every is not None:
            self.timers.cancel(key, header.shard, next_on_grid(time, duration_ms(every, "every", False), now), stored, number)


cdef str stored_name(str name, object every):
    if "\x00" in name:
        raise ValueError("the name of a timer cannot contain NUL")
    if every is None:
        return name
    if duration_ms(every, "every", False) < 1:
        raise ValueError("every= must be longer than 0")
    return f"{name}{EVERY}{duration_ms(every, "every", False)}"


def split_name(str stored):
    """Return (name, period in ms or 0) of a timer as it is stored."""
    name, _, every = stored.partition(EVERY)
    return name, int(every) if every.isascii() and every.isdigit() else 0


def next_on_grid(at, every, now):
    """Return the first time at + n * every (n >= 0) that is behind `now`, INT64_MAX if there is none."""
    if at > now:
        return at
    return min(at + ((now - at) // every + 1) * every, INT64_MAX)


def instance_of(processor):
    """Return a task's own copy of a Processor, given as class or instance."""
    if isinstance(processor, type):
        return processor()
    try:
        return copy.deepcopy(processor)
    except (TypeError, copy.Error) as error:
        raise UserCodeError(
            f"{type(processor).__name__} cannot be copied for each task: {error}", reason=str(error),
            remedy="Make what cannot be copied (locks, connections, models) in open(ctx).",
        ) from error


def overrides(processor, str method):
    """Return whether a Processor has a method of its own where the base class has a default."""
    return not getattr(getattr(type(processor), method, None), "__streamdsl_default__", False) and hasattr(processor, method)


cdef Context new_context(UserCodeOperator operator, KeyLookup lookup, KeyReader reader, ProcessTimers timers):
    cdef Context context = Context.__new__(Context)
    context.operator = operator
    context.state = StateDeclarations()
    context.scope = context.state.scope
    context.scope.table = lookup.table
    context.metrics = ProcessMetrics()
    context.reader = reader
    context.timers = timers
    context.row = -1
    context.time = INT64_MIN
    return context


cdef UndoLog undo_log_of(Context context):
    cdef UndoLog log
    if context.operator.policy == POLICY_FAIL:
        return None
    log = UndoLog()
    context.scope.undo = context.metrics.undo = log
    if context.timers is not None:
        context.timers.undo = log
    return log


def open_processor(str name, processor, context):
    """Call `open`; what it raises names the operator."""
    try:
        if hasattr(processor, "open"):
            processor.open(context)
    except Exception as error:               # whatever user code raises
        raise UserCodeError(
            f"{name}: {type(processor).__name__}.open failed: {type(error).__name__}: {error}", operator=name,
            remedy="mend the Processor", reason=f"{type(error).__name__}: {error}",
        ) from error


def close_processor(str name, processor):
    """Call `close`; what it raises names the operator."""
    try:
        if hasattr(processor, "close"):
            processor.close()
    except Exception as error:               # whatever user code raises
        raise UserCodeError(
            f"{name}: {type(processor).__name__}.close failed: {type(error).__name__}: {error}", operator=name,
            remedy="mend the Processor; what was committed stays", reason=f"{type(error).__name__}: {error}",
        ) from error
