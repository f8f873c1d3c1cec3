"""Aggregates of values each counted, out of which a value can be taken again: min, max, n_unique, quantile, product.

The state grows with the number of different values, not with that of rows.
"""
from libc.math cimport floor
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from streamdsl._native.aggregates.accumulators cimport Accumulator
from streamdsl._native.aggregates.cell cimport (
    ByteReader, Cell, as_f64, canonical, cell_view, cell_write, damaged_state, f64_bits, read_i64,
    results_append, results_bits, results_null, write_i64,
)
from streamdsl._native.aggregates.number_collectors cimport Between, unsigned_mul_overflows, value_between
from streamdsl._native.aggregates.sorted_cells cimport CellOrder, Place, SortedCells, number_of
from streamdsl._native.flow.batch cimport KIND_F64
from streamdsl._native.state.arena cimport Arena
from streamdsl._native.state.write_stream cimport ByteWriter

from streamdsl._native.aggregates.number_collectors import BETWEEN
from streamdsl.errors import InternalError


cdef class CountedAccumulator(Accumulator):
    """Base: the values in order, each with how often it is there."""
    cdef CellOrder order

    def __init__(self, str operator, spec, Arena arena):
        Accumulator.__init__(self, operator, spec, arena)
        self.size = sizeof(SortedCells)
        self.order = CellOrder([self.argument_kind], [1], 1, arena, by_number=False, exact=True, owns=True)

    cdef Cell value_of(self, const Cell* argument) noexcept nogil:
        return canonical(self.argument_kind, argument)

    cdef int count(self, SortedCells* held, const Cell* value, int64_t by) except -1 nogil:
        cdef Place place = self.order.find(held, value, 0)
        cdef char* entry = self.order.entry(held, place)
        if entry == NULL or self.order.compare(value, 0, entry) != 0:
            if by < 0:
                return withdrawn_unknown(self)
            self.order.insert(held, value, by)
            return 0
        if number_of(self.order, entry)[0] + by > 0:
            return self.order.change(held, place, by)
        return self.order.remove(held, place)

    cdef int add(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Cell value = self.value_of(argument)
        return self.count(<SortedCells*>state, &value, 1)

    cdef int withdraw(self, char* state, const Cell* argument, const Cell* by) except -1 nogil:
        cdef Cell value = self.value_of(argument)
        return self.count(<SortedCells*>state, &value, -1)

    cdef int clear(self, char* state) except -1 nogil:
        return self.order.clear(<SortedCells*>state)

    cdef int write(self, char* state, ByteWriter* out) except -1 nogil:
        cdef SortedCells* held = <SortedCells*>state
        cdef Place place = self.order.first()
        cdef char* entry = self.order.entry(held, place)
        write_i64(held.count, out)
        while entry != NULL:
            cell_write(<Cell*>entry, self.argument_kind, out)
            write_i64(number_of(self.order, entry)[0], out)
            place = self.order.next(held, place)
            entry = self.order.entry(held, place)
        return 0

    cdef int read(self, char* state, ByteReader* source) except -1 nogil:
        cdef Cell cell
        cdef int64_t _i, number, count = read_i64(source)
        for _i in range(count):
            cell_view(&cell, self.argument_kind, source)
            number = read_i64(source)
            if cell.tag == 0 or number < 1:
                damaged_state()
            self.order.insert(<SortedCells*>state, &cell, number)
        return 0


cdef int withdrawn_unknown(Accumulator accumulator) except -1 nogil:
    with gil:
        raise InternalError(f"{accumulator.operator}: {accumulator.column} is to give back a value that it does not have")


cdef class CountedExtreme(CountedAccumulator):
    """min and max."""
    cdef bint greatest

    def __init__(self, str operator, spec, Arena arena):
        CountedAccumulator.__init__(self, operator, spec, arena)
        self.greatest = spec.kind == "max"

    cdef int emit(self, char* state) except -1 nogil:
        cdef SortedCells* held = <SortedCells*>state
        cdef char* entry = self.order.last(held) if self.greatest else self.order.entry(held, self.order.first())
        return results_null(&self.results) if entry == NULL else results_append(&self.results, <Cell*>entry)


cdef class CountedUnique(CountedAccumulator):
    """n_unique: 0.0 and -0.0 are one value."""

    cdef Cell value_of(self, const Cell* argument) noexcept nogil:
        cdef Cell value = canonical(self.argument_kind, argument)
        if self.argument_kind == KIND_F64 and as_f64(value.bits) == 0.0:
            value.bits = 0
        return value

    cdef int emit(self, char* state) except -1 nogil:
        return results_bits(&self.results, (<SortedCells*>state).count)


cdef class CountedQuantile(CountedAccumulator):
    """quantile and median of floats."""
    cdef double q
    cdef Between between

    def __init__(self, str operator, spec, Arena arena):
        CountedAccumulator.__init__(self, operator, spec, arena)
        params = dict(spec.params)
        self.q = params["q"]
        self.between = <Between><int>BETWEEN[params["interpolation"]]

    cdef int emit(self, char* state) except -1 nogil:
        cdef SortedCells* held = <SortedCells*>state
        cdef int64_t n = self.order.weight(held), below
        cdef double place, low, high
        if n == 0:
            return results_null(&self.results)
        place = <double>(n - 1) * self.q
        below = <int64_t>floor(place)
        low = as_f64((<Cell*>self.order.weighed(held, below)).bits)
        high = as_f64((<Cell*>self.order.weighed(held, below + 1 if below + 1 < n else below)).bits)
        return results_bits(&self.results, f64_bits(value_between(self.between, low, high, place - <double>below)))


cdef class CountedProduct(CountedAccumulator):
    """The values multiplied in ascending order; 1 of nothing. An overflow of whole numbers is an error of the record."""
    cdef int64_t undo                        # what takes the last change back: 1 or -1 times `changed`; 0: there was none
    cdef Cell changed

    def __init__(self, str operator, spec, Arena arena):
        CountedAccumulator.__init__(self, operator, spec, arena)
        self.refuses = self.argument_kind != KIND_F64
        self.saved_size = 8

    cdef int count(self, SortedCells* held, const Cell* value, int64_t by) except -1 nogil:
        CountedAccumulator.count(self, held, value, by)
        self.changed = value[0]
        self.undo = -by
        return 0

    cdef int save(self, char* state, char* saved) except -1 nogil:
        self.undo = 0
        return 0

    cdef int restore(self, char* state, char* saved) except -1 nogil:
        if self.undo != 0:
            self.count(<SortedCells*>state, &self.changed, self.undo)
        return 0

    cdef int emit(self, char* state) except -1 nogil:
        cdef SortedCells* held = <SortedCells*>state
        cdef Place place = self.order.first()
        cdef char* entry = self.order.entry(held, place)
        cdef double product = 1.0
        cdef uint64_t size = 1
        cdef bint fits = True, negative = False
        cdef Cell zero
        zero.tag = 1
        zero.bits = 0
        if self.argument_kind != KIND_F64 and self.has(held, &zero):
            return results_bits(&self.results, 0)        # whatever the others would come to
        while entry != NULL:
            if self.argument_kind == KIND_F64:
                product *= self.power(as_f64((<Cell*>entry).bits), number_of(self.order, entry)[0])
            else:
                fits = fits and multiplied(&size, magnitude((<Cell*>entry).bits), number_of(self.order, entry)[0])
                if (<Cell*>entry).bits < 0 and number_of(self.order, entry)[0] & 1:
                    negative = not negative
            place = self.order.next(held, place)
            entry = self.order.entry(held, place)
        if self.argument_kind == KIND_F64:
            return results_bits(&self.results, f64_bits(product))
        if not fits or size > <uint64_t>INT64_MAX + negative:
            self.fail("integer overflow in product()")
        return results_bits(&self.results, <int64_t>(<uint64_t>0 - size if negative else size))

    cdef bint has(self, const SortedCells* held, const Cell* value) noexcept nogil:
        cdef char* entry = self.order.entry(held, self.order.find(held, value, 0))
        return entry != NULL and self.order.compare(value, 0, entry) == 0

    cdef double power(self, double base, int64_t times) noexcept nogil:
        cdef double found = 1.0
        while times > 0:
            if times & 1:
                found *= base
            base *= base
            times >>= 1
        return found


cdef inline uint64_t magnitude(int64_t value) noexcept nogil:
    return <uint64_t>0 - <uint64_t>value if value < 0 else <uint64_t>value


cdef bint multiplied(uint64_t* product, uint64_t factor, int64_t times) noexcept nogil:
    """Multiply so many times; return whether the result fits."""
    if factor == 1:
        return True
    while times > 0:                         # 64 times at most
        if unsigned_mul_overflows(product[0], factor, product):
            return False
        times -= 1
    return True


COUNTED = {"min": CountedExtreme, "max": CountedExtreme, "n_unique": CountedUnique, "quantile": CountedQuantile, "product": CountedProduct}
