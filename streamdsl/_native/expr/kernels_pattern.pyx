"""Regular expressions, and texts that are cut at separators. Patterns are Python's `re`; the GIL is held for a batch.

As in Rust, an empty match does not follow another match at once, and `$1` or `${name}` in a replacement stand for groups.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from streamdsl._native.expr.functions cimport define, keep_params
from streamdsl._native.expr.utf8 cimport offset_of
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
from streamdsl._native.serdes.json_writer cimport escape

import functools
import json
import re

from streamdsl.errors import RecordError

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_size, const void* needle, size_t needle_size)

cdef enum:
    EXTRACT = 0
    EXTRACT_ALL = 1
    REPLACE = 2
    COUNT = 0
    CONTAINS = 1


# Patterns ----------------------------------------------------------------------------------------------------


cdef object python_text(const Vector* source, int64_t row):
    return text(source, row)[:text_size(source, row)].decode("utf-8", "surrogateescape")


cdef object pattern_at(Frame* frame, Vector* pattern, int64_t row, bint strict):
    """The compiled pattern, None if it is none and that is no error; `re` keeps the last ones."""
    found = python_text(pattern, row)
    try:
        return re.compile(found)
    except re.error as error:
        if not strict:
            return None
        raise RecordError(
            row if frame.error_row < 0 else frame.error_row, f"{found!r} is not a regular expression: {error}"
        ) from None


cdef list matches_of(pattern, value, int64_t most):
    """The first `most` matches (-1: all); an empty one right behind another is none."""
    found, last = [], -1
    for match in pattern.finditer(value):
        if match.end() == match.start() == last:
            continue
        last = match.end()
        found.append(match)
        if len(found) == most:
            break
    return found


REFERENCE = re.compile(r"(\$\$)|\$\{([A-Za-z0-9_]+)\}|\$([A-Za-z0-9_]+)|([^$]+|\$)")


@functools.lru_cache(maxsize=256)
def replacement(template):
    """Return the parts of a replacement: texts, and groups as tuples of one name or number."""
    parts = []
    for dollar, braced, name, literal in REFERENCE.findall(template):
        group = braced or name
        if group:
            parts.append((int(group) if group.isdigit() else group,))
        else:
            parts.append("$" if dollar else literal)
    return parts


cdef str group_of(match, group):
    try:
        return match.group(group) or ""
    except IndexError:                       # there is no such group
        return ""


cdef str replaced(pattern, value, template, int64_t most):
    parts = replacement(template)
    done, at = [], 0
    for match in matches_of(pattern, value, most):
        done.append(value[at:match.start()])
        for part in parts:
            done.append(part if isinstance(part, str) else group_of(match, part[0]))
        at = match.end()
    done.append(value[at:])
    return "".join(done)


# Parameters --------------------------------------------------------------------------------------------------


cdef int with_pattern(Instruction* ins, tuple params, list keep) except -1:
    """(pattern, group, or how many matches at most)"""
    pattern = re.compile(params[0])
    ins.whole = params[1]
    if ins.which == EXTRACT and not 0 <= params[1] <= pattern.groups:
        raise ValueError(f"{params[0]!r} has {pattern.groups} groups, not {params[1]}")
    return keep_params(ins, (pattern,), keep)


cdef int with_strict(Instruction* ins, tuple params, list keep) except -1:
    """(whether a bad pattern is an error)"""
    ins.whole = params[0]
    return 0


cdef int with_number(Instruction* ins, tuple params, list keep) except -1:
    """(how many matches at most, -1 = all)"""
    ins.whole = params[0]
    return 0


# Kernels -----------------------------------------------------------------------------------------------------


cdef object text_result(Instruction* ins, Vector* args, int64_t row):
    pattern = (<tuple>ins.params)[0]
    value = python_text(&args[0], row)
    if ins.which == REPLACE:
        return replaced(pattern, value, python_text(&args[1], row), ins.whole)
    if ins.which == EXTRACT_ALL:
        return json.dumps([match.group() for match in matches_of(pattern, value, -1)], ensure_ascii=False, separators=(",", ":"))
    match = pattern.search(value)
    return None if match is None else match.group(ins.whole)


cdef int text_rows(Frame* frame, Instruction* ins, Vector* args, Vector* out, Writer* writer) except -1:
    cdef int64_t i, row
    cdef bytes found
    cdef uint8_t* valid = own_valid(frame, out)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            continue
        result = text_result(ins, args, row)
        if result is None:
            valid[row] = 0
            continue
        found = (<str>result).encode("utf-8", "surrogateescape")
        memcpy(writer_room(writer, len(found)), <const char*>found, len(found))
        writer_end(writer, row, len(found))
    return 0


cdef int to_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    writer_init(&writer, frame, frame.m * 16)
    try:
        with gil:
            text_rows(frame, ins, args, out, &writer)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


cdef int number_rows(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1:
    cdef int64_t i, row
    cdef uint8_t* valid = own_valid(frame, out)
    for i in range(frame.m):
        row = row_at(frame, i)
        if ins.which == CONTAINS:
            out.col.values[row] = 0
        if not is_valid(&out.col, row):
            continue
        pattern = pattern_at(frame, &args[1], row, ins.whole != 0)
        if pattern is None:
            valid[row] = 0
        elif ins.which == CONTAINS:
            out.col.values[row] = pattern.search(python_text(&args[0], row)) is not None
        else:
            (<int64_t*>out.col.values)[row] = len(matches_of(pattern, python_text(&args[0], row), -1))
    return 0


cdef int to_number(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    vector_alloc(frame, out, KIND_BOOL if ins.which == CONTAINS else KIND_I64)
    with gil:
        return number_rows(frame, ins, args, out)


# Plain texts -------------------------------------------------------------------------------------------------


cdef inline const char* next_hit(const char* source, const char* end, const Vector* part, int64_t row) noexcept nogil:
    """Where the part, which is not empty, occurs next; NULL if it does not."""
    return <const char*>memmem(source, end - source, text(part, row), text_size(part, row))


cdef int64_t replace_in(Instruction* ins, Vector* args, int64_t row, Writer* writer) except -1 nogil:
    """args: the text, what to look for, what stands for it."""
    cdef const char* source = text(&args[0], row)
    cdef const char* end = source + text_size(&args[0], row)
    cdef const char* hit
    cdef int64_t used = 0, size, left = ins.whole, wanted = text_size(&args[1], row), other = text_size(&args[2], row)
    cdef char* room
    while True:
        hit = next_hit(source, end, &args[1], row) if left != 0 and wanted > 0 else NULL
        size = (end if hit == NULL else hit) - source
        room = writer_room(writer, used + size + other) + used
        memcpy(room, source, size)
        used += size
        if hit == NULL:
            return used
        memcpy(room + size, text(&args[2], row), other)
        used += other
        source = hit + wanted
        left -= 1


cdef int64_t put_item(const char* source, int64_t size, Writer* writer, int64_t used) except -1 nogil:
    """One text of a JSON list, with what stands before it."""
    cdef char* room = writer_room(writer, used + 6 * size + 4) + used
    room[0] = c"[" if used == 0 else c","
    room[1] = c'"'
    size = 2 + escape(source, size, room + 2)
    room[size] = c'"'
    return size + 1


cdef int64_t split_in(Instruction* ins, Vector* args, int64_t row, Writer* writer) except -1 nogil:
    cdef const char* source = text(&args[0], row)
    cdef const char* end = source + text_size(&args[0], row)
    cdef const char* hit
    cdef int64_t used = 0, wanted = text_size(&args[1], row)
    while wanted > 0 or source < end:
        if wanted > 0:
            hit = next_hit(source, end, &args[1], row)
        else:
            hit = source + offset_of(source, end - source, 1)     # every character is a part
        if hit == NULL:
            break
        used += put_item(source, hit - source + (wanted if ins.whole else 0), writer, used)
        source = hit + wanted
    if (wanted > 0 and not ins.whole) or source < end:
        used += put_item(source, end - source, writer, used)
    if used == 0:
        writer_room(writer, 2)[0] = c"["
        used = 1
    (writer_room(writer, used + 1) + used)[0] = c"]"
    return used + 1


cdef int cut_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, size
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if is_valid(&out.col, row):
                size = split_in(ins, args, row, &writer) if ins.which else replace_in(ins, args, row, &writer)
                writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


define("str_contains_match", "str str -> bool", to_number, CONTAINS, with_strict)
define("str_count_matches", "str str -> i64", to_number, COUNT, with_strict)
define("str_extract", "str -> str", to_text, EXTRACT, with_pattern)
define("str_extract_all", "str -> str", to_text, EXTRACT_ALL, with_pattern)
define("str_replace_match", "str str -> str", to_text, REPLACE, with_pattern)
define("str_replace", "str str str -> str", cut_text, 0, with_number)
define("str_split", "str str -> str", cut_text, 1, with_number)
