"""See json_reader.pxd for what is read here and what is not."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy

from streamdsl._native.flow.batch cimport (
    KIND_BOOL, KIND_F64, KIND_I64, KIND_STR, KIND_U64, Batch, Buffer, Column, batch_new, batch_release, buffer_new, buffer_release,
    batch_retain, column_alloc, column_alloc_valid, column_drop_valid,
)
from streamdsl._native.flow.native_rows cimport wrap_rows
from streamdsl._native.includes.checked cimport CHECK
from streamdsl._native.serdes.json_text cimport blanks, is_digit, literal, text
from streamdsl._native.serdes.number_text cimport parse_double

import pyarrow as pa

cdef double[23] EXACT_TENS
for _power in range(23):
    EXACT_TENS[_power] = 10.0**_power

cdef object KINDS = {pa.int64(): KIND_I64, pa.uint64(): KIND_U64, pa.float64(): KIND_F64, pa.bool_(): KIND_BOOL, pa.string(): KIND_STR}


# Pieces of a record: each takes where it begins and returns where it ends, NULL if it is odd -------------------------------------


cdef const char* number(const char* p, const char* end, Number* out) noexcept nogil:
    cdef const char* first
    cdef int exponent = 0, sign = 1
    cdef bint zero
    out.digits, out.n_digits, out.scale = 0, 0, 0
    out.negative = p < end and p[0] == c"-"
    p += out.negative
    zero = p < end and p[0] == c"0"
    first = p
    while is_digit(p, end):
        out.digits = out.digits * 10 + <uint64_t>(p[0] - c"0")
        p += 1
    out.n_digits = <int>min(p - first, DIGITS + 1) - zero
    if p == first or (zero and p > first + 1):
        return NULL
    out.whole = True
    if p < end and p[0] == c".":
        out.whole = False
        p += 1
        first = p
        while is_digit(p, end):
            out.digits = out.digits * 10 + <uint64_t>(p[0] - c"0")
            out.n_digits += out.digits != 0
            out.scale -= out.scale > -2 * DIGITS
            p += 1
        if p == first:
            return NULL
    if p < end and p[0] | 32 == c"e":
        out.whole = False
        p += 1
        if p < end and (p[0] == c"-" or p[0] == c"+"):
            sign = -1 if p[0] == c"-" else 1
            p += 1
        if not is_digit(p, end):
            return NULL
        while is_digit(p, end):
            exponent = exponent * 10 + (p[0] - c"0") if exponent <= DIGITS else exponent
            p += 1
        out.scale += sign * exponent
    return p if out.n_digits <= DIGITS and exponent <= DIGITS and out.scale >= -2 * DIGITS else NULL


cdef const char* behind_colon(const char* p, const char* end) noexcept nogil:
    """From the end of a key to its value."""
    p = blanks(p, end)
    return blanks(p + 1, end) if p < end and p[0] == c":" else NULL


cdef const char* passed_over(const char* p, const char* end, char* scratch, int depth) noexcept nogil:
    """A value that nobody asks for."""
    cdef Number ignored
    cdef char* out = scratch
    cdef char close
    if p == end or depth > DEPTH:
        return NULL
    if p[0] == c'"':
        return text(p + 1, end, &out)
    if p[0] == c"t":
        return literal(p, end, "true", 4)
    if p[0] == c"f":
        return literal(p, end, "false", 5)
    if p[0] == c"n":
        return literal(p, end, "null", 4)
    if p[0] != c"{" and p[0] != c"[":
        return number(p, end, &ignored)
    close = c"}" if p[0] == c"{" else c"]"
    p = blanks(p + 1, end)
    if p < end and p[0] == close:
        return p + 1
    while True:
        if close == c"}":
            if p == end or p[0] != c'"':
                return NULL
            out = scratch
            p = text(p + 1, end, &out)
            p = behind_colon(p, end) if p != NULL else NULL
            if p == NULL:
                return NULL
        p = passed_over(p, end, scratch, depth + 1)
        if p == NULL:
            return NULL
        p = blanks(p, end)
        if p == end or (p[0] != c"," and p[0] != close):
            return NULL
        if p[0] == close:
            return p + 1
        p = blanks(p + 1, end)


# Values into columns -----------------------------------------------------------------------------------------


cdef bint as_int(const Number* number, int64_t least, int64_t most, int64_t* out) noexcept nogil:
    if not number.whole or number.n_digits > 19 or number.digits > <uint64_t>INT64_MAX + number.negative:
        return False
    # Without a sign first: the lowest has no counterpart.
    out[0] = <int64_t>(0 - number.digits if number.negative else number.digits)
    return least <= out[0] <= most


cdef bint as_double(const Number* number, const char* p, const char* end, double* out) noexcept nogil:
    if number.n_digits <= 19 and number.digits <= <uint64_t>EXACT_UP_TO and -22 <= number.scale <= 22:
        # Both factors are exact, so one rounding gives the nearest double.
        out[0] = <double>number.digits
        out[0] = out[0] / EXACT_TENS[-number.scale] if number.scale < 0 else out[0] * EXACT_TENS[number.scale]
        if number.negative:
            out[0] = -out[0]
        return True
    return parse_double(p, end - p, out)


cdef void put_null(Target* target, int32_t row) noexcept nogil:
    cdef Column* column = target.column
    if target.kind == KIND_STR:
        column.offsets[row + 1] = column.offsets[row]
    elif target.kind == KIND_BOOL:
        column.values[row] = 0
    else:
        (<int64_t*>column.values)[row] = 0
    column.valid[row] = 0


cdef const char* value(Target* target, const char* p, const char* end, int32_t row) noexcept nogil:
    cdef Column* column = target.column
    cdef const char* first = p
    cdef char* out
    cdef Number read
    if p < end and p[0] == c"n":
        if target.required:
            return NULL
        put_null(target, row)
        return literal(p, end, "null", 4)
    if column.valid != NULL:
        column.valid[row] = 1
    if target.kind == KIND_STR:
        if p == end or p[0] != c'"':
            return NULL
        out = column.values + column.offsets[row]
        p = text(p + 1, end, &out)
        column.offsets[row + 1] = <int32_t>(out - column.values)
        CHECK(out <= column.values_buffer.data + column.values_buffer.size, "a text has more bytes than its record")
        return p
    if target.kind == KIND_BOOL:
        column.values[row] = p < end and p[0] == c"t"
        return literal(p, end, "true", 4) if column.values[row] else literal(p, end, "false", 5)
    p = number(p, end, &read)
    if p == NULL:
        return NULL
    if target.kind == KIND_F64:
        return p if as_double(&read, first, p, <double*>column.values + row) else NULL
    if target.kind == KIND_I64:
        return p if as_int(&read, target.least, target.most, <int64_t*>column.values + row) else NULL
    # Nineteen digits are always below 2**64.
    (<uint64_t*>column.values)[row] = read.digits
    return p if read.whole and read.n_digits <= 19 and not read.negative else NULL


# Records -----------------------------------------------------------------------------------------------------


cdef int target_of(const Reading* reading, const char* key, int64_t size) noexcept nogil:
    cdef int i
    for i in range(reading.width):
        if reading.targets[i].name_size == size and memcmp(reading.targets[i].name, key, size) == 0:
            return i
    return -1


cdef const char* key(Reading* reading, int at, const char* p, const char* end, int* target) noexcept nogil:
    """A key behind its opening quote, and the target that it names. One with an escape in it is odd."""
    cdef Place* place = &reading.places[at] if at < PLACES else NULL
    cdef const char* first = p
    cdef char* out = reading.scratch.data
    if place != NULL and place.key != NULL and end - p > place.size and p[place.size] == c'"' and memcmp(p, place.key, place.size) == 0:
        target[0] = place.target
        return p + place.size + 1
    p = text(p, end, &out)
    if p == NULL or out - reading.scratch.data != p - 1 - first:
        return NULL
    target[0] = target_of(reading, first, p - 1 - first)
    if place != NULL:
        place.key, place.size, place.target = first, p - 1 - first, target[0]
    return p


cdef const char* members(Reading* reading, const char* p, const char* end) noexcept nogil:
    """The members of a record, up to its closing brace."""
    cdef int at = 0, target = -1
    while True:
        if p == end or p[0] != c'"':
            return NULL
        p = key(reading, at, p + 1, end, &target)
        p = behind_colon(p, end) if p != NULL else NULL
        if p == NULL:
            return NULL
        if target < 0:
            p = passed_over(p, end, reading.scratch.data, 0)
        elif reading.targets[target].row == reading.row:
            return NULL
        else:
            reading.targets[target].row = reading.row
            reading.found += 1
            p = value(&reading.targets[target], p, end, reading.row)
        if p == NULL:
            return NULL
        p = blanks(p, end)
        if p == end or (p[0] != c"," and p[0] != c"}"):
            return NULL
        if p[0] == c"}":
            return p + 1
        p = blanks(p + 1, end)
        at += 1


cdef bint is_plain(Reading* reading, const char* p, const char* end) noexcept nogil:
    """Read a record into row `reading.row`; what an odd one has left there is written over by the next."""
    cdef int i
    reading.found = 0
    for i in range(reading.width):
        reading.targets[i].row = -1
    p = blanks(p, end)
    if p == end or p[0] != c"{":
        return False
    p = blanks(p + 1, end)
    p = p + 1 if p < end and p[0] == c"}" else members(reading, p, end)
    if p == NULL or blanks(p, end) != end:
        return False
    if reading.found < reading.width:
        for i in range(reading.width):
            if reading.targets[i].row != reading.row:
                if reading.targets[i].required:
                    return False
                put_null(&reading.targets[i], reading.row)
    return True


cdef int make_room(Buffer** buffer, int64_t used, int64_t size) except -1 nogil:
    cdef Buffer* larger
    if used + size > buffer[0].size:
        larger = buffer_new(2 * (used + size))
        memcpy(larger.data, buffer[0].data, used)
        buffer_release(buffer[0])
        buffer[0] = larger
    return 0


cdef bint has_room(Reading* reading, int64_t size) except -1 nogil:
    """Make room for a record of `size` bytes, wherever they may belong; whether there can be so much."""
    cdef int i
    cdef Column* column
    make_room(&reading.scratch, 0, size)
    for i in range(reading.width):
        column = reading.targets[i].column
        if reading.targets[i].kind == KIND_STR:
            if column.offsets[reading.row] + size > INT32_MAX - SPARE:
                return False
            make_room(&column.values_buffer, column.offsets[reading.row], size)
            column.values = column.values_buffer.data
    return True


cdef int64_t read_all(Reading* reading, const char** begins, const int64_t* sizes, int32_t n, int32_t* odd) except -1 nogil:
    """Read `n` records into rows; returns how many are odd, which `odd` then names."""
    cdef int32_t i
    cdef int64_t n_odd = 0
    for i in range(n):
        if has_room(reading, sizes[i]) and is_plain(reading, begins[i], begins[i] + sizes[i]):
            reading.row += 1
        else:
            odd[n_odd] = i
            n_odd += 1
    return n_odd


cdef class JsonReader:
    """Reads the columns of `schema` (int64, uint64, float64, bool, string) out of JSON objects, in one thread or in several.

    Parameters
    ----------
    schema : pa.Schema
    required : sequence of bool
        Whether a null of that column is odd.
    bounds : sequence of (int, int)
        What the values of an int64 column must lie between (inclusive).

    Examples
    --------
    >>> import pyarrow as pa
    >>> reader = JsonReader(pa.schema([("n", pa.int64())]), [False], [(-128, 127)])
    >>> rows, odd = reader.read([b'{"n": 1}', b'{"n": "1"}', b'{}', b'{"n": 128}'])
    >>> rows.to_arrow().to_pydict(), odd
    ({'n': [1, None]}, [1, 3])
    """

    cdef object schema
    cdef list names                          # as bytes, which the targets point into
    cdef Target* targets                     # without columns: each reading has its own copy
    cdef int width

    def __init__(self, schema, required, bounds):
        cdef int i
        self.schema = schema
        self.names = [name.encode() for name in schema.names]
        self.width = len(self.names)
        self.targets = <Target*>calloc(self.width + 1, sizeof(Target))
        if self.targets == NULL:
            raise MemoryError("no memory left for the columns of a reader")
        for i, type_ in enumerate(schema.types):
            self.targets[i].kind = KINDS[type_]
            self.targets[i].name = PyBytes_AS_STRING(self.names[i])
            self.targets[i].name_size = PyBytes_GET_SIZE(self.names[i])
            self.targets[i].required = required[i]
            self.targets[i].least, self.targets[i].most = bounds[i]

    def __dealloc__(self):
        free(self.targets)

    def read(self, list records):
        """Return the rows of the plain records, as `NativeRows`, and the numbers of the odd ones."""
        cdef tuple held = tuple(records)     # nobody may take a record away meanwhile
        cdef int32_t i, n = <int32_t>len(held)
        cdef int64_t n_odd = 0
        cdef const char** begins = <const char**>malloc((n + 1) * (sizeof(char*) + sizeof(int64_t) + sizeof(int32_t)))
        cdef int64_t* sizes = <int64_t*>(begins + n)
        cdef int32_t* odd = <int32_t*>(sizes + n)
        cdef Batch* batch = NULL
        if begins == NULL:
            raise MemoryError("no memory left for a chunk of records")
        try:
            for i in range(n):
                begins[i] = PyBytes_AS_STRING(<bytes?>held[i])
                sizes[i] = PyBytes_GET_SIZE(<bytes>held[i])
            batch = batch_new(n, self.width)
            with nogil:
                n_odd = self.fill(batch, begins, sizes, n, odd)
            batch_retain(batch)
            return wrap_rows(batch, self.schema), [odd[i] for i in range(n_odd)]
        finally:
            batch_release(batch)
            free(begins)

    cdef int64_t fill(self, Batch* batch, const char** begins, const int64_t* sizes, int32_t n, int32_t* odd) except -1 nogil:
        cdef int i
        cdef int64_t n_odd
        cdef Reading reading
        cdef Target* targets = <Target*>malloc((self.width + 1) * sizeof(Target))
        cdef Place* places = <Place*>calloc(PLACES, sizeof(Place))
        reading.targets, reading.width, reading.places = targets, self.width, places
        reading.row = 0
        reading.scratch = NULL
        try:
            if targets == NULL or places == NULL:
                with gil:
                    raise MemoryError("no memory left for a chunk of records")
            memcpy(targets, self.targets, self.width * sizeof(Target))
            reading.scratch = buffer_new(256)
            for i in range(self.width):
                targets[i].column = &batch.columns[i]
                column_alloc(targets[i].column, targets[i].kind, n, 16 * n)
                if not targets[i].required:
                    column_alloc_valid(targets[i].column, n)
            n_odd = read_all(&reading, begins, sizes, n, odd)
            batch.n = reading.row
            for i in range(self.width):
                if batch.columns[i].valid != NULL and memchr(batch.columns[i].valid, 0, batch.n) == NULL:
                    column_drop_valid(&batch.columns[i])
            return n_odd
        finally:
            free(targets)
            free(places)
            buffer_release(reading.scratch)
