"""See accumulators.pxd. Each family of accumulators has a file of its own beside this one."""
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport KIND_NONE
from streamdsl._native.aggregates.cell cimport (
    cell_load, kind_number, read_bytes, results_finish, results_free, results_init, results_null, results_truncate,
)
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.state.write_stream cimport bytes_append

from streamdsl.errors import InternalError, RecordError


def stored_kind(kind, type_):
    """Return what the layout says of a kept value: the type too, where it says what a number means (a scale, a unit of time)."""
    if kind is None:
        return ""
    text = str(type_)
    return f"{kind} {text}" if text.startswith(("decimal", "timestamp", "duration")) else kind


cdef class Accumulator:
    """Base: the general loop over rows. `spec` is an `AggregateSpec` of the physical plan."""

    def __init__(self, str operator, spec, Arena arena):
        self.operator = operator
        self.column = spec.name
        self.arena = arena
        self.argument = spec.argument
        self.by = spec.by
        self.where = spec.where
        self.argument_kind = kind_number(spec.input_kind) if spec.argument >= 0 else KIND_NONE
        self.by_kind = kind_number(spec.by_kind) if spec.by >= 0 else KIND_NONE
        self.output_kind = kind_number(spec.output_kind)
        self.layout = ":".join([spec.kind, stored_kind(spec.input_kind, spec.input_type), stored_kind(spec.by_kind, spec.by_type),
                                ",".join(f"{key}={value}" for key, value in sorted(spec.params))])
        memset(&self.results, 0, sizeof(Results))

    def __dealloc__(self):
        results_free(&self.results)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        return self.fail("this aggregate cannot add")

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        return self.fail("no value can be taken out of this aggregate again")

    cdef int emit(self, char* state) except -1 nogil:
        return results_null(&self.results)

    cdef int emit_all(self, char* state) except -1 nogil:
        cdef void* other = <void*>self.also
        self.emit(state)
        while other != <void*>None:
            (<Accumulator>other).emit(state)
            other = <void*>(<Accumulator>other).also
        return 0

    cdef int emit_many(self, char** states, int64_t offset, int64_t n) except -1 nogil:
        cdef int64_t i
        for i in range(n):
            self.emit(states[i] + offset)
        return 0

    cdef int emit_each(self, char** states, int64_t n) except -1 nogil:
        cdef void* other = <void*>self
        while other != <void*>None:
            (<Accumulator>other).emit_many(states, self.offset, n)
            other = <void*>(<Accumulator>other).also
        return 0

    cdef int clear(self, char* state) except -1 nogil:
        memset(state, 0, self.size)
        return 0

    cdef int64_t heap_bytes(self, char* state):
        return 0

    cdef int copy(self, char* into, char* source, ByteWriter* scratch) except -1 nogil:
        cdef ByteReader reader
        if self.flat:
            memcpy(into, source, self.size)
            return 0
        scratch.used = 0
        self.write(source, scratch)
        reader.at = scratch.data
        reader.end = scratch.data + scratch.used
        return self.read(into, &reader)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        return bytes_append(out, state, self.size)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        memcpy(state, read_bytes(source, self.size), self.size)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        return self.fail("the states of this aggregate cannot be merged")

    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil:
        memset(room, 0, self.size)
        self.copy(room, source, scratch)
        return self.merge(into, room)

    cdef int save(self, char* state, char* saved) except -1 nogil:
        memcpy(saved, state, self.size)
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        memcpy(state, saved, self.size)
        return 0

    cdef int forget(self, char* saved) except -1 nogil:
        return 0

    cdef bint watch(self, int64_t parts) noexcept nogil:
        return False

    cdef bint fits(self, char* state) noexcept nogil:
        return True

    cdef int fail_too_large(self) except -1 nogil:
        return self.fail("the result is too large")

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        self.row = -1
        self.arrived = arrived
        self.changes = NULL
        self.argument_column = &arguments[self.argument] if self.argument >= 0 and arguments != NULL else NULL
        self.by_column = &arguments[self.by] if self.by >= 0 and arguments != NULL else NULL
        self.where_column = &arguments[self.where] if self.where >= 0 and arguments != NULL else NULL
        results_free(&self.results)      # of a batch that failed half-way
        return results_init(&self.results, self.output_kind, n_results)

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef Cell argument, by
        cdef char* state
        cdef int change = 0
        if mode == EMIT:
            return self.emit_each(states, n)
        memset(&argument, 0, sizeof(Cell))
        memset(&by, 0, sizeof(Cell))
        for i in range(n):
            state = states[i] + self.offset
            row = rows[i] if rows != NULL else i
            self.row = row
            if self.changes != NULL:
                change = self.changes[row]
            if mode == EMIT_THEN_ADD or (mode == ADD_THEN_EMIT and change & CHANGE_EMPTIES):
                self.emit_all(state)
            if takes(self, row):
                if self.argument_column != NULL:
                    argument = cell_load(self.argument_column, row)
                if self.by_column != NULL:
                    by = cell_load(self.by_column, row)
                if change & CHANGE_WITHDRAWS:
                    self.withdraw(state, &argument, &by)
                else:
                    self.add(state, &argument, &by)
            if change & CHANGE_EMPTIES:
                self.clear(state)
            if mode == ADD_THEN_EMIT and not change & CHANGE_EMPTIES:
                self.emit_all(state)
        return 0

    cdef int finish(self, Column* target) except -1 nogil:
        return results_finish(&self.results, target)

    cdef bint share(self, Accumulator other):
        return False

    cdef int take_in(self, Accumulator other) except -1:
        cdef Accumulator last = other
        while last.also is not None:
            last = last.also
        last.also, self.also = self.also, other
        return 0

    cdef bint reads(self, Accumulator other):
        return (other.argument == self.argument and other.argument_kind == self.argument_kind
                and (other.where == self.where or PLANTED("state-of-another-condition")) and other.by == self.by)

    cdef int fail(self, str reason) except -1 nogil:
        with gil:
            raise RecordError(self.row, reason, field=self.column, operator=self.operator)


RESULT_KINDS = {"count": "i64", "n_unique": "i64", "mean": "f64", "var": "f64", "std": "f64",
                "to_list": "str", "top_k": "str", "quantile": "f64"}


def result_kind(spec):
    """Return the kind of column that the aggregate gives."""
    if spec.kind == "custom":
        return spec.output_kind
    if spec.kind == "sum" and spec.input_kind == "bool":
        return "i64"
    if spec.kind == "mean" and spec.input_kind == "dec":
        return "dec"
    return RESULT_KINDS.get(spec.kind, spec.input_kind)


cdef Accumulator make_accumulator(str operator, spec, Arena arena):
    # The others import this module, so they are named late.
    from streamdsl._native.aggregates.choices import CHOICES
    from streamdsl._native.aggregates.collectors import COLLECTORS
    from streamdsl._native.aggregates.number_collectors import NUMBER_COLLECTORS
    from streamdsl._native.aggregates.custom import CustomAccumulator
    from streamdsl._native.aggregates.lag import LagAccumulator
    from streamdsl._native.aggregates.sums import SUMS, CountAccumulator
    from streamdsl._native.aggregates.sketches import DigestAccumulator, HyperLogLogAccumulator

    from streamdsl._native.aggregates.counted import COUNTED
    from streamdsl._native.aggregates.kept_rows import KEPT_ROWS
    from streamdsl._native.aggregates.totals import total_of

    others = {**CHOICES, **COLLECTORS, **NUMBER_COLLECTORS, "custom": CustomAccumulator, "lag": LagAccumulator}
    if spec.retracts:
        retracting = {"count": CountAccumulator, "custom": CustomAccumulator, **COUNTED, **KEPT_ROWS}
        factory = total_of if spec.kind in ("sum", "mean", "var", "std") else retracting.get(spec.kind)
    elif dict(spec.params).get("approximate"):
        factory = {"n_unique": HyperLogLogAccumulator, "quantile": DigestAccumulator}.get(spec.kind)
    else:
        factory = SUMS.get(spec.kind) or others.get(spec.kind)
    if factory is None:
        raise InternalError(f"there is no aggregate {spec.kind!r} (operator {operator!r}, column {spec.name!r})")
    if result_kind(spec) != spec.output_kind:
        raise InternalError(f"{spec.kind} gives {result_kind(spec)}, not {spec.output_kind} "
                            f"(operator {operator!r}, column {spec.name!r})")
    return factory(operator, spec, arena)


cdef class AccumulatorSet:
    """Made by `make_set`."""

    def __init__(self, list accumulators, list with_states, int64_t offset):
        cdef int i
        cdef Accumulator accumulator
        self.accumulators = accumulators
        self.count, self.n_states = len(accumulators), len(with_states)
        self.refs = <void**>calloc(self.count + 1, sizeof(void*))
        self.states = <void**>calloc(self.n_states + 1, sizeof(void*))
        if self.refs == NULL or self.states == NULL:
            raise MemoryError("no memory left for aggregates")
        for i in range(self.count):
            self.refs[i] = <void*>accumulators[i]
        for i in range(self.n_states):
            accumulator = with_states[i]
            self.states[i] = <void*>accumulator
            accumulator.offset = offset + self.size
            self.size += accumulator.size
            self.on_heap |= accumulator.on_heap
            if accumulator.refuses:
                self.refuses = True
                self.saved_size += accumulator.saved_size
        self.layout = ";".join([accumulator.layout for accumulator in with_states])
        self.before = <char*>calloc(2, self.saved_size + 8)
        if self.before == NULL:
            raise MemoryError("no memory left for aggregates")

    def __dealloc__(self):
        free(self.refs)
        free(self.states)
        free(self.before)

    cdef bint watch(self, int64_t parts) noexcept nogil:
        cdef int i
        cdef bint watched = False
        self.refuses = False
        for i in range(self.n_states):
            (<Accumulator>self.states[i]).watched = (<Accumulator>self.states[i]).watch(parts)
            watched |= (<Accumulator>self.states[i]).watched
            self.refuses |= (<Accumulator>self.states[i]).refuses
        return watched

    cdef int change_watched(self, char* state, int64_t row, int sign) except -1 nogil:
        cdef int i
        cdef Cell cell
        for i in range(self.n_states):
            if not (<Accumulator>self.states[i]).watched or not takes(<Accumulator>self.states[i], row):
                continue
            cell = cell_load((<Accumulator>self.states[i]).argument_column, row)
            if sign > 0:
                (<Accumulator>self.states[i]).add(state + (<Accumulator>self.states[i]).offset, &cell, NULL)
            else:
                (<Accumulator>self.states[i]).withdraw(state + (<Accumulator>self.states[i]).offset, &cell, NULL)
        return 0

    cdef bint exceeded(self) noexcept nogil:
        cdef int i
        for i in range(self.n_states):
            if (<Accumulator>self.states[i]).exceeded:
                return True
        return False

    cdef int clear(self, char* state) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            (<Accumulator>self.states[i]).clear(state + (<Accumulator>self.states[i]).offset)
        return 0

    cdef int64_t heap_bytes(self, char* state):
        cdef int i
        cdef int64_t size = 0
        for i in range(self.n_states):
            size += (<Accumulator>self.states[i]).heap_bytes(state + (<Accumulator>self.states[i]).offset)
        return size

    cdef int copy(self, char* into, char* source, ByteWriter* scratch) except -1 nogil:
        cdef int i
        cdef int64_t at
        for i in range(self.n_states):
            at = (<Accumulator>self.states[i]).offset
            (<Accumulator>self.states[i]).copy(into + at, source + at, scratch)
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            (<Accumulator>self.states[i]).write(state + (<Accumulator>self.states[i]).offset, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            (<Accumulator>self.states[i]).read(state + (<Accumulator>self.states[i]).offset, source)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef bint done = not self.refuses
        cdef char* more = self.before + self.saved_size
        if self.refuses:
            self.save(into, self.before)
            self.save(other, more)
            try:
                self.merge_those(True, into, other)
                done = True
            finally:
                if not done:
                    self.restore(into, self.before)
                    self.restore(other, more)
                self.forget(self.before)
                self.forget(more)
        return self.merge_those(False, into, other)

    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil:
        cdef int i
        cdef int64_t at
        if self.refuses:                     # all of them or none
            memset(room, 0, self.size)
            self.copy(room, source, scratch)
            return self.merge(into, room)
        for i in range(self.n_states - PLANTED("pane-added-in-part")):
            at = (<Accumulator>self.states[i]).offset
            (<Accumulator>self.states[i]).add_copy(into + at, source + at, room + at, scratch)
        return 0

    cdef int merge_those(self, bint refusing, char* into, char* other) except -1 nogil:
        cdef int i
        cdef int64_t at
        for i in range(self.n_states):
            if (<Accumulator>self.states[i]).refuses == refusing:
                at = (<Accumulator>self.states[i]).offset
                (<Accumulator>self.states[i]).merge(into + at, other + at)
        return 0

    cdef int begin(self, Column* arguments, int64_t n_results, int64_t arrived) except -1 nogil:
        cdef int i
        for i in range(self.count):
            (<Accumulator>self.refs[i]).begin(arguments, n_results, arrived)
        return 0

    cdef void follow(self, const uint8_t* changes) noexcept nogil:
        cdef int i
        for i in range(self.count):
            (<Accumulator>self.refs[i]).changes = changes

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            (<Accumulator>self.states[i]).run(states, rows, n, mode)
        return 0

    cdef int run_those(self, bint refusing, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            if (<Accumulator>self.states[i]).refuses == refusing:
                (<Accumulator>self.states[i]).run(states, rows, n, mode)
        return 0

    cdef int save(self, char* state, char* saved) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            if (<Accumulator>self.states[i]).refuses:
                (<Accumulator>self.states[i]).save(state + (<Accumulator>self.states[i]).offset, saved)
                saved += (<Accumulator>self.states[i]).saved_size
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            if (<Accumulator>self.states[i]).refuses:
                (<Accumulator>self.states[i]).restore(state + (<Accumulator>self.states[i]).offset, saved)
                saved += (<Accumulator>self.states[i]).saved_size
        return 0

    cdef int forget(self, char* saved) except -1 nogil:
        cdef int i
        for i in range(self.n_states):
            if (<Accumulator>self.states[i]).refuses:
                (<Accumulator>self.states[i]).forget(saved)
                saved += (<Accumulator>self.states[i]).saved_size
        return 0

    cdef void truncate(self, int64_t n) noexcept nogil:
        cdef int i
        for i in range(self.count):
            if (<Accumulator>self.refs[i]).refuses:
                results_truncate(&(<Accumulator>self.refs[i]).results, n)

    cdef int finish(self, Column* targets) except -1 nogil:
        cdef int i
        for i in range(self.count):
            (<Accumulator>self.refs[i]).finish(&targets[i])
        return 0


cdef AccumulatorSet make_set(str operator, specs, Arena arena, int64_t offset):
    # It imports this module, so it is named late.
    from streamdsl._native.aggregates.chosen_rows import made_together

    together = made_together(operator, specs, arena)
    accumulators, with_states = [], []
    for place, spec in enumerate(specs):
        accumulator = together.get(place) or make_accumulator(operator, spec, arena)
        accumulators.append(accumulator)
        for at, other in enumerate(with_states):
            if (<Accumulator>other).share(accumulator):
                break
            if (<Accumulator>accumulator).share(other):
                with_states[at] = accumulator
                break
        else:
            with_states.append(accumulator)
    return AccumulatorSet(accumulators, with_states, offset)
