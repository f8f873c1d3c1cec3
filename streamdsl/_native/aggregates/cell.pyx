"""See cell.pxd for what each function promises."""
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.flow.batch cimport (
    KIND_F64, KIND_I64, KIND_NONE, KIND_U64, column_alloc, column_alloc_valid, column_clear, strings_append,
    strings_append_null, strings_finish, strings_free, strings_init, strings_truncate,
)
from streamdsl._native.includes.decimal cimport dec_compare, dec_store
from streamdsl._native.serdes.decimal_text cimport DECIMAL_ROOM, decimal_text
from streamdsl._native.serdes.json_value cimport put_json_double, put_json_text
from streamdsl._native.serdes.number_text cimport int_text, uint_text
from streamdsl._native.state.write_stream cimport bytes_append, bytes_reserve

from streamdsl.errors import InternalError, StateError

KINDS = {None: KIND_NONE, "bool": KIND_BOOL, "i64": KIND_I64, "u64": KIND_U64, "f64": KIND_F64, "str": KIND_STR, "dec": KIND_DEC}


cdef int kind_number(kind) except -1:
    if kind not in KINDS:
        raise InternalError(f"there is no column kind {kind!r}")
    return KINDS[kind]


cdef int cell_compare(int kind, const Cell* a, const Cell* b) noexcept nogil:
    cdef double x, y
    cdef int64_t size
    cdef int order
    if kind == KIND_STR:
        size = min(a.tag, b.tag) - 1
        order = memcmp(<char*>a.bits, <char*>b.bits, size) if size > 0 else 0
        return order if order != 0 else (a.tag > b.tag) - (a.tag < b.tag)
    if kind == KIND_F64:
        x, y = as_f64(a.bits), as_f64(b.bits)
        if x != x or y != y:
            return (x != x) - (y != y)
        return (x > y) - (x < y)
    if kind == KIND_DEC:
        return dec_compare(cell_decimal(a), cell_decimal(b))
    if kind == KIND_U64:
        return (<uint64_t>a.bits > <uint64_t>b.bits) - (<uint64_t>a.bits < <uint64_t>b.bits)
    return (a.bits > b.bits) - (a.bits < b.bits)


cdef int cell_order(int kind, const Cell* a, const Cell* b) noexcept nogil:
    cdef int order = cell_compare(kind, a, b)
    if order == 0 and kind == KIND_F64 and as_f64(a.bits) == 0.0:
        return (a.bits >= 0) - (b.bits >= 0)
    return order


cdef Cell canonical(int kind, const Cell* cell) noexcept nogil:
    cdef Cell found = cell[0]
    if kind == KIND_F64 and as_f64(found.bits) != as_f64(found.bits):
        found.bits = <int64_t>0x7ff8000000000000
    return found


cdef int cell_assign(Cell* target, int kind, const Cell* source, Arena arena) except -1 nogil:
    cdef int64_t old_size, size
    if kind == KIND_STR:
        old_size = target.tag - 1
        size = source.tag - 1
        if size <= 0:
            cell_free(target, kind, arena)
        else:
            if old_size <= 0:
                target.bits = <int64_t>arena.alloc(size)
            elif old_size != size:
                target.bits = <int64_t>arena.realloc(<char*>target.bits, old_size, size)
            memcpy(<char*>target.bits, <char*>source.bits, size)
        target.tag = source.tag
    else:
        target[0] = source[0]
    return 0


cdef int cell_free(Cell* cell, int kind, Arena arena) except -1 nogil:
    if kind == KIND_STR and cell.tag > 1:
        arena.free(<char*>cell.bits, cell.tag - 1)
    cell.tag = 0
    cell.bits = 0
    return 0


cdef int cell_write(const Cell* cell, int kind, ByteWriter* out) except -1 nogil:
    cdef char head[17]
    cdef int32_t size
    head[0] = cell.tag != 0
    if cell.tag == 0:
        return bytes_append(out, head, 1)
    if kind == KIND_BOOL:
        head[1] = <char>cell.bits
        return bytes_append(out, head, 2)
    if kind == KIND_DEC:
        dec_store(head + 1, cell_decimal(cell))
        return bytes_append(out, head, 17)
    if kind != KIND_STR:
        bytes_append(out, head, 1)
        return bytes_append(out, &cell.bits, 8)
    size = <int32_t>(cell.tag - 1)
    memcpy(head + 1, &size, 4)
    bytes_append(out, head, 5)
    return bytes_append(out, <char*>cell.bits, size) if size > 0 else 0


cdef int cell_view(Cell* cell, int kind, ByteReader* source) except -1 nogil:
    cdef int32_t size = 0
    cell.bits = 0
    cell.tag = read_bytes(source, 1)[0] != 0
    if cell.tag == 0:
        return 0
    if kind == KIND_DEC:
        cell[0] = cell_of_decimal(dec_load(read_bytes(source, 16)))
        return 0
    if kind != KIND_STR:
        size = 1 if kind == KIND_BOOL else 8
        memcpy(&cell.bits, read_bytes(source, size), size)
        return 0
    memcpy(&size, read_bytes(source, 4), 4)
    cell.tag = 1 + <int64_t>size
    cell.bits = <int64_t>read_bytes(source, size)
    return 0


cdef int cell_read(Cell* cell, int kind, ByteReader* source, Arena arena) except -1 nogil:
    cdef Cell view
    cell_view(&view, kind, source)
    return cell_assign(cell, kind, &view, arena)


cdef int write_str_json(const char* data, int64_t size, ByteWriter* out) except -1 nogil:
    out.used += put_json_text(data, size, bytes_reserve(out, 6 * size + 2))
    return 0


cdef int cell_write_json(const Cell* cell, int kind, bint raw, int64_t scale, ByteWriter* out) except -1 nogil:
    cdef char text[DECIMAL_ROOM + 2]
    cdef int size
    if cell.tag == 0:
        return bytes_append(out, b"null", 4)
    if kind == KIND_STR:
        if raw:
            return bytes_append(out, <char*>cell.bits, cell.tag - 1)
        return write_str_json(<char*>cell.bits, cell.tag - 1, out)
    if kind == KIND_BOOL:
        return bytes_append(out, b"true", 4) if cell.bits else bytes_append(out, b"false", 5)
    if kind == KIND_DEC:
        size = 1 + decimal_text(cell_decimal(cell), scale, text + 1)
        text[0] = text[size] = c'"'
        return bytes_append(out, text, size + 1)
    if kind == KIND_F64:
        return bytes_append(out, text, put_json_double(as_f64(cell.bits), text))
    if kind == KIND_U64:
        return bytes_append(out, text, uint_text(<uint64_t>cell.bits, text))
    return bytes_append(out, text, int_text(cell.bits, text))


cdef int64_t read_i64(ByteReader* source) except? -1 nogil:
    cdef int64_t value
    memcpy(&value, read_bytes(source, 8), 8)
    return value


cdef const char* read_bytes(ByteReader* source, int64_t size) except NULL nogil:
    cdef const char* data = source.at
    if size < 0 or source.end - source.at < size:
        damaged_state()
    source.at += size
    return data


cdef int damaged_state() except -1 nogil:
    with gil:
        raise StateError("a stored row does not have the layout that its manifest names",
                         remedy="the checkpoint is damaged: restore an older one")


cdef int results_init(Results* results, int kind, int64_t capacity) except -1 nogil:
    memset(results, 0, sizeof(Results))
    results.kind = kind
    results.capacity = capacity
    if kind == KIND_STR:
        return strings_init(&results.strings, capacity, 16 * capacity)
    return column_alloc(&results.column, kind, capacity, 0)


cdef int results_append(Results* results, const Cell* cell) except -1 nogil:
    cdef int64_t n = results.n
    if results.kind == KIND_STR:
        if cell.tag == 0:
            strings_append_null(&results.strings)
        else:
            strings_append(&results.strings, <char*>cell.bits, cell.tag - 1)
        results.n = n + 1
        return 0
    if results.kind == KIND_BOOL:
        results.column.values[n] = <char>cell.bits
    elif results.kind == KIND_DEC:
        dec_store(results.column.values + 16 * n, cell_decimal(cell))
    else:
        (<int64_t*>results.column.values)[n] = cell.bits
    if cell.tag == 0:
        if results.column.valid == NULL:
            column_alloc_valid(&results.column, results.capacity)
        results.column.valid[n] = 0
    results.n = n + 1
    return 0


cdef int results_finish(Results* results, Column* target) except -1 nogil:
    if results.kind == KIND_STR:
        strings_finish(&results.strings, target)
    else:
        target[0] = results.column
    memset(results, 0, sizeof(Results))
    return 0


cdef void results_truncate(Results* results, int64_t n) noexcept nogil:
    if n >= results.n:
        return
    if results.kind == KIND_STR:
        strings_truncate(&results.strings, n)
    elif results.column.valid != NULL:
        memset(results.column.valid + n, 1, results.n - n)
    results.n = n


cdef void results_free(Results* results) noexcept nogil:
    strings_free(&results.strings)
    column_clear(&results.column)
    memset(results, 0, sizeof(Results))
