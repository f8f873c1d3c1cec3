"""Sums out of which a value can be taken again, exactly: where rows may be withdrawn, and for panes of windows.

Nothing is rounded and nothing overflows but the result: integers are added up in 128 bits, decimals in 192, floats (a file beside
this one) in as many as they need. So what is left after a withdrawal is what there would be if the value had never come.
"""
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t

from streamdsl._native.aggregates.accumulators cimport ADD, Accumulator, RunMode, takes
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, cell_decimal, cell_of_decimal, f64_bits, results_append, results_bits, results_null,
)
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_U64
from streamdsl._native.includes.decimal cimport (
    dec_load, dec_quotient, dec_store, dec_sub, int128, ten_to, wide_add, wide_decimal, wide_merge,
)
from streamdsl._native.includes.int128 cimport i128_as_double, i128_fits
from streamdsl._native.state.arena cimport Arena

from streamdsl.errors import InternalError


cdef enum:
    MOST_DIGITS = 38


cdef struct IntegerTotal:
    int64_t n                                # values
    char[16] sum                             # 128 bits


cdef class IntegerTotals(Accumulator):
    """sum and mean of integers and bools. A sum that does not fit its column is an error of the record."""
    cdef bint means
    cdef int128 most                         # see `watch`; 0: not watched

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = sizeof(IntegerTotal)
        self.flat = True
        self.means = spec.kind == "mean"
        self.refuses = not self.means
        self.layout = f"integer_total:{spec.input_kind}"

    cdef inline int128 number(self, const Cell* argument) noexcept nogil:
        return <int128><uint64_t>argument.bits if self.argument_kind == KIND_U64 else <int128>argument.bits

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef IntegerTotal* total = <IntegerTotal*>state
        dec_store(total.sum, dec_load(total.sum) + self.number(argument))
        total.n += 1
        self.exceeded |= self.most != 0 and not -self.most <= dec_load(total.sum) <= self.most
        return 0

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef IntegerTotal* total
        cdef int128 sum, most = self.most
        cdef int64_t* values
        cdef bint unsigned = self.argument_kind == KIND_U64, exceeded = False
        if mode != ADD or self.changes != NULL or self.argument_column == NULL or self.argument_kind == KIND_BOOL:
            return Accumulator.run(self, states, rows, n, mode)
        values = <int64_t*>self.argument_column.values
        for i in range(n):
            row = rows[i] if rows != NULL else i
            if not takes(self, row):
                continue
            total = <IntegerTotal*>(states[i] + self.offset)
            sum = dec_load(total.sum) + (<int128><uint64_t>values[row] if unsigned else <int128>values[row])
            dec_store(total.sum, sum)
            total.n += 1
            exceeded |= not -most <= sum <= most
        self.exceeded |= exceeded and most != 0
        return 0

    cdef bint watch(self, int64_t parts) noexcept nogil:
        if self.means:                       # a mean always fits
            return False
        self.most = <int128>INT64_MAX // parts
        self.refuses = False
        return True

    cdef bint fits(self, char* state) noexcept nogil:
        return i128_fits((<IntegerTotal*>state).sum, self.argument_kind == KIND_U64)

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        Accumulator.read(self, state, source)
        self.exceeded |= self.most != 0 and not -self.most <= dec_load((<IntegerTotal*>state).sum) <= self.most
        return 0

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef IntegerTotal* total = <IntegerTotal*>state
        dec_store(total.sum, dec_load(total.sum) - self.number(argument))
        total.n -= 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<IntegerTotal*>into).n += (<IntegerTotal*>other).n
        dec_store((<IntegerTotal*>into).sum, dec_load((<IntegerTotal*>into).sum) + dec_load((<IntegerTotal*>other).sum))
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef IntegerTotal* total = <IntegerTotal*>state
        if not self.means:
            if not self.fits(state):
                self.fail_too_large()
            return results_bits(&self.results, (<int64_t*>total.sum)[0])
        if total.n == 0:
            return results_null(&self.results)
        return results_bits(&self.results, f64_bits(i128_as_double(total.sum) / <double>total.n))

    cdef int fail_too_large(self) except -1 nogil:
        return self.fail("integer overflow in sum()")


cdef struct WideTotal:
    int64_t n
    char[24] sum                             # 192 bits, in the scale of the column


cdef class DecimalTotals(Accumulator):
    """sum and mean of decimals. A result of more than 38 digits is an error of the record."""
    cdef bint means
    cdef int64_t shift                       # digits that a mean has more than the argument
    cdef int128 most                         # see `watch`; 0: not watched

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = sizeof(WideTotal)
        self.flat = True
        self.refuses = True
        self.means = spec.kind == "mean"
        self.shift = spec.output_type.scale - spec.input_type.scale
        self.layout = f"decimal_total:{spec.input_type.scale}"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        wide_add((<WideTotal*>state).sum, cell_decimal(argument))
        (<WideTotal*>state).n += 1
        return self.look(state)

    cdef inline int look(self, char* state) noexcept nogil:
        cdef int128 sum = 0
        if self.most != 0 and not (wide_decimal((<WideTotal*>state).sum, &sum) and -self.most <= sum <= self.most):
            self.exceeded = True
        return 0

    cdef bint watch(self, int64_t parts) noexcept nogil:
        self.most = (<int128>ten_to(MOST_DIGITS) - 1) // parts
        self.refuses = False
        return True

    cdef bint fits(self, char* state) noexcept nogil:
        cdef int128 sum = 0
        return wide_decimal((<WideTotal*>state).sum, &sum)

    cdef int fail_too_large(self) except -1 nogil:
        return self.fail("decimal overflow: the sum has more than 38 digits")

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        Accumulator.read(self, state, source)
        return self.look(state)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef int128 negated = 0
        dec_sub(<int128>0, cell_decimal(argument), &negated)         # of at most 38 digits: it fits
        wide_add((<WideTotal*>state).sum, negated)
        (<WideTotal*>state).n -= 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        (<WideTotal*>into).n += (<WideTotal*>other).n
        wide_merge((<WideTotal*>into).sum, (<WideTotal*>other).sum)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef WideTotal* total = <WideTotal*>state
        cdef int128 result = 0
        cdef Cell cell
        if self.means and total.n == 0:
            return results_null(&self.results)
        if not wide_decimal(total.sum, &result):
            self.fail_too_large()
        if self.means and not dec_quotient(result, self.shift, <int128>total.n, &result):
            self.fail("decimal overflow: the mean has more than 38 digits")
        cell = cell_of_decimal(result)
        return results_append(&self.results, &cell)


cdef enum Moment:
    TOTAL = 0
    MEAN = 1
    VARIANCE = 2
    DEVIATION = 3


def total_of(str operator, spec, Arena arena):
    """Return the sum or moment for the kind of the argument."""
    from streamdsl._native.aggregates.float_totals import FloatMoments, FloatTotals

    if spec.kind in ("var", "std"):
        factory = FloatMoments if spec.input_kind == "f64" else None
    else:
        factory = {"i64": IntegerTotals, "bool": IntegerTotals, "u64": IntegerTotals, "dec": DecimalTotals,
                   "f64": FloatTotals}.get(spec.input_kind)
    if factory is None:
        raise InternalError(f"{spec.kind}() of a column of kind {spec.input_kind!r}")
    return factory(operator, spec, arena)
