"""See elements.pxd."""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport calloc, free

from streamdsl._native.aggregates.cell cimport cell_write_json, kind_number
from streamdsl._native.aggregates.packed_row cimport packed_free, packed_init, packed_view, packed_write
from streamdsl._native.state.write_stream cimport bytes_append

import base64
import json

from streamdsl._native.aggregates.accumulators import stored_kind


cdef int form_of(type_) except -1:
    if type_ is None:
        return FORM_PLAIN
    if type_.num_fields > 0:
        return FORM_JSON
    return FORM_BYTES if str(type_) in ("binary", "large_binary") else FORM_PLAIN


cdef int64_t scale_of(str kind, type_) except -1:
    return type_.scale if kind == "dec" else 0


cdef int write_element(const Cell* cell, int kind, Form form, int64_t scale, ByteWriter* out) except -1 nogil:
    """Append a value as it stands in the text of a JSON list."""
    if form == FORM_BYTES and cell.tag > 0:
        with gil:
            return write_base64((<char*>cell.bits)[:cell.tag - 1], out)
    return cell_write_json(cell, kind, form == FORM_JSON, scale, out)


cdef int write_base64(bytes data, ByteWriter* out) except -1:
    cdef bytes text = b'"' + base64.b64encode(data) + b'"'
    return bytes_append(out, <const char*>text, len(text))


cdef class WholeRows:
    """`row`: the place among the argument columns, the kind and the `pa.Field` of each of its fields."""

    def __init__(self, row):
        cdef int i
        cdef int* kinds = <int*>calloc(len(row), sizeof(int))
        self.width = len(row)
        self.layout = ",".join([f"{field.name} {stored_kind(kind, field.type)}" for _, kind, field in row])
        self.chosen = <int*>calloc(self.width, sizeof(int))
        self.parts = <RowPart*>calloc(self.width, sizeof(RowPart))
        self.cells = <Cell*>calloc(self.width, sizeof(Cell))
        self.fronts = []
        try:
            if kinds == NULL or self.chosen == NULL or self.parts == NULL or self.cells == NULL:
                raise MemoryError("no memory left for rows")
            for i, (place, kind, field) in enumerate(row):
                front = ("{" if i == 0 else ",") + json.dumps(field.name, ensure_ascii=False) + ":"
                self.fronts.append(front.encode("utf-8", "surrogatepass"))
                kinds[i] = kind_number(kind)
                self.chosen[i] = place
                self.parts[i] = RowPart(
                    PyBytes_AS_STRING(self.fronts[i]), len(self.fronts[i]), <Form>form_of(field.type), scale_of(kind, field.type))
            packed_init(&self.format, kinds, self.width)
        finally:
            free(kinds)

    def __dealloc__(self):
        packed_free(&self.format)
        free(self.chosen)
        free(self.parts)
        free(self.cells)

    cdef int pack(self, const Column* columns, int64_t row, ByteWriter* out) except -1 nogil:
        return packed_write(&self.format, columns, self.chosen, row, out)

    cdef int write_json(self, const char* data, int64_t size, ByteWriter* out) except -1 nogil:
        cdef int i
        cdef const RowPart* part
        packed_view(&self.format, data, size, self.cells)
        for i in range(self.width):
            part = &self.parts[i]
            bytes_append(out, part.front, part.size)
            write_element(&self.cells[i], self.format.kinds[i], part.form, part.scale, out)
        return bytes_append(out, b"}", 1)
