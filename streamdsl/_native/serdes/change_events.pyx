"""Change events of Debezium, in JSON: which of their parts is the row, and what becomes of it.

Only the outline of an event is read here: braces, texts and the names of members. What stands in the row is read by whoever reads
rows of JSON, and refused there if it is none.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

cdef enum:
    MOST_LEVELS = 64         # of objects within objects

NOT_AN_EVENT = "not a change event: it has no member op"


cdef struct Span:            # of an event; begin < 0: it is not there
    const char* begin
    const char* end


cdef struct Event:
    Span op
    Span before
    Span after
    Span payload


cdef inline const char* blanks(const char* at, const char* end) noexcept nogil:
    while at < end and (at[0] == c' ' or at[0] == c'\t' or at[0] == c'\n' or at[0] == c'\r'):
        at += 1
    return at


cdef const char* text_end(const char* at, const char* end) noexcept nogil:
    """Return what is behind the text that begins at `at`, NULL if it does not end."""
    at += 1
    while at < end:
        if at[0] == c'\\':
            at += 2
            continue
        if at[0] == c'"':
            return at + 1
        at += 1
    return NULL


cdef const char* value_end(const char* at, const char* end) noexcept nogil:
    """Return what is behind the value that begins at `at`, NULL if it does not end."""
    cdef int level = 0
    while at < end:
        if at[0] == c'"':
            at = text_end(at, end)
            if at == NULL:
                return NULL
            if level == 0:
                return at
            continue
        if at[0] == c'{' or at[0] == c'[':
            level += 1
            if level > MOST_LEVELS:
                return NULL
        elif at[0] == c'}' or at[0] == c']':
            if level == 0:
                return at                    # behind a number or a word
            level -= 1
            if level == 0:
                return at + 1
        elif level == 0 and (at[0] == c',' or at[0] == c' ' or at[0] == c'\t' or at[0] == c'\n' or at[0] == c'\r'):
            return at
        at += 1
    return at if level == 0 else NULL


cdef bint is_name(const char* begin, const char* end, const char* name, int size) noexcept nogil:
    return end - begin == size + 2 and memcmp(begin + 1, name, size) == 0


cdef const char* outline(const char* at, const char* end, Event* event) noexcept nogil:
    """Read the members of the object at `at`; return what is behind it, NULL if it is none."""
    cdef const char* name
    cdef const char* name_end
    cdef const char* begin
    event.op.begin = event.before.begin = event.after.begin = event.payload.begin = NULL
    at = blanks(at, end)
    if at >= end or at[0] != c'{':
        return NULL
    at = blanks(at + 1, end)
    if at < end and at[0] == c'}':
        return at + 1
    while at < end:
        if at[0] != c'"':
            return NULL
        name = at
        name_end = text_end(at, end)
        if name_end == NULL:
            return NULL
        at = blanks(name_end, end)
        if at >= end or at[0] != c':':
            return NULL
        begin = blanks(at + 1, end)
        at = value_end(begin, end)
        if at == NULL or at == begin:
            return NULL
        if is_name(name, name_end, b"op", 2):
            event.op.begin, event.op.end = begin, at
        elif is_name(name, name_end, b"before", 6):
            event.before.begin, event.before.end = begin, at
        elif is_name(name, name_end, b"after", 5):
            event.after.begin, event.after.end = begin, at
        elif is_name(name, name_end, b"payload", 7):
            event.payload.begin, event.payload.end = begin, at
        at = blanks(at, end)
        if at < end and at[0] == c'}':
            return at + 1
        if at >= end or at[0] != c',':
            return NULL
        at = blanks(at + 1, end)
    return NULL


cdef bint is_object(const Span* span) noexcept nogil:
    return span.begin != NULL and span.begin[0] == c'{'


def row_of_event(bytes value not None):
    """Return (op, row): the letter of what has happened, and the JSON of the row that it is about, None if there is none.

    An event may stand in an envelope with its schema (`payload`). "" stands for what is no event: then the second is the reason.
    """
    cdef Event event
    cdef const char* begin = PyBytes_AS_STRING(value)
    cdef const char* end = begin + PyBytes_GET_SIZE(value)
    cdef const char* behind = outline(begin, end, &event)
    cdef Span row
    if behind == NULL or blanks(behind, end) != end:
        return "", "not a JSON object"
    if event.op.begin == NULL and event.payload.begin != NULL:
        if event.payload.begin[0] == c'n':
            return "null", None              # the envelope of a tombstone
        if outline(event.payload.begin, event.payload.end, &event) == NULL:
            return "", "its payload is not a JSON object"
    if event.op.begin == NULL or event.op.end - event.op.begin != 3 or event.op.begin[0] != c'"':
        return "", NOT_AN_EVENT
    op = chr(event.op.begin[1])
    row = event.before if op == "d" else event.after
    return op, row.begin[:row.end - row.begin] if is_object(&row) else None


def payload_of(bytes value not None):
    """Return the payload of a JSON object in an envelope, or the value itself."""
    cdef Event event
    cdef const char* begin = PyBytes_AS_STRING(value)
    if outline(begin, begin + PyBytes_GET_SIZE(value), &event) == NULL or event.payload.begin == NULL:
        return value
    return event.payload.begin[:event.payload.end - event.payload.begin]
