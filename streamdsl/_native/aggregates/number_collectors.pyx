"""Accumulators of numbers beyond sums and moments: quantile, product."""
from libc.math cimport NAN, floor, signbit
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memmove, memset

from streamdsl._native.flow.batch cimport KIND_F64
from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, f64_bits, read_bytes, read_i64, results_bits, results_null, write_i64,
)
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter, bytes_append

BETWEEN = {"nearest": NEAREST, "lower": LOWER, "higher": HIGHER, "midpoint": MIDPOINT, "linear": LINEAR}


cdef double value_between(Between how, double low, double high, double part) noexcept nogil:
    if how == NEAREST:
        return high if part >= 0.5 else low
    if part == 0.0 or how == LOWER:
        return low
    if how == HIGHER:
        return high
    if low == high:
        return low
    if how == MIDPOINT:
        return (low + high) / 2.0
    return low + (high - low) * part


cdef struct Sorted:
    double* values                           # ascending, NaN last
    int64_t count
    int64_t capacity


cdef inline bint is_above(double a, double b) noexcept nogil:
    # -0.0 lies below 0.0, so that what is equal reads the same: no order of arrival is needed.
    if a == b:
        return a == 0.0 and signbit(b) and not signbit(a)
    return a > b or (a != a and b == b)


cdef class QuantileAccumulator(Accumulator):
    """The value below which the part `q` of all values lies. All values are kept, in order."""
    cdef double q
    cdef Between between

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(Sorted)
        params = dict(spec.params)
        self.q = params["q"]
        self.between = BETWEEN[params["interpolation"]]
        # Every quantile keeps the same.
        self.layout = f"sorted:{spec.input_kind}"

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Sorted* held = <Sorted*>state
        cdef double value = as_f64(argument.bits)
        cdef int64_t low = 0, high = held.count, middle
        if value != value:
            value = NAN                      # one of many
        while low < high:
            middle = (low + high) // 2
            if is_above(held.values[middle], value):
                high = middle
            else:
                low = middle + 1
        self.room(held, held.count + 1)
        memmove(held.values + low + 1, held.values + low, (held.count - low) * sizeof(double))
        held.values[low] = value
        held.count += 1
        return 0

    cdef int room(self, Sorted* held, int64_t wanted) except -1 nogil:
        cdef int64_t capacity = max(wanted, 2 * held.capacity, 4)
        if wanted > held.capacity:
            held.values = <double*>self.arena.realloc(
                <char*>held.values, held.capacity * sizeof(double), capacity * sizeof(double))
            held.capacity = capacity
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Sorted* held = <Sorted*>into
        cdef Sorted* more = <Sorted*>other
        cdef int64_t i = held.count, k = more.count, at = i + k
        self.room(held, at)
        while k > 0:                         # from the end: nothing is overwritten before it has moved
            at -= 1
            if i > 0 and is_above(held.values[i - 1], more.values[k - 1]):
                i -= 1
                held.values[at] = held.values[i]
            else:
                k -= 1
                held.values[at] = more.values[k]
        held.count += more.count
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef Sorted* held = <Sorted*>state
        cdef double place, low, high
        cdef int64_t below
        if held.count == 0:
            return results_null(&self.results)
        place = <double>(held.count - 1) * self.q
        below = <int64_t>floor(place)
        low = held.values[below]
        high = held.values[below + 1 if below + 1 < held.count else below]
        return results_bits(&self.results, f64_bits(value_between(self.between, low, high, place - <double>below)))

    cdef int clear(self, char* state) except -1 nogil:
        self.arena.free(<char*>(<Sorted*>state).values, (<Sorted*>state).capacity * <int64_t>sizeof(double))
        memset(state, 0, sizeof(Sorted))
        return 0

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef Sorted* held = <Sorted*>state
        write_i64(held.count, out)
        return bytes_append(out, <char*>held.values, held.count * <int64_t>sizeof(double))

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Sorted* held = <Sorted*>state
        cdef int64_t count = read_i64(source)
        cdef const char* data = read_bytes(source, count * <int64_t>sizeof(double))
        if count > 0:
            self.room(held, count)
            memcpy(held.values, data, count * sizeof(double))
            held.count = count
        return 0


cdef struct Product:
    int64_t n
    int64_t bits                             # of the values so far


cdef class ProductAccumulator(Accumulator):
    """Values multiplied one after another; 1 of nothing. An overflow of whole numbers is an error of the record."""

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = self.saved_size = sizeof(Product)
        self.refuses = self.argument_kind != KIND_F64

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Product* held = <Product*>state
        cdef int64_t result
        if held.n == 0:
            result = argument.bits
        elif self.argument_kind == KIND_F64:
            result = f64_bits(as_f64(held.bits) * as_f64(argument.bits))
        elif mul_overflows(held.bits, argument.bits, &result):
            self.fail("integer overflow in product()")
        held.bits = result
        held.n += 1
        return 0

    cdef int merge(self, char* into, char* other) except -1 nogil:
        cdef Product* more = <Product*>other
        cdef Cell value
        if more.n > 0:
            value.tag = 1
            value.bits = more.bits
            self.add(into, &value, NULL)
            (<Product*>into).n += more.n - 1
        return self.clear(other)

    cdef int emit(self, char* state) except -1 nogil:
        cdef Product* held = <Product*>state
        cdef int64_t one = f64_bits(1.0) if self.argument_kind == KIND_F64 else 1
        return results_bits(&self.results, held.bits if held.n > 0 else one)


NUMBER_COLLECTORS = {"quantile": QuantileAccumulator, "product": ProductAccumulator}
