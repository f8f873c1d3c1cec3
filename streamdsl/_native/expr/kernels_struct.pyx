"""Members of structs. At run time a struct is the text of a JSON object; the member is found, not built.

Where several members of one struct are asked for, `struct_members` finds them all in one walk over the text, and `struct_part` takes
one of them out of what was found.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcmp, memcpy

from streamdsl._native.expr.functions cimport define
from streamdsl._native.expr.kernels_list cimport SPARE, Items, is_null_item, next_item, put_item
from streamdsl._native.expr.vector cimport (
    Frame, Instruction, Vector, Writer, own_valid, row_at, text, text_size, writer_end, writer_finish, writer_free, writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport is_valid
from streamdsl._native.serdes.json_text cimport blanks
from streamdsl._native.serdes.json_text cimport text as unescape


cdef int with_name(Instruction* ins, tuple params, list keep) except -1:
    """(name of the member,)"""
    cdef bytes name = params[0].encode("utf-8", "surrogatepass")
    keep.append(name)
    ins.text1 = PyBytes_AS_STRING(name)
    ins.size1 = PyBytes_GET_SIZE(name)
    return 0


cdef bint find_member(Instruction* ins, const Vector* source, int64_t row, Writer* scratch, Items* items) except -1 nogil:
    """Whether the struct has the member; then it is the item at hand."""
    cdef const char* value
    cdef char* name
    cdef char* end
    items.at = text(source, row)
    items.end = items.at + text_size(source, row)
    items.at = blanks(items.at, items.end)
    if items.at >= items.end or items.at[0] != c"{":
        return False
    items.at += 1
    while next_item(items) and items.size > 0 and items.item[0] == c'"':     # "name": value
        name = writer_room(scratch, items.size + SPARE)
        end = name
        value = unescape(items.item + 1, items.item + items.size, &end)
        if value == NULL:
            return False
        if end - name == ins.size1 and memcmp(name, ins.text1, ins.size1) == 0:
            value = blanks(value, items.item + items.size)
            value = blanks(value + 1, items.item + items.size)               # behind the colon
            if value > items.item + items.size:
                return False
            items.size -= value - items.item
            items.item = value
            return True
    return False


cdef int field(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef Writer scratch
    cdef Items items
    cdef int64_t i, row
    cdef uint8_t* valid = own_valid(frame, out)
    writer_init(&writer, frame, frame.m * 16)
    writer_init(&scratch, frame, 256)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            if not find_member(ins, &args[0], row, &scratch, &items) or is_null_item(&items):
                valid[row] = 0
                continue
            writer_end(&writer, row, put_item(&items, writer_room(&writer, items.size + SPARE)))
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
        writer_free(&scratch)
    return 0


# Several members -----------------------------------------------------------------------------------------------------

# Where the value of a member stands in the text of its struct.
cdef struct Member:
    int32_t at
    int32_t size                             # bytes; -1: the struct has no such member

# Of a name that is asked for; its bytes follow.
cdef struct Name:
    int32_t size
    int32_t plain                            # in JSON it is written as it is


cdef int with_names(Instruction* ins, tuple params, list keep) except -1:
    """The names of the members."""
    cdef Name head
    cdef bytes packed = b"", name
    for given in params:
        name = given.encode("utf-8", "surrogatepass")
        head.size = len(name)
        head.plain = all([byte >= 32 and byte not in b'"\\' for byte in name])
        packed += (<char*>&head)[:sizeof(Name)] + name
    keep.append(packed)
    ins.text1 = PyBytes_AS_STRING(packed)
    ins.whole = len(params)
    return 0


cdef int with_place(Instruction* ins, tuple params, list keep) except -1:
    """(number of the member among those that were found,)"""
    ins.whole = params[0]
    return 0


cdef inline const char* next_name(const char* name) noexcept nogil:
    cdef Name head
    memcpy(&head, name, sizeof(Name))
    return name + sizeof(Name) + head.size


cdef bint is_written(const char* name, const Items* items) noexcept nogil:
    """Whether the member at hand has the name, written without an escape."""
    cdef Name head
    memcpy(&head, name, sizeof(Name))
    return (head.plain and items.size > head.size + 2 and items.item[head.size + 1] == c'"'
            and memcmp(items.item + 1, name + sizeof(Name), head.size) == 0)


cdef int64_t number_of(Instruction* ins, const char* name, int64_t size) noexcept nogil:
    cdef Name head
    cdef const char* known = ins.text1
    cdef int64_t k
    for k in range(ins.whole):
        memcpy(&head, known, sizeof(Name))
        if head.size == size and memcmp(known + sizeof(Name), name, size) == 0:
            return k
        known = next_name(known)
    return -1


cdef int find_members(Instruction* ins, const Vector* source, int64_t row, Writer* scratch, Member* found) except -1 nogil:
    """Fill `found`: of members of the same name the first one counts."""
    cdef const char* start = text(source, row)
    cdef const char* expected = ins.text1    # members mostly come in the order in which they are asked for
    cdef const char* value
    cdef char* name
    cdef char* end
    cdef Items items
    cdef int64_t k, next_k = 0, left = ins.whole
    for k in range(ins.whole):
        found[k].size = -1
    items.end = start + text_size(source, row)
    items.at = blanks(start, items.end)
    if items.at >= items.end or items.at[0] != c"{":
        return 0
    items.at += 1
    while left > 0 and next_item(&items) and items.size > 0 and items.item[0] == c'"':
        if next_k < ins.whole and is_written(expected, &items):
            k = next_k
            value = items.item + (next_name(expected) - expected - <int64_t>sizeof(Name)) + 2
        else:
            name = writer_room(scratch, items.size + SPARE)
            end = name
            value = unescape(items.item + 1, items.item + items.size, &end)
            if value == NULL:
                break
            k = number_of(ins, name, end - name)
        if k < 0 or found[k].size >= 0:
            continue
        value = blanks(value, items.item + items.size)
        value = blanks(value + 1, items.item + items.size)                   # behind the colon
        if value > items.item + items.size:
            break
        found[k].at = <int32_t>(value - start)
        found[k].size = <int32_t>(items.item + items.size - value)
        left -= 1
        if k == next_k:
            expected = next_name(expected)
            next_k += 1
        else:
            expected = ins.text1
            next_k = 0
            while next_k <= k:
                expected = next_name(expected)
                next_k += 1
    return 0


cdef int members(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef Writer scratch
    cdef int64_t i, row, size = ins.whole * <int64_t>sizeof(Member)
    writer_init(&writer, frame, frame.m * size)
    writer_init(&scratch, frame, 256)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if is_valid(&out.col, row):
                find_members(ins, &args[0], row, &scratch, <Member*>writer_room(&writer, size))
                writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
        writer_free(&scratch)
    return 0


cdef int part(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef Items items
    cdef Member member
    cdef int64_t i, row
    cdef uint8_t* valid = own_valid(frame, out)
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            memcpy(&member, text(&args[1], row) + ins.whole * <int64_t>sizeof(Member), sizeof(Member))
            items.item = text(&args[0], row) + member.at
            items.size = member.size
            if member.size < 0 or is_null_item(&items):
                valid[row] = 0
                continue
            writer_end(&writer, row, put_item(&items, writer_room(&writer, items.size + SPARE)))
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


define("struct_field", "str -> str", field, 0, with_name)
define("struct_members", "str -> str", members, 0, with_names)
define("struct_part", "str str -> str", part, 0, with_place)
