"""See kernels_list.pxd."""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp, memcpy

from streamdsl._native.expr.functions cimport define, refuse_text
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Vector,
    Writer,
    own_valid,
    row_at,
    text,
    text_size,
    vector_alloc,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_I64, is_valid
from streamdsl._native.includes.json_scan cimport json_end
from streamdsl._native.serdes.json_text cimport blanks
from streamdsl._native.serdes.json_text cimport text as unescape
from streamdsl._native.serdes.number_text cimport parse_double, parse_int

cdef enum:
    OF_TEXT = 0
    OF_I64 = 1
    OF_F64 = 2


cdef Items items_of(const Vector* source, int64_t row) noexcept nogil:
    cdef Items items
    items.at = text(source, row)
    items.end = items.at + text_size(source, row)
    items.at = blanks(items.at, items.end)
    items.at = items.at + 1 if items.at < items.end and items.at[0] == c"[" else NULL
    return items


cdef bint next_item(Items* items) noexcept nogil:
    """Whether there is one more."""
    cdef const char* stop
    if items.at == NULL:
        return False
    items.at = blanks(items.at, items.end)
    if items.at >= items.end or items.at[0] == c"]":
        return False
    items.item = items.at
    stop = json_end(items.at, items.end)
    items.at = stop + 1 if stop < items.end and stop[0] == c"," else stop
    while stop > items.item and blanks(stop - 1, stop) == stop:
        stop -= 1
    items.size = stop - items.item
    return True


cdef bint is_null_item(const Items* items) noexcept nogil:
    return items.size == 4 and memcmp(items.item, b"null", 4) == 0


cdef int64_t put_item(const Items* items, char* out) noexcept nogil:
    """The item as text, a text without its quotes; up to `size` bytes and SPARE."""
    cdef char* end = out
    if items.item[0] == c'"' and unescape(items.item + 1, items.item + items.size, &end) != NULL:
        return end - out
    memcpy(out, items.item, items.size)
    return items.size


# Kernels -----------------------------------------------------------------------------------------------------


cdef int with_index(Instruction* ins, tuple params, list keep) except -1:
    """(index, whether one outside the list is null instead of an error)"""
    ins.whole, ins.whole2 = params
    return 0


cdef int with_flag(Instruction* ins, tuple params, list keep) except -1:
    """(whether nulls are left out)"""
    ins.whole = params[0]
    return 0


cdef int64_t count_items(const Vector* source, int64_t row) noexcept nogil:
    cdef Items items = items_of(source, row)
    cdef int64_t n = 0
    while next_item(&items):
        n += 1
    return n


cdef int length(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        (<int64_t*>out.col.values)[row] = count_items(&args[0], row) if is_valid(&out.col, row) else 0
    return 0


cdef bint find_item(Instruction* ins, const Vector* source, int64_t row, Items* items) noexcept nogil:
    cdef int64_t index = ins.whole
    items[0] = items_of(source, row)
    if index < 0:
        index += count_items(source, row)
    while index >= 0 and next_item(items):
        if index == 0:
            return True
        index -= 1
    return False


cdef int get(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef Items items
    cdef int64_t i, row
    cdef uint8_t* valid = own_valid(frame, out)
    cdef bint found
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            found = find_item(ins, &args[0], row, &items)
            if not found and not ins.whole2:
                refuse_text(frame, &args[0], row, "has no item at the index of list.get; null_on_oob=True makes it null")
            if not found or is_null_item(&items):
                valid[row] = 0
                continue
            writer_end(&writer, row, put_item(&items, writer_room(&writer, items.size + SPARE)))
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef bint equals(int which, const Items* items, const Vector* wanted, int64_t row, char* room) noexcept nogil:
    cdef int64_t at = 0 if wanted.constant else row, size
    cdef int64_t whole
    cdef double number
    if is_null_item(items):
        return False
    if which == OF_I64:
        return parse_int(items.item, items.size, &whole) and whole == (<int64_t*>wanted.col.values)[at]
    if which == OF_F64:
        return parse_double(items.item, items.size, &number) and number == (<double*>wanted.col.values)[at]
    size = put_item(items, room)
    return size == text_size(wanted, row) and memcmp(room, text(wanted, row), size) == 0


cdef int contains(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer scratch
    cdef Items items
    cdef int64_t i, row
    cdef bint found
    vector_alloc(frame, out, KIND_BOOL)
    writer_init(&scratch, frame, 256)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            found = False
            if is_valid(&out.col, row):
                items = items_of(&args[0], row)
                while not found and next_item(&items):
                    found = equals(ins.which, &items, &args[1], row, writer_room(&scratch, items.size + SPARE))
            (<uint8_t*>out.col.values)[row] = found
    finally:
        writer_free(&scratch)
    return 0


cdef int64_t join_in(Instruction* ins, Vector* args, int64_t row, Writer* writer) except? -1 nogil:
    """The items with a separator between them; -2 if one is null and nulls count."""
    cdef Items items = items_of(&args[0], row)
    cdef int64_t used = 0, size = text_size(&args[1], row)
    cdef bint first = True
    while next_item(&items):
        if is_null_item(&items):
            if not ins.whole:
                return -2
            continue
        writer_room(writer, used + size + items.size + SPARE)
        if not first:
            memcpy(writer_room(writer, used + size) + used, text(&args[1], row), size)
            used += size
        first = False
        used += put_item(&items, writer_room(writer, used + items.size + SPARE) + used)
    return used


cdef int join(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, size
    cdef uint8_t* valid = own_valid(frame, out)
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            size = join_in(ins, args, row, &writer)
            if size < 0:
                valid[row] = 0
            else:
                writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


define("list_len", "str -> i64", length)
define("list_get", "str -> str", get, 0, with_index)
define("list_contains_text", "str str -> bool", contains, OF_TEXT)
define("list_contains_i64", "str i64 -> bool", contains, OF_I64)
define("list_contains_f64", "str f64 -> bool", contains, OF_F64)
define("list_join", "str str -> str", join, 0, with_flag)
