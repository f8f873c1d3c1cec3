"""Sums and what is made of them; the other accumulators stand in `choices`, `collectors`, `number_collectors`, `custom`, `lag`."""
from libc.math cimport INFINITY, isinf, sqrt
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_F64, KIND_NONE, KIND_U64
from streamdsl._native.includes.int128 cimport i128_add, i128_as_double, i128_merge, u128_add
from streamdsl._native.aggregates.cell cimport (
    as_f64, cell_load, f64_bits, kind_number, read_bytes, results_bits, results_finish, results_free, results_init,
    results_null, results_truncate,
)
from streamdsl._native.state.write_stream cimport bytes_append

from streamdsl.errors import InternalError, RecordError

cdef extern from * nogil:
    """
    #define sd_add_overflows(a, b, out) __builtin_add_overflow((a), (b), (out))
    """

    bint i64_add_overflows "sd_add_overflows"(int64_t a, int64_t b, int64_t* out) noexcept
    bint u64_add_overflows "sd_add_overflows"(uint64_t a, uint64_t b, uint64_t* out) noexcept


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

    cdef int clear(self, char* state) except -1 nogil:
        memset(state, 0, self.size)
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        return bytes_append(out, state, self.size)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        memcpy(state, read_bytes(source, self.size), self.size)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        return self.fail("the states of this aggregate cannot be merged")

    cdef int save(self, char* state, char* saved) except -1 nogil:
        memcpy(saved, state, self.size)
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        memcpy(state, saved, self.size)
        return 0

    cdef int forget(self, char* saved) except -1 nogil:
        return 0

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
        memset(&argument, 0, sizeof(Cell))
        memset(&by, 0, sizeof(Cell))
        for i in range(n):
            state = states[i] + self.offset
            if mode != EMIT:
                row = rows[i] if rows != NULL else i
                self.row = row
                if self.changes != NULL:
                    change = self.changes[row]
                if mode == EMIT_THEN_ADD or (mode == ADD_THEN_EMIT and change & CHANGE_EMPTIES):
                    self.emit(state)
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
            if mode == EMIT or (mode == ADD_THEN_EMIT and not change & CHANGE_EMPTIES):
                self.emit(state)
        return 0

    cdef int finish(self, Column* target) except -1 nogil:
        return results_finish(&self.results, target)

    cdef bint share(self, Accumulator other):
        return False

    cdef int fail(self, str reason) except -1 nogil:
        with gil:
            raise RecordError(self.row, reason, field=self.column, operator=self.operator)


cdef class CountAccumulator(Accumulator):
    """Rows, or values that are not null."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 8

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<int64_t*>state)[0] += 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<int64_t*>into)[0] += (<int64_t*>other)[0]
        return self.clear(other)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<int64_t*>state)[0] -= 1
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<int64_t*>state)[0])

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i
        cdef int64_t* count
        cdef int64_t* out = <int64_t*>self.results.column.values
        if self.changes != NULL:
            return Accumulator.run(self, states, rows, n, mode)
        for i in range(n):
            count = <int64_t*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                out[i] = count[0]
            if mode != EMIT and takes(self, rows[i] if rows != NULL else i):
                count[0] += 1
            if mode == ADD_THEN_EMIT or mode == EMIT:
                out[i] = count[0]
        return 0


cdef class SumI64Accumulator(Accumulator):
    """Integers and bools; an overflow is an error of the record."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = 8
        self.refuses = True

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef int64_t* total = <int64_t*>state
        cdef int64_t result
        if i64_add_overflows(total[0], argument.bits, &result):
            self.fail("integer overflow in sum()")
        total[0] = result
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Cell more
        more.tag = 1
        more.bits = (<int64_t*>other)[0]
        self.add(into, &more, NULL)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<int64_t*>state)[0])


cdef class SumU64Accumulator(SumI64Accumulator):
    """Unsigned 64-bit integers."""

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef uint64_t* total = <uint64_t*>state
        cdef uint64_t result
        if u64_add_overflows(total[0], <uint64_t>argument.bits, &result):
            self.fail("integer overflow in sum()")
        total[0] = result
        return 0


cdef class SumF64Accumulator(Accumulator):
    """Floats, added one after another: the same input gives the same bits.

    The sum of a merged state is that of the two sums. So it does not matter which of them came first; rounding may differ from
    that of one pass over the values.
    """

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 8

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<double*>state)[0] += as_f64(argument.bits)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<double*>into)[0] += (<double*>other)[0]
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<int64_t*>state)[0])

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef double* total
        cdef double* out = <double*>self.results.column.values
        cdef double* values = <double*>self.argument_column.values if self.argument_column != NULL else NULL
        for i in range(n):
            total = <double*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                out[i] = total[0]
            row = rows[i] if rows != NULL else i
            if mode != EMIT and takes(self, row):
                total[0] += values[row]
            if mode == ADD_THEN_EMIT or mode == EMIT:
                out[i] = total[0]
        return 0


cdef struct Moments:
    int64_t n
    double total                             # the mean is total / n, bit for bit
    double centre                            # the mean as the recurrence goes: stable, but not the sum by the count
    double m2                                # sum of squared distances from it


cdef enum Moment:
    MEAN = 0
    VAR = 1
    STD = 2


cdef inline double as_number(int kind, int64_t bits) noexcept nogil:
    if kind == KIND_F64:
        return as_f64(bits)
    return <double><uint64_t>bits if kind == KIND_U64 else <double>bits


cdef inline void welford(Moments* moments, double x) noexcept nogil:
    cdef double distance = x - moments.centre
    moments.n += 1
    moments.total += x
    if isinf(distance) and not isinf(x) and not isinf(moments.centre):
        # Two finite numbers further apart than a double can say.
        moments.centre += x / <double>moments.n - moments.centre / <double>moments.n
        moments.m2 += INFINITY
        return
    moments.centre += distance / <double>moments.n
    moments.m2 += distance * (x - moments.centre)


cdef inline void unite(Moments* into, const Moments* other) noexcept nogil:
    # Chan's formula, written so that the two may change places.
    cdef double distance = other.centre - into.centre
    cdef double n = <double>into.n + <double>other.n
    if into.n == 0:
        into[0] = other[0]
        return
    if other.n == 0:
        return
    into.total += other.total
    into.m2 += other.m2
    if distance != 0.0:
        into.m2 += distance * distance * (<double>into.n * <double>other.n / n)
        into.centre = into.centre * (<double>into.n / n) + other.centre * (<double>other.n / n)
    into.n += other.n


cdef class MomentsAccumulator(Accumulator):
    """mean, var and std of floats: the sum, and Welford's recurrence; `ddof` is taken from n."""
    cdef Moment moment
    cdef int64_t ddof
    cdef readonly MomentsAccumulator also    # another result of the same state: see `share`

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Moments)
        self.moment = {"mean": MEAN, "var": VAR, "std": STD}[spec.kind]
        self.ddof = dict(spec.params).get("ddof", 0)
        # mean, var and std hold the same: one can take the place of another after a change of the topology.
        self.layout = f"moments:{spec.input_kind}"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        welford(<Moments*>state, as_number(self.argument_kind, argument.bits))
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        unite(<Moments*>into, <Moments*>other)
        return self.clear(other)

    cdef inline int put(self, const Moments* moments) except -1 nogil:
        cdef double value
        if moments.n == 0 or (self.moment != MEAN and moments.n <= self.ddof):
            return results_null(&self.results)
        if self.moment == MEAN:
            value = moments.total / <double>moments.n
        else:
            value = moments.m2 / <double>(moments.n - self.ddof)
            if self.moment == STD:
                value = sqrt(value)
        return results_bits(&self.results, f64_bits(value))

    cdef inline int put_all(self, const Moments* moments) except -1 nogil:
        cdef void* other = <void*>self.also
        self.put(moments)
        while other != <void*>None:
            (<MomentsAccumulator>other).put(moments)
            other = <void*>(<MomentsAccumulator>other).also
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        return self.put(<Moments*>state)

    cdef bint share(self, Accumulator other):
        # mean and std of one column keep one state, and their results are written in one pass.
        if (not isinstance(other, MomentsAccumulator) or other.argument != self.argument or other.where != self.where
                or other.argument_kind != self.argument_kind or self.argument_kind == KIND_BOOL):
            return False
        (<MomentsAccumulator>other).also = self.also
        self.also = other
        return True

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef Moments* moments
        cdef int64_t* values = <int64_t*>self.argument_column.values if self.argument_column != NULL else NULL
        cdef bint always = self.where_column == NULL and self.argument_column != NULL and self.argument_column.valid == NULL
        if self.argument_kind == KIND_BOOL:
            return Accumulator.run(self, states, rows, n, mode)
        for i in range(n):
            moments = <Moments*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                self.put_all(moments)
            row = rows[i] if rows != NULL else i
            if mode != EMIT and (always or takes(self, row)):
                welford(moments, as_number(self.argument_kind, values[row]))
            if mode == ADD_THEN_EMIT or mode == EMIT:
                self.put_all(moments)
        return 0


cdef class MeanAccumulator(Accumulator):
    """The mean of integers: their exact sum in 128 bits, by their number."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 24                       # the number, the sum

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<int64_t*>state)[0] += 1
        if self.argument_kind == KIND_U64:
            u128_add(state + 8, <uint64_t>argument.bits)
        else:
            i128_add(state + 8, argument.bits)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<int64_t*>into)[0] += (<int64_t*>other)[0]
        i128_merge(into + 8, other + 8)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef int64_t n = (<int64_t*>state)[0]
        if n == 0:
            return results_null(&self.results)
        return results_bits(&self.results, f64_bits(i128_as_double(state + 8) / <double>n))


def sum_of(str operator, spec, Arena arena):
    """Return the sum for the kind of the argument."""
    if spec.input_kind == "f64":
        return SumF64Accumulator(operator, spec, arena)
    if spec.input_kind == "u64":
        return SumU64Accumulator(operator, spec, arena)
    if spec.input_kind == "dec":
        from streamdsl._native.aggregates.decimals import SumDecimalAccumulator

        return SumDecimalAccumulator(operator, spec, arena)
    if spec.input_kind in ("i64", "bool"):
        return SumI64Accumulator(operator, spec, arena)
    raise InternalError(f"sum() of a column of kind {spec.input_kind!r}")


def mean_of(str operator, spec, Arena arena):
    """Return the mean for the kind of the argument."""
    if spec.input_kind == "dec":
        from streamdsl._native.aggregates.decimals import MeanDecimalAccumulator

        return MeanDecimalAccumulator(operator, spec, arena)
    return (MomentsAccumulator if spec.input_kind == "f64" else MeanAccumulator)(operator, spec, arena)


FACTORIES = {
    "count": CountAccumulator,
    "sum": sum_of,
    "mean": mean_of,
    "var": MomentsAccumulator,
    "std": MomentsAccumulator,
}

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
        factory = FACTORIES.get(spec.kind) or others.get(spec.kind)
    if factory is None:
        raise InternalError(f"there is no aggregate {spec.kind!r} (operator {operator!r}, column {spec.name!r})")
    if result_kind(spec) != spec.output_kind:
        raise InternalError(f"{spec.kind} gives {result_kind(spec)}, not {spec.output_kind} "
                            f"(operator {operator!r}, column {spec.name!r})")
    return factory(operator, spec, arena)


cdef class AccumulatorSet:
    """Made by `make_set`."""

    def __init__(self, list accumulators, int64_t offset):
        cdef int i
        cdef Accumulator accumulator
        self.accumulators = accumulators
        self.count = len(accumulators)
        self.refs = <void**>calloc(self.count + 1, sizeof(void*))
        if self.refs == NULL:
            raise MemoryError("no memory left for aggregates")
        for i in range(self.count):
            accumulator = accumulators[i]
            self.refs[i] = <void*>accumulator
            accumulator.offset = offset + self.size
            self.size += accumulator.size
            if accumulator.refuses:
                self.refuses = True
                self.saved_size += accumulator.saved_size
        self.layout = ";".join([accumulator.layout for accumulator in accumulators])
        self.before = <char*>calloc(2, self.saved_size + 8)
        if self.before == NULL:
            raise MemoryError("no memory left for aggregates")

    def __dealloc__(self):
        free(self.refs)
        free(self.before)

    cdef int clear(self, char* state) except -1 nogil:
        cdef int i
        for i in range(self.count):
            (<Accumulator>self.refs[i]).clear(state + (<Accumulator>self.refs[i]).offset)
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef int i
        for i in range(self.count):
            (<Accumulator>self.refs[i]).write(state + (<Accumulator>self.refs[i]).offset, out)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef int i
        for i in range(self.count):
            (<Accumulator>self.refs[i]).read(state + (<Accumulator>self.refs[i]).offset, source)
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

    cdef int merge_those(self, bint refusing, char* into, char* other) except -1 nogil:
        cdef int i
        cdef int64_t at
        for i in range(self.count):
            if (<Accumulator>self.refs[i]).refuses == refusing:
                at = (<Accumulator>self.refs[i]).offset
                (<Accumulator>self.refs[i]).merge(into + at, other + at)
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
        for i in range(self.count):
            (<Accumulator>self.refs[i]).run(states, rows, n, mode)
        return 0

    cdef int run_those(self, bint refusing, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int i
        for i in range(self.count):
            if (<Accumulator>self.refs[i]).refuses == refusing:
                (<Accumulator>self.refs[i]).run(states, rows, n, mode)
        return 0

    cdef int save(self, char* state, char* saved) except -1 nogil:
        cdef int i
        for i in range(self.count):
            if (<Accumulator>self.refs[i]).refuses:
                (<Accumulator>self.refs[i]).save(state + (<Accumulator>self.refs[i]).offset, saved)
                saved += (<Accumulator>self.refs[i]).saved_size
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        cdef int i
        for i in range(self.count):
            if (<Accumulator>self.refs[i]).refuses:
                (<Accumulator>self.refs[i]).restore(state + (<Accumulator>self.refs[i]).offset, saved)
                saved += (<Accumulator>self.refs[i]).saved_size
        return 0

    cdef int forget(self, char* saved) except -1 nogil:
        cdef int i
        for i in range(self.count):
            if (<Accumulator>self.refs[i]).refuses:
                (<Accumulator>self.refs[i]).forget(saved)
                saved += (<Accumulator>self.refs[i]).saved_size
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
    return AccumulatorSet([make_accumulator(operator, spec, arena) for spec in specs], offset)
