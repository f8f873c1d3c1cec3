"""See elements.pxd."""
from streamdsl._native.aggregates.cell cimport cell_write_json
from streamdsl._native.state.write_stream cimport bytes_append

import base64


cdef int form_of(spec) except -1:
    if spec.input_type is None:
        return FORM_PLAIN
    if spec.input_type.num_fields > 0:
        return FORM_JSON
    return FORM_BYTES if str(spec.input_type) in ("binary", "large_binary") else FORM_PLAIN


cdef int64_t scale_of(spec) except -1:
    return spec.input_type.scale if spec.input_kind == "dec" else 0


cdef int write_element(const Cell* cell, int kind, Form form, int64_t scale, ByteWriter* out) except -1 nogil:
    """Append a value as it stands in the text of a JSON list."""
    if form == FORM_BYTES and cell.tag > 0:
        with gil:
            return write_base64((<char*>cell.bits)[:cell.tag - 1], out)
    return cell_write_json(cell, kind, form == FORM_JSON, scale, out)


cdef int write_base64(bytes data, ByteWriter* out) except -1:
    cdef bytes text = b'"' + base64.b64encode(data) + b'"'
    return bytes_append(out, <const char*>text, len(text))
