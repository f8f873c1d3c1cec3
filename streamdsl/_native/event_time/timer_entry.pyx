"""See timer_entry.pxd."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy

from streamdsl._native.state.deadline_key cimport DEADLINE_BYTES, deadline_in, put_deadline

from streamdsl.errors import StateError

cdef enum:
    NAME_BYTES = 65535         # at most
    ESCAPED = 0xFF             # behind a NUL: it is one of the key
    KEY_END = 0x01             # behind a NUL: less than ESCAPED, so that a key comes before those that begin with it


cpdef bytes timer_entry(int clock, int64_t time, bytes key, str name):
    cdef bytes encoded = name.encode("utf-8", "surrogatepass") if name else b""
    cdef bytes made
    cdef char* at
    cdef const char* data = PyBytes_AS_STRING(key)
    cdef int64_t i, size = len(key), name_size = len(encoded), escaped = 0
    if name_size > NAME_BYTES:
        raise StateError(f"the name of a timer has {name_size} bytes; 65,535 is the most")
    if memchr(data, 0, size) != NULL:
        escaped = key.count(b"\0")
    made = PyBytes_FromStringAndSize(NULL, DEADLINE_BYTES + size + escaped + 2 + name_size)
    at = PyBytes_AS_STRING(made)
    put_deadline(at, clock, time)
    at += DEADLINE_BYTES
    if escaped == 0:
        memcpy(at, data, size)
        at += size
    else:
        for i in range(size):
            at[0] = data[i]
            at += 1
            if data[i] == 0:
                at[0] = <char>ESCAPED
                at += 1
    at[0] = 0
    at[1] = <char>KEY_END
    memcpy(at + 2, PyBytes_AS_STRING(encoded), name_size)
    return made


cpdef tuple timer_of(bytes entry):
    cdef const char* data = PyBytes_AS_STRING(entry)
    cdef const char* end = data + len(entry)
    cdef const char* at = data + DEADLINE_BYTES
    cdef const char* nul
    cdef list parts = []
    if len(entry) < DEADLINE_BYTES + 2 or <unsigned char>data[0] > CLOCK_PROCESSING:
        raise ValueError("it is too short, or of no clock")
    while True:
        nul = <const char*>memchr(at, 0, end - at)
        if nul == NULL or nul + 1 == end:
            raise ValueError("its key has no end")
        parts.append(at[:nul - at])
        at = nul + 2
        if <unsigned char>nul[1] == KEY_END:
            break
        if <unsigned char>nul[1] != ESCAPED:
            raise ValueError("its key has a NUL that stands for nothing")
    key = parts[0] if len(parts) == 1 else b"\0".join(parts)
    return deadline_in(data), key, at[:end - at].decode("utf-8", "surrogatepass")
