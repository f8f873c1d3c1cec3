"""A row as one value: the JSON text of an object, as structs travel."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from streamdsl._native.expr.functions cimport define
from streamdsl._native.expr.vector cimport (
    Frame,
    Instruction,
    Vector,
    Writer,
    has_value,
    row_at,
    text,
    text_size,
    writer_end,
    writer_finish,
    writer_free,
    writer_init,
    writer_room,
)
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_DEC, KIND_F64, KIND_STR, KIND_U64
from streamdsl._native.includes.decimal cimport dec_load
from streamdsl._native.serdes.decimal_text cimport DECIMAL_ROOM, decimal_text
from streamdsl._native.serdes.json_value cimport put_json_bytes, put_json_double, put_json_text
from streamdsl._native.serdes.number_text cimport int_text, uint_text

from libc.string cimport memcpy

import json

cdef enum:
    FORM_PLAIN = 0
    FORM_JSON = -1                           # a list or struct: its text stands as it is
    FORM_BYTES = -2

FORMS = {"plain": FORM_PLAIN, "json": FORM_JSON, "bytes": FORM_BYTES}

# Of a field: what stands in front of its value.
cdef struct Head:
    int64_t size
    int64_t form                             # FORM_*; of a decimal its scale


cdef int with_fields(Instruction* ins, tuple params, list keep) except -1:
    """For each argument (name, form or scale): "json" and "bytes" tell apart what is text at run time."""
    cdef Head head
    cdef bytes packed = b""
    if len(params) != ins.n_args or ins.n_args == 0:
        raise ValueError(f"{ins.n_args} arguments have {len(params)} names")
    for at, (name, form) in enumerate(params):
        front = (("{" if at == 0 else ",") + json.dumps(name, ensure_ascii=False) + ":").encode()
        head.size = len(front)
        head.form = form if isinstance(form, int) else FORMS[form]
        packed += (<char*>&head)[:sizeof(Head)] + front
    keep.append(packed)
    ins.text1 = packed
    return 0


cdef int64_t room_for(const Vector* value, int64_t row) noexcept nogil:
    return 6 * <int64_t>text_size(value, row) + 8 if value.col.kind == KIND_STR else DECIMAL_ROOM + 2


cdef int64_t put_value(const Vector* value, int64_t row, int64_t form, char* out) noexcept nogil:
    cdef int64_t at = 0 if value.constant else row
    cdef int size
    if not has_value(value, row):
        memcpy(out, b"null", 4)
        return 4
    if value.col.kind == KIND_STR:
        if form == FORM_JSON:
            memcpy(out, text(value, row), text_size(value, row))
            return text_size(value, row)
        if form == FORM_BYTES:
            return put_json_bytes(text(value, row), text_size(value, row), out)
        return put_json_text(text(value, row), text_size(value, row), out)
    if value.col.kind == KIND_BOOL:
        if (<uint8_t*>value.col.values)[at]:
            memcpy(out, b"true", 4)
            return 4
        memcpy(out, b"false", 5)
        return 5
    if value.col.kind == KIND_DEC:
        size = 1 + decimal_text(dec_load(value.col.values + 16 * at), form, out + 1)
        out[0] = out[size] = c'"'
        return size + 1
    if value.col.kind == KIND_F64:
        return put_json_double((<double*>value.col.values)[at], out)
    if value.col.kind == KIND_U64:
        return uint_text((<uint64_t*>value.col.values)[at], out)
    return int_text((<int64_t*>value.col.values)[at], out)


cdef int row_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef const char* heads
    cdef Head head
    cdef char* room
    cdef int64_t i, row, at, bound
    cdef int k
    writer_init(&writer, frame, frame.m * 32 * ins.n_args)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            heads = ins.text1
            bound = 1
            for k in range(ins.n_args):
                memcpy(&head, heads, sizeof(Head))
                heads += <int64_t>sizeof(Head) + head.size
                bound += head.size + room_for(&args[k], row)
            room = writer_room(&writer, bound)
            heads = ins.text1
            at = 0
            for k in range(ins.n_args):
                memcpy(&head, heads, sizeof(Head))
                memcpy(room + at, heads + sizeof(Head), head.size)
                heads += <int64_t>sizeof(Head) + head.size
                at += head.size
                at += put_value(&args[k], row, head.form, room + at)
            room[at] = c"}"
            writer_end(&writer, row, at + 1)
        return writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)


define("row_text", "* -> str", row_text, 0, with_fields, strict=False)
