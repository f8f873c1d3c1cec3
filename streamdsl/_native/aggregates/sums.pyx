"""Counts, sums and what is made of them."""
from libc.math cimport INFINITY, isinf, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.aggregates.accumulators cimport ADD_THEN_EMIT, EMIT, EMIT_THEN_ADD, Accumulator, RunMode, takes
from streamdsl._native.aggregates.cell cimport Cell, Results, as_f64, f64_bits, results_bits, results_null
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_F64, KIND_U64
from streamdsl._native.includes.checked cimport PLANTED
from streamdsl._native.includes.int128 cimport i128_add, i128_as_double, i128_merge, u128_add
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter

from streamdsl.errors import InternalError

cdef extern from * nogil:
    """
    #define sd_add_overflows(a, b, out) __builtin_add_overflow((a), (b), (out))
    """

    bint i64_add_overflows "sd_add_overflows"(int64_t a, int64_t b, int64_t* out) noexcept
    bint u64_add_overflows "sd_add_overflows"(uint64_t a, uint64_t b, uint64_t* out) noexcept


cdef int emit_numbers(Results* results, char** states, int64_t offset, int64_t n) except -1 nogil:
    """Append what stands in the eight bytes there."""
    cdef int64_t* out = <int64_t*>results.column.values + results.n
    cdef int64_t i
    for i in range(n):
        out[i] = (<int64_t*>(states[i] + offset))[0]
    results.n += n
    return 0


cdef class CountAccumulator(Accumulator):
    """Rows, or values that are not null."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 8
        self.flat = True

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<int64_t*>state)[0] += 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<int64_t*>into)[0] += (<int64_t*>other)[0]
        return self.clear(other)

    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil:
        (<int64_t*>into)[0] += (<int64_t*>source)[0]
        return 0

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<int64_t*>state)[0] -= 1
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<int64_t*>state)[0])

    cdef int emit_many(self, char** states, int64_t offset, int64_t n) except -1 nogil:
        return emit_numbers(&self.results, states, offset, n)

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i
        cdef int64_t* count
        cdef int64_t* out = <int64_t*>self.results.column.values
        if self.changes != NULL or mode == EMIT:
            return Accumulator.run(self, states, rows, n, mode)
        for i in range(n):
            count = <int64_t*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                out[i] = count[0]
            if takes(self, rows[i] if rows != NULL else i):
                count[0] += 1
            if mode == ADD_THEN_EMIT:
                out[i] = count[0]
        return 0


cdef class SumI64Accumulator(Accumulator):
    """Integers and bools; an overflow is an error of the record."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = 8
        self.flat = True
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
        self.flat = True

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<double*>state)[0] += as_f64(argument.bits)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<double*>into)[0] += (<double*>other)[0]
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<int64_t*>state)[0])

    cdef int emit_many(self, char** states, int64_t offset, int64_t n) except -1 nogil:
        return emit_numbers(&self.results, states, offset, n)

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef double* total
        cdef double* out = <double*>self.results.column.values
        cdef double* values = <double*>self.argument_column.values if self.argument_column != NULL else NULL
        if mode == EMIT:
            return self.emit_each(states, n)
        for i in range(n):
            total = <double*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                out[i] = total[0]
            row = rows[i] if rows != NULL else i
            if takes(self, row):
                total[0] += values[row]
            if mode == ADD_THEN_EMIT:
                out[i] = total[0]
        return 0


cdef struct Totals:
    double total                             # a SumF64Accumulator may read it as its state
    int64_t n


cdef struct Moments:
    double total                             # as Totals: a MeanF64Accumulator may read it
    int64_t n
    double centre                            # the mean as the recurrence goes: stable, but not the sum by the count
    double m2                                # sum of squared distances from it


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


cdef class MeanF64Accumulator(Accumulator):
    """The mean of floats: their sum, added one after another, by their number."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Totals)
        self.flat = True

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        (<Totals*>state).total += as_f64(argument.bits)
        (<Totals*>state).n += 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        self.add_copy(into, other, NULL, NULL)
        return self.clear(other)

    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil:
        (<Totals*>into).total += (<Totals*>source).total
        (<Totals*>into).n += (<Totals*>source).n
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef Totals* totals = <Totals*>state
        if totals.n == 0:
            return results_null(&self.results)
        return results_bits(&self.results, f64_bits(totals.total / <double>totals.n))

    cdef int emit_many(self, char** states, int64_t offset, int64_t n) except -1 nogil:
        cdef double* out = <double*>self.results.column.values + self.results.n
        cdef const Totals* totals
        cdef bint any_empty = False
        cdef int64_t i
        for i in range(n):
            totals = <Totals*>(states[i] + offset)
            any_empty |= totals.n == 0
            out[i] = totals.total / <double>totals.n
        if any_empty and not PLANTED("mean-of-nothing-among-others"):
            return Accumulator.emit_many(self, states, offset, n)
        self.results.n += n
        return 0

    cdef bint share(self, Accumulator other):
        # The sum of one column reads this state, and both results are written in one pass.
        if type(other) not in (MeanF64Accumulator, SumF64Accumulator) or not self.reads(other):
            return False
        self.take_in(other)
        return True

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef Totals* totals
        cdef double* values = <double*>self.argument_column.values if self.argument_column != NULL else NULL
        cdef bint always = self.where_column == NULL and self.argument_column != NULL and self.argument_column.valid == NULL
        if mode == EMIT:
            return self.emit_each(states, n)
        for i in range(n):
            totals = <Totals*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                self.emit_all(<char*>totals)
            row = rows[i] if rows != NULL else i
            if always or takes(self, row):
                totals.total += values[row]
                totals.n += 1
            if mode == ADD_THEN_EMIT:
                self.emit_all(<char*>totals)
        return 0


cdef class MomentsAccumulator(Accumulator):
    """var and std: Welford's recurrence; `ddof` is taken from n."""
    cdef bint rooted
    cdef int64_t ddof

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Moments)
        self.flat = True
        self.rooted = spec.kind == "std"
        self.ddof = dict(spec.params).get("ddof", 0)
        # Both hold the same: one can take the place of the other after a change of the topology.
        self.layout = f"moments/2:{spec.input_kind}"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        welford(<Moments*>state, as_number(self.argument_kind, argument.bits))
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        unite(<Moments*>into, <Moments*>other)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef Moments* moments = <Moments*>state
        cdef double value
        if moments.n <= self.ddof:
            return results_null(&self.results)
        value = moments.m2 / <double>(moments.n - self.ddof)
        return results_bits(&self.results, f64_bits(sqrt(value) if self.rooted else value))

    cdef bint share(self, Accumulator other):
        # mean and sum of floats of one column read this state, and their results are written in one pass.
        if type(other) not in (MomentsAccumulator, MeanF64Accumulator, SumF64Accumulator) or not self.reads(other):
            return False
        self.take_in(other)
        return True

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef Moments* moments
        cdef int64_t* values = <int64_t*>self.argument_column.values if self.argument_column != NULL else NULL
        cdef bint always = self.where_column == NULL and self.argument_column != NULL and self.argument_column.valid == NULL
        if self.argument_kind == KIND_BOOL or mode == EMIT:
            return Accumulator.run(self, states, rows, n, mode)
        for i in range(n):
            moments = <Moments*>(states[i] + self.offset)
            if mode == EMIT_THEN_ADD:
                self.emit_all(<char*>moments)
            row = rows[i] if rows != NULL else i
            if always or takes(self, row):
                welford(moments, as_number(self.argument_kind, values[row]))
            if mode == ADD_THEN_EMIT:
                self.emit_all(<char*>moments)
        return 0


cdef class MeanAccumulator(Accumulator):
    """The mean of integers: their exact sum in 128 bits, by their number."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = 24                       # the number, the sum
        self.flat = True

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
    return (MeanF64Accumulator if spec.input_kind == "f64" else MeanAccumulator)(operator, spec, arena)


SUMS = {
    "count": CountAccumulator,
    "sum": sum_of,
    "mean": mean_of,
    "var": MomentsAccumulator,
    "std": MomentsAccumulator,
}
