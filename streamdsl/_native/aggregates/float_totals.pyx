"""Sums and moments of floats without any rounding but that of the result, so that a value can be taken out again.

A sum is kept in 128 bits as long as its terms let it: most columns have values of a few magnitudes. Others are kept in as many
digits as they need; see exact_sum.pxd.
"""
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from streamdsl._native.aggregates.accumulators cimport ADD, Accumulator, RunMode, takes
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, damaged_state, f64_bits, read_bytes, results_bits, results_null,
)
from streamdsl._native.aggregates.exact_sum cimport (
    SQUARE_DIGITS, SUM_DIGITS, ExactMoments, exact_add, exact_carry, exact_clear, exact_merge, exact_sum, exact_variance, exact_withdraw,
)
from streamdsl._native.includes.float_sum cimport (
    FLOAT_SUM_PARTS, FloatSum, float_sum_add, float_sum_merge, float_sum_split, float_sum_value,
)
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append


# An ExactMoments without the digits that are zero.
cdef struct ExactDigits:
    int64_t n
    int64_t n_nan
    int64_t n_positive
    int64_t n_negative
    int32_t low                              # of the sum
    int32_t high
    int32_t squares_low
    int32_t squares_high
    int64_t* digits                          # in the arena: those of the sum, then those of the squares


cdef inline int64_t digits_of(const ExactDigits* total) noexcept nogil:
    return total.high - total.low + total.squares_high - total.squares_low


cdef class FloatMoments(Accumulator):
    """Digits of a sum and, for var and std, of the sum of squares, rounded once."""
    cdef bint rooted
    cdef bint squared
    cdef int64_t ddof
    cdef ExactMoments* open                  # scratch: the state at hand, all its digits
    cdef ExactMoments* other                 # scratch: the one that is merged into it

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(ExactDigits)
        self.squared = spec.kind in ("var", "std")
        self.ddof = dict(spec.params).get("ddof", 0)
        self.rooted = spec.kind == "std"
        self.layout = "float_moments"
        self.open = <ExactMoments*>calloc(1, sizeof(ExactMoments))
        self.other = <ExactMoments*>calloc(1, sizeof(ExactMoments))
        if self.open == NULL or self.other == NULL:
            raise MemoryError("no memory left for an aggregate")

    def __dealloc__(self):
        free(self.open)
        free(self.other)

    cdef void load(self, const ExactDigits* total, ExactMoments* moments) noexcept nogil:
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

    cdef int store(self, ExactDigits* total) except -1 nogil:
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
        self.load(<ExactDigits*>state, self.open)
        exact_add(self.open, as_f64(argument.bits), self.squared)
        return self.store(<ExactDigits*>state)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        self.load(<ExactDigits*>state, self.open)
        exact_withdraw(self.open, as_f64(argument.bits), self.squared)
        return self.store(<ExactDigits*>state)

    cdef int merge(self, char* into, char* other) except -1 nogil:
        self.load(<ExactDigits*>into, self.open)
        self.load(<ExactDigits*>other, self.other)
        exact_merge(self.open, self.other, self.squared)
        self.store(<ExactDigits*>into)
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef ExactDigits* total = <ExactDigits*>state
        cdef double value
        if total.n == 0 or total.n <= self.ddof:
            return results_null(&self.results)
        self.load(total, self.open)
        value = exact_variance(self.open, self.ddof)
        return results_bits(&self.results, f64_bits(sqrt(value) if self.rooted else value))

    cdef bint share(self, Accumulator other):
        if not isinstance(other, FloatMoments) or (<FloatMoments>other).squared != self.squared or not self.reads(other):
            return False
        self.take_in(other)
        return True

    cdef double sum_of(self, char* state) noexcept nogil:
        self.load(<ExactDigits*>state, self.open)
        return exact_sum(self.open)

    cdef int clear(self, char* state) except -1 nogil:
        cdef ExactDigits* total = <ExactDigits*>state
        self.arena.free(<char*>total.digits, 8 * digits_of(total))
        memset(state, 0, sizeof(ExactDigits))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef ExactDigits* total = <ExactDigits*>state
        bytes_append(out, state, sizeof(ExactDigits) - sizeof(int64_t*))
        return bytes_append(out, <char*>total.digits, 8 * digits_of(total)) if digits_of(total) > 0 else 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef ExactDigits* total = <ExactDigits*>state
        cdef ExactDigits given
        cdef const char* digits
        memset(&given, 0, sizeof(ExactDigits))
        memcpy(&given, read_bytes(source, sizeof(ExactDigits) - sizeof(int64_t*)), sizeof(ExactDigits) - sizeof(int64_t*))
        if not (0 <= given.low <= given.high <= SUM_DIGITS and 0 <= given.squares_low <= given.squares_high <= SQUARE_DIGITS):
            damaged_state()
        if digits_of(&given) > 0:
            digits = read_bytes(source, 8 * digits_of(&given))
            given.digits = <int64_t*>self.arena.alloc(8 * digits_of(&given))
            memcpy(given.digits, digits, 8 * digits_of(&given))
        total[0] = given
        return 0


cdef struct FloatTotal:
    int64_t n                                # values
    ExactDigits* digits                      # in the arena: the sum, where 128 bits do not hold it; NULL: they do
    FloatSum sum


cdef class FloatTotals(Accumulator):
    """sum and mean of floats, rounded once: no value that was taken out leaves a trace."""
    cdef bint means
    cdef FloatMoments moments                # what is done with `digits`

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(FloatTotal)
        self.means = spec.kind == "mean"
        self.moments = FloatMoments(operator, spec, arena)
        self.layout = "float_total/2"

    cdef int widen(self, FloatTotal* total) except -1 nogil:
        """Go over to digits."""
        cdef double[FLOAT_SUM_PARTS] parts
        cdef Cell cell
        cdef int i
        total.digits = <ExactDigits*>self.arena.alloc(sizeof(ExactDigits))
        memset(total.digits, 0, sizeof(ExactDigits))
        float_sum_split(&total.sum, parts)
        cell.tag = 1
        for i in range(FLOAT_SUM_PARTS):
            cell.bits = f64_bits(parts[i])
            self.moments.add(<char*>total.digits, &cell, NULL)
        memset(&total.sum, 0, sizeof(FloatSum))
        return 0

    cdef int narrow(self, FloatTotal* total) except -1 nogil:
        self.moments.clear(<char*>total.digits)
        self.arena.free(<char*>total.digits, sizeof(ExactDigits))
        total.digits = NULL
        return 0

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        total.n += 1
        if total.digits == NULL:
            if float_sum_add(&total.sum, as_f64(argument.bits), 1):
                return 0
            self.widen(total)
        return self.moments.add(<char*>total.digits, argument, by)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        total.n -= 1
        if total.digits == NULL:
            if float_sum_add(&total.sum, as_f64(argument.bits), -1):
                return 0
            self.widen(total)
        self.moments.withdraw(<char*>total.digits, argument, by)
        return self.narrow(total) if total.n == 0 else 0

    cdef int run(self, char** states, const int32_t* rows, int64_t n, RunMode mode) except -1 nogil:
        cdef int64_t i, row
        cdef FloatTotal* total
        cdef double* values
        cdef Cell cell
        if mode != ADD or self.changes != NULL or self.argument_column == NULL:
            return Accumulator.run(self, states, rows, n, mode)
        values = <double*>self.argument_column.values
        cell.tag = 1
        for i in range(n):
            row = rows[i] if rows != NULL else i
            if not takes(self, row):
                continue
            total = <FloatTotal*>(states[i] + self.offset)
            if total.digits == NULL and float_sum_add(&total.sum, values[row], 1):
                total.n += 1
            else:
                cell.bits = f64_bits(values[row])
                self.add(<char*>total, &cell, NULL)
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>into
        cdef FloatTotal* more = <FloatTotal*>other
        total.n += more.n
        if total.digits == NULL and more.digits == NULL and float_sum_merge(&total.sum, &more.sum):
            return self.clear(other)
        if total.digits == NULL:
            self.widen(total)
        if more.digits == NULL:
            self.widen(more)
        self.moments.merge(<char*>total.digits, <char*>more.digits)
        return self.clear(other)

    cdef int add_copy(self, char* into, char* source, char* room, ByteWriter* scratch) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>into
        cdef FloatTotal* more = <FloatTotal*>source
        if total.digits == NULL and more.digits == NULL and float_sum_merge(&total.sum, &more.sum):
            total.n += more.n
            return 0
        return Accumulator.add_copy(self, into, source, room, scratch)

    cdef int emit(self, char* state) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        cdef double value
        if self.means and total.n == 0:
            return results_null(&self.results)
        value = float_sum_value(&total.sum) if total.digits == NULL else self.moments.sum_of(<char*>total.digits)
        return results_bits(&self.results, f64_bits(value / <double>total.n if self.means else value))

    cdef bint share(self, Accumulator other):
        if not isinstance(other, FloatTotals) or not self.reads(other):
            return False
        self.take_in(other)
        return True

    cdef int clear(self, char* state) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        if total.digits != NULL:
            self.narrow(total)
        memset(state, 0, sizeof(FloatTotal))
        return 0

    cdef int copy(self, char* into, char* source, ByteWriter* scratch) except -1 nogil:
        if (<FloatTotal*>source).digits != NULL:
            return Accumulator.copy(self, into, source, scratch)
        (<FloatTotal*>into)[0] = (<FloatTotal*>source)[0]
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        cdef int64_t wide = total.digits != NULL
        bytes_append(out, &total.n, 8)
        bytes_append(out, &wide, 8)
        return self.moments.write(<char*>total.digits, out) if wide else bytes_append(out, &total.sum, sizeof(FloatSum))

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef FloatTotal* total = <FloatTotal*>state
        cdef int64_t[2] head
        memcpy(head, read_bytes(source, sizeof(head)), sizeof(head))
        if head[1] != 0 and head[1] != 1:
            damaged_state()
        if head[1]:
            total.digits = <ExactDigits*>self.arena.alloc(sizeof(ExactDigits))
            memset(total.digits, 0, sizeof(ExactDigits))
            self.moments.read(<char*>total.digits, source)
        else:
            memcpy(&total.sum, read_bytes(source, sizeof(FloatSum)), sizeof(FloatSum))
        total.n = head[0]
        return 0
