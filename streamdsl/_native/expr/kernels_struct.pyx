"""Members of structs. At run time a struct is the text of a JSON object; the member is found, not built."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

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


define("struct_field", "str -> str", field, 0, with_name)
