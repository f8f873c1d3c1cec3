"""Sums and moments out of which a value can be taken again, exactly: where rows may be withdrawn, and for panes of windows.

Nothing is rounded and nothing overflows but the result: integers are added up in 128 bits, decimals in 192, floats in as many as
they need. So what is left after a withdrawal is what there would be if the value had never come.
"""
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, cell_decimal, cell_of_decimal, damaged_state, f64_bits, read_bytes, results_append, results_bits,
    results_null,
)
from streamdsl._native.aggregates.exact_sum cimport (
    SQUARE_DIGITS, SUM_DIGITS, ExactMoments, exact_add, exact_carry, exact_clear, exact_merge, exact_sum, exact_variance, exact_withdraw,
)
from streamdsl._native.flow.batch cimport KIND_U64
from streamdsl._native.includes.decimal cimport dec_load, dec_quotient, dec_store, dec_sub, int128, wide_add, wide_decimal, wide_merge
from streamdsl._native.includes.int128 cimport i128_as_double, i128_fits
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

from streamdsl.errors import InternalError


cdef struct IntegerTotal:
    int64_t n                                # values
    char[16] sum                             # 128 bits


cdef class IntegerTotals(Accumulator):
    """sum and mean of integers and bools. A sum that does not fit its column is an error of the record."""
    cdef bint means

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = sizeof(IntegerTotal)
        self.means = spec.kind == "mean"
        self.refuses = not self.means
        self.layout = f"integer_total:{spec.input_kind}"

    cdef inline int128 number(self, const Cell* argument) noexcept nogil:
        return <int128><uint64_t>argument.bits if self.argument_kind == KIND_U64 else <int128>argument.bits

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef IntegerTotal* total = <IntegerTotal*>state
        dec_store(total.sum, dec_load(total.sum) + self.number(argument))
        total.n += 1
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
            if not i128_fits(total.sum, self.argument_kind == KIND_U64):
                self.fail("integer overflow in sum()")
            return results_bits(&self.results, (<int64_t*>total.sum)[0])
        if total.n == 0:
            return results_null(&self.results)
        return results_bits(&self.results, f64_bits(i128_as_double(total.sum) / <double>total.n))


cdef struct WideTotal:
    int64_t n
    char[24] sum                             # 192 bits, in the scale of the column


cdef class DecimalTotals(Accumulator):
    """sum and mean of decimals. A result of more than 38 digits is an error of the record."""
    cdef bint means
    cdef int64_t shift                       # digits that a mean has more than the argument

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = sizeof(WideTotal)
        self.refuses = True
        self.means = spec.kind == "mean"
        self.shift = spec.output_type.scale - spec.input_type.scale
        self.layout = f"decimal_total:{spec.input_type.scale}"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        wide_add((<WideTotal*>state).sum, cell_decimal(argument))
        (<WideTotal*>state).n += 1
        return 0

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
            self.fail("decimal overflow: the sum has more than 38 digits")
        if self.means and not dec_quotient(result, self.shift, <int128>total.n, &result):
            self.fail("decimal overflow: the mean has more than 38 digits")
        cell = cell_of_decimal(result)
        return results_append(&self.results, &cell)


cdef enum Moment:
    TOTAL = 0
    MEAN = 1
    VARIANCE = 2
    DEVIATION = 3


# An ExactMoments without the digits that are zero.
cdef struct FloatTotal:
    int64_t n
    int64_t n_nan
    int64_t n_positive
    int64_t n_negative
    int32_t low                              # of the sum
    int32_t high
    int32_t squares_low
    int32_t squares_high
    int64_t* digits                          # in the arena: those of the sum, then those of the squares


cdef inline int64_t digits_of(const FloatTotal* total) noexcept nogil:
    return total.high - total.low + total.squares_high - total.squares_low


cdef class FloatTotals(Accumulator):
    """sum, mean, var and std of floats, rounded once: no value that was taken out leaves a trace."""
    cdef Moment moment
    cdef bint squared
    cdef int64_t ddof
    cdef ExactMoments* open                  # scratch: the state at hand, all its digits
    cdef ExactMoments* other                 # scratch: the one that is merged into it

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(FloatTotal)
        self.moment = {"sum": TOTAL, "mean": MEAN, "var": VARIANCE, "std": DEVIATION}[spec.kind]
        self.squared = spec.kind in ("var", "std")
        self.ddof = dict(spec.params).get("ddof", 0)
        self.layout = "float_moments" if self.squared else "float_total"
        self.open = <ExactMoments*>calloc(1, sizeof(ExactMoments))
        self.other = <ExactMoments*>calloc(1, sizeof(ExactMoments))
        if self.open == NULL or self.other == NULL:
            raise MemoryError("no memory left for an aggregate")

    def __dealloc__(self):
        free(self.open)
        free(self.other)

    cdef void load(self, const FloatTotal* total, ExactMoments* moments) noexcept nogil:
        exact_clear(moments, self.squared)
        memcpy(moments, total, 4 * sizeof(int64_t))
        moments.sum.low, moments.sum.high = total.low, total.high
        if total.high > total.low:
            memcpy(moments.sum.digits + total.low, total.digits, (total.high - total.low) * 8)
        if self.squared:
            moments.squares.low, moments.squares.high = total.squares_low, total.squares_high
            if total.squares_high > total.squares_low:
                memcpy(moments.squares.digits + total.squares_low, total.digits + (total.high - total.low),
                       (total.squares_high - total.squares_low) * 8)

    cdef int store(self, FloatTotal* total) except -1 nogil:
        cdef ExactMoments* moments = self.open
        cdef int64_t before = digits_of(total), after
        exact_carry(moments, self.squared)
        memcpy(total, moments, 4 * sizeof(int64_t))
        total.low, total.high = moments.sum.low, moments.sum.high
        if self.squared:
            total.squares_low, total.squares_high = moments.squares.low, moments.squares.high
        after = digits_of(total)
        if after == 0:
            self.arena.free(<char*>total.digits, 8 * before)
            total.digits = NULL
            return 0
        if after != before:
            total.digits = <int64_t*>self.arena.realloc(<char*>total.digits, 8 * before, 8 * after)
        memcpy(total.digits, moments.sum.digits + total.low, (total.high - total.low) * 8)
        if self.squared:
            memcpy(total.digits + (total.high - total.low), moments.squares.digits + total.squares_low,
                   (total.squares_high - total.squares_low) * 8)
        return 0

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        self.load(<FloatTotal*>state, self.open)
        exact_add(self.open, as_f64(argument.bits), self.squared)
        return self.store(<FloatTotal*>state)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        self.load(<FloatTotal*>state, self.open)
        exact_withdraw(self.open, as_f64(argument.bits), self.squared)
        return self.store(<FloatTotal*>state)

    cdef int merge(self, char* into, char* other) except -1 nogil:
        self.load(<FloatTotal*>into, self.open)
        self.load(<FloatTotal*>other, self.other)
        exact_merge(self.open, self.other, self.squared)
        self.store(<FloatTotal*>into)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        cdef double value
        if self.squared:
            if total.n == 0 or total.n <= self.ddof:
                return results_null(&self.results)
            self.load(total, self.open)
            value = exact_variance(self.open, self.ddof)
            return results_bits(&self.results, f64_bits(sqrt(value) if self.moment == DEVIATION else value))
        if self.moment == MEAN and total.n == 0:
            return results_null(&self.results)
        self.load(total, self.open)
        value = exact_sum(self.open)
        return results_bits(&self.results, f64_bits(value / <double>total.n if self.moment == MEAN else value))

    cdef int clear(self, char* state) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        self.arena.free(<char*>total.digits, 8 * digits_of(total))
        memset(state, 0, sizeof(FloatTotal))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        bytes_append(out, state, sizeof(FloatTotal) - sizeof(int64_t*))
        return bytes_append(out, <char*>total.digits, 8 * digits_of(total)) if digits_of(total) > 0 else 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        cdef FloatTotal given
        cdef const char* digits
        memset(&given, 0, sizeof(FloatTotal))
        memcpy(&given, read_bytes(source, sizeof(FloatTotal) - sizeof(int64_t*)), sizeof(FloatTotal) - sizeof(int64_t*))
        if not (0 <= given.low <= given.high <= SUM_DIGITS and 0 <= given.squares_low <= given.squares_high <= SQUARE_DIGITS):
            damaged_state()
        if digits_of(&given) > 0:
            digits = read_bytes(source, 8 * digits_of(&given))
            given.digits = <int64_t*>self.arena.alloc(8 * digits_of(&given))
            memcpy(given.digits, digits, 8 * digits_of(&given))
        total[0] = given
        return 0


def total_of(str operator, spec, Arena arena):
    """Return the sum or moment for the kind of the argument."""
    factories = {"i64": IntegerTotals, "bool": IntegerTotals, "u64": IntegerTotals, "dec": DecimalTotals, "f64": FloatTotals}
    if spec.input_kind not in factories or (spec.kind in ("var", "std") and spec.input_kind != "f64"):
        raise InternalError(f"{spec.kind}() of a column of kind {spec.input_kind!r}")
    return factories[spec.input_kind](operator, spec, arena)
