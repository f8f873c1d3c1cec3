"""See lookup.pxd. Open addressing with linear probing; at most half of the slots are taken."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from streamdsl._native.expr.ops cimport OP_IS_IN, OP_REPLACE, OP_REPLACE_STRICT
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Kernel,
    Vector,
    Writer,
    has_value,
    own_valid,
    row_at,
    text,
    text_end,
    text_size,
    vector_alloc,
    vector_clear,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.expr.kernels_cast cimport write_value
from streamdsl._native.includes.short_text cimport Words, hash_words, words_of
from streamdsl._native.flow.batch cimport (
    KIND_BOOL,
    KIND_DEC,
    KIND_F64,
    KIND_I64,
    KIND_STR,
    column_alloc,
    column_alloc_valid,
    is_valid,
)
from streamdsl._native.includes.decimal cimport dec_load
from streamdsl._native.serdes.decimal_text cimport DECIMAL_ROOM, decimal_text

from streamdsl.errors import RecordError


cdef Kernel lookup_kernel(int op) noexcept:
    if op == OP_REPLACE or op == OP_REPLACE_STRICT:
        return replace
    if op == OP_IS_IN:
        return is_in
    return NULL


# Finding -----------------------------------------------------------------------------------------------------


cdef inline uint64_t bits_of(int kind, const Vector* source, int64_t at) noexcept nogil:
    """The value as 64 bits that are equal where the values are."""
    cdef double x
    cdef uint64_t bits = 0
    if kind == KIND_BOOL:
        return <uint8_t>source.col.values[at]
    if kind == KIND_F64:
        x = (<double*>source.col.values)[at]
        if x != x:
            return <uint64_t>0x7FF8 << 48
        x += 0.0                             # -0.0 becomes 0.0
        memcpy(&bits, &x, 8)
        return bits
    return (<uint64_t*>source.col.values)[at]


cdef inline uint64_t mixed(uint64_t bits) noexcept nogil:
    bits = (bits ^ (bits >> 32)) * 0x9E3779B97F4A7C15ULL
    return bits ^ (bits >> 29)


cdef uint64_t hash_text(const char* data, int64_t size) noexcept nogil:
    cdef uint64_t word, value = <uint64_t>size
    while size >= 8:
        memcpy(&word, data, 8)
        value = mixed(value ^ word)
        data += 8
        size -= 8
    word = 0
    memcpy(&word, data, size)
    return mixed(value ^ word)


cdef inline int32_t find_short(const Table* table, const char* data, int64_t size, const char* end, int64_t* slot) noexcept nogil:
    cdef Words words = words_of(data, size, end)
    cdef int32_t entry, first
    slot[0] = hash_words(words, size) & table.mask
    while True:
        entry = table.slots[slot[0]]
        if entry < 0:
            return -1
        first = table.ends[entry - 1] if entry > 0 else 0
        if table.words[entry].low == words.low and table.words[entry].high == words.high and table.ends[entry] - first == size:
            return entry
        slot[0] = (slot[0] + 1) & table.mask


cdef int32_t find_long(const Table* table, const char* data, int64_t size, int64_t* slot) noexcept nogil:
    cdef int32_t entry, first
    slot[0] = hash_text(data, size) & table.mask
    while True:
        entry = table.slots[slot[0]]
        if entry < 0:
            return -1
        first = table.ends[entry - 1] if entry > 0 else 0
        if table.ends[entry] - first == size and memcmp(table.text + first, data, size) == 0:
            return entry
        slot[0] = (slot[0] + 1) & table.mask


cdef int32_t find_bits(const Table* table, uint64_t bits, int64_t* slot) noexcept nogil:
    cdef int32_t entry
    slot[0] = mixed(bits) & table.mask
    while True:
        entry = table.slots[slot[0]]
        if entry < 0 or table.keys[entry] == bits:
            return entry
        slot[0] = (slot[0] + 1) & table.mask


cdef inline int32_t find_text(const Table* table, const char* data, int64_t size, const char* end, int64_t* slot) noexcept nogil:
    return find_short(table, data, size, end, slot) if size <= 16 else find_long(table, data, size, slot)


cdef inline int32_t find(const Table* table, const Vector* source, const char* end, int64_t row) noexcept nogil:
    # `end`: of the source's text.
    cdef int64_t slot
    cdef const char* at
    if table.key_kind == KIND_STR:
        return find_text(table, text(source, row), text_size(source, row), end, &slot)
    if table.key_kind == KIND_DEC:           # their bytes serve as a text of sixteen
        at = source.col.values + (0 if source.constant else 16 * row)
        return find_text(table, at, 16, at + 16, &slot)
    return find_bits(table, bits_of(table.key_kind, source, 0 if source.constant else row), &slot)


# Building ----------------------------------------------------------------------------------------------------


cdef object kind_value(value, int kind):
    """The value as the kind's own Python type, or None if the kind has no such value."""
    if kind == KIND_STR:
        return value.encode() if isinstance(value, str) else (value if isinstance(value, bytes) else None)
    if not isinstance(value, (bool, int, float)):
        return None
    if kind == KIND_DEC:                     # already in the scale of the column
        return int(value) if isinstance(value, int) and abs(value) <= 10**38 + 1 else None
    if kind == KIND_F64:
        return float(value)
    if kind == KIND_BOOL:
        return bool(value) if value == 0 or value == 1 else None
    if value != value or value in (float("inf"), float("-inf")) or value != int(value):
        return None
    least, most = (-(2**63), 2**63 - 1) if kind == KIND_I64 else (0, 2**64 - 1)
    return int(value) if least <= value <= most else None


cdef bytes decimal_bytes(value):
    return int(value).to_bytes(16, "little", signed=True)


cdef int store(Vector* target, int kind, int64_t at, value) except -1:
    cdef bytes raw
    if kind == KIND_BOOL:
        target.col.values[at] = <char>(1 if value else 0)
    elif kind == KIND_F64:
        (<double*>target.col.values)[at] = value
    elif kind == KIND_DEC:
        raw = decimal_bytes(value)
        memcpy(target.col.values + 16 * at, <char*>raw, 16)
    elif kind == KIND_I64:
        (<int64_t*>target.col.values)[at] = value
    else:
        (<uint64_t*>target.col.values)[at] = value
    return 0


cdef Table* table_new(list keys, int key_kind) except NULL:
    cdef Table* table = <Table*>calloc(1, sizeof(Table))
    cdef int64_t n_slots = 8
    if table == NULL:
        raise MemoryError("no memory left for a lookup table")
    wanted = [kind_value(key, key_kind) for key in keys if key is not None]
    wanted = [key for key in wanted if key is not None]
    while n_slots < 2 * len(wanted) + 2:
        n_slots *= 2
    table.key_kind = key_kind
    table.mask = n_slots - 1
    table.null_key = None in keys
    table.slots = <int32_t*>malloc(n_slots * 4)
    table.keys = <uint64_t*>malloc(8 * len(wanted) + 8)
    table.ends = <int32_t*>malloc(4 * len(wanted) + 4)
    table.words = <Words*>malloc((len(wanted) + 1) * sizeof(Words))
    if key_kind == KIND_DEC:
        wanted = [decimal_bytes(key) for key in wanted]
    as_text = key_kind == KIND_STR or key_kind == KIND_DEC
    table.text = <char*>malloc(sum(map(len, wanted)) + 1 if as_text else 1)
    if table.slots == NULL or table.keys == NULL or table.ends == NULL or table.words == NULL or table.text == NULL:
        table_free(table)
        raise MemoryError("no memory left for a lookup table")
    memset(table.slots, 0xFF, n_slots * 4)
    try:
        for key in wanted:
            insert(table, key)
    except BaseException:
        table_free(table)
        raise
    return table


cdef int32_t insert(Table* table, key) except -1:
    """The key's entry, made if there is none."""
    cdef int64_t slot
    cdef int32_t entry, first
    cdef uint64_t bits = 0
    cdef char[8] room
    cdef Vector one
    cdef bytes data
    if table.key_kind == KIND_STR or table.key_kind == KIND_DEC:
        data = key
        entry = find_text(table, data, len(data), <char*>data + len(data), &slot)
    else:
        memset(&one, 0, sizeof(Vector))
        one.col.values = room
        store(&one, table.key_kind, 0, key)
        bits = bits_of(table.key_kind, &one, 0)
        entry = find_bits(table, bits, &slot)
    if entry >= 0:
        return entry
    entry = table.n
    if table.key_kind == KIND_STR or table.key_kind == KIND_DEC:
        first = table.ends[entry - 1] if entry > 0 else 0
        memcpy(table.text + first, <char*>data, len(data))
        table.ends[entry] = first + <int32_t>len(data)
        table.words[entry] = words_of(data, min(len(data), 16), <char*>data + len(data))
    else:
        table.keys[entry] = bits
    table.slots[slot] = entry
    table.n += 1
    return entry


cdef int table_set_values(Table* table, list keys, list values, int kind) except -1:
    cdef int32_t i
    cdef bytes data
    by_entry = {}
    for key, value in zip(keys, values, strict=True):
        wanted = None if key is None else kind_value(key, table.key_kind)
        if wanted is not None and table.key_kind == KIND_DEC:
            wanted = decimal_bytes(wanted)
        if wanted is not None:
            by_entry[insert(table, wanted)] = value
    ordered = [None if by_entry[i] is None else kind_value(by_entry[i], kind) for i in range(table.n)]
    if any(ordered[i] is None and by_entry[i] is not None for i in range(table.n)):
        raise ValueError("replace: a value has not the kind of the result")
    column_alloc(&table.values.col, kind, table.n, sum(len(value or b"") for value in ordered) if kind == KIND_STR else 0)
    column_alloc_valid(&table.values.col, table.n)
    for i in range(table.n):
        table.values.col.valid[i] = ordered[i] is not None
        if kind != KIND_STR:
            store(&table.values, kind, i, 0 if ordered[i] is None else ordered[i])
            continue
        data = ordered[i] or b""
        memcpy(table.values.col.values + table.values.col.offsets[i], <char*>data, len(data))
        table.values.col.offsets[i + 1] = table.values.col.offsets[i] + <int32_t>len(data)
    return 0


cdef void table_free(Table* table) noexcept:
    if table != NULL:
        free(table.slots)
        free(table.keys)
        free(table.ends)
        free(table.words)
        free(table.text)
        vector_clear(&table.values)
        free(table)


# Kernels -----------------------------------------------------------------------------------------------------


cdef int is_in(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Table* table = <Table*>ins.table
    cdef int64_t i, row
    cdef uint8_t* nulls = own_valid(frame, out) if table.null_key else NULL
    cdef bint found
    cdef const char* end = text_end(frame, &args[0])
    vector_alloc(frame, out, KIND_BOOL)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            out.col.values[row] = 0
            continue
        found = find(table, &args[0], end, row) >= 0
        out.col.values[row] = found
        if nulls != NULL and not found:
            nulls[row] = 0                   # it may be the unknown value
    return 0


cdef int not_named(Frame* frame, int64_t scale, const Vector* source, int64_t row) except -1 nogil:
    cdef char[DECIMAL_ROOM] shown
    cdef int n
    with gil:
        if source.col.kind == KIND_STR:
            value = repr(text(source, row)[:text_size(source, row)].decode("utf-8", "replace"))
        elif source.col.kind == KIND_DEC:
            n = decimal_text(dec_load(source.col.values + (0 if source.constant else 16 * row)), scale, shown)
            value = shown[:n].decode()
        else:
            n = write_value(source.col.kind, 0, source, row, shown)
            value = shown[:n].decode()
        raise RecordError(
            row if frame.error_row < 0 else frame.error_row,
            f"replace_strict does not name {value}; give default= for values that are not named",
        )


cdef int replace_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef Table* table = <Table*>ins.table
    cdef const Vector* source
    cdef int64_t i, row, at
    cdef int32_t entry, size
    cdef uint8_t* valid = own_valid(frame, out)
    cdef const char* end = text_end(frame, &args[0])
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            entry = find(table, &args[0], end, row) if has_value(&args[0], row) else -1
            source = &table.values if entry >= 0 else (&args[1] if ins.n_args > 1 else NULL)
            at = entry if entry >= 0 else row
            if source == NULL or not has_value(source, at):
                if entry < 0 and ins.op == OP_REPLACE_STRICT and has_value(&args[0], row):
                    not_named(frame, ins.whole, &args[0], row)
                valid[row] = 0
                continue
            valid[row] = 1
            size = text_size(source, at)
            memcpy(writer_room(&writer, size), text(source, at), size)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef int replace(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Table* table = <Table*>ins.table
    cdef const Vector* source
    cdef int64_t i, row, at
    cdef int32_t entry
    cdef uint8_t* valid
    cdef const char* end = text_end(frame, &args[0])
    if ins.kind == KIND_STR:
        return replace_text(frame, ins, args, out)
    valid = own_valid(frame, out)
    vector_alloc(frame, out, ins.kind)
    for i in range(frame.m):
        row = row_at(frame, i)
        entry = find(table, &args[0], end, row) if has_value(&args[0], row) else -1
        source = &table.values if entry >= 0 else (&args[1] if ins.n_args > 1 else NULL)
        valid[row] = source != NULL and has_value(source, entry if entry >= 0 else row)
        if entry < 0 and ins.op == OP_REPLACE_STRICT and has_value(&args[0], row):
            not_named(frame, ins.whole, &args[0], row)
        at = 0 if source == NULL or source.constant else (entry if entry >= 0 else row)
        if ins.kind == KIND_BOOL:
            out.col.values[row] = source.col.values[at] if valid[row] else 0
        elif ins.kind == KIND_DEC:
            if valid[row]:
                memcpy(out.col.values + 16 * row, source.col.values + 16 * at, 16)
            else:
                memset(out.col.values + 16 * row, 0, 16)
        else:
            (<uint64_t*>out.col.values)[row] = (<uint64_t*>source.col.values)[at] if valid[row] else 0
    return 0
