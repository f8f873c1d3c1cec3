"""See codec.pxd for the format. Hostile bytes give StateError: every length is checked against what is left."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport PyDate_Check, PyDateTime_Check, import_datetime
from cpython.dict cimport PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

import datetime as datetimes
import math
from decimal import Decimal, InvalidOperation

from streamdsl.errors import StateError

import_datetime()

cdef enum:
    LIST_SHORT = 0x80
    TUPLE_SHORT = 0x90
    STR_SHORT = 0xa0
    DICT_SHORT = 0xc0
    TAG_NONE = 0xd0
    TAG_FALSE = 0xd1
    TAG_TRUE = 0xd2
    TAG_INT = 0xd3
    TAG_BIG = 0xd4
    TAG_FLOAT = 0xd5
    TAG_STR = 0xd6
    TAG_BYTES = 0xd7
    TAG_LIST = 0xd8
    TAG_TUPLE = 0xd9
    TAG_DICT = 0xda
    TAG_DATETIME = 0xdb
    TAG_DATE = 0xdc
    TAG_DECIMAL = 0xdd
    NEGATIVE_SHORT = 0xe0

cdef object DATETIME = datetimes.datetime
cdef object DATE = datetimes.date
cdef object UTC = datetimes.timezone.utc
cdef object TIMEDELTA = datetimes.timedelta
cdef object MICROSECOND = datetimes.timedelta(microseconds=1)
cdef object EPOCH = datetimes.datetime(1970, 1, 1)
cdef object DECIMAL = Decimal
cdef object NAN = math.nan                   # a dict finds the NaN that it was given, and Python code mostly means this one


cdef int codec_init(CodecBuffer* out, int64_t capacity) except -1:
    out.data = <char*>malloc(capacity)
    if out.data == NULL:
        raise MemoryError("no memory left to encode a state value")
    out.used = 0
    out.capacity = capacity
    return 0


cdef void codec_free(CodecBuffer* out) noexcept:
    free(out.data)
    out.data = NULL


cdef inline char* room(CodecBuffer* out, int64_t size) except NULL:
    cdef char* data
    cdef int64_t capacity
    if out.used + size > out.capacity:
        capacity = 2 * (out.used + size)
        data = <char*>realloc(out.data, capacity)
        if data == NULL:
            raise MemoryError("no memory left to encode a state value")
        out.data = data
        out.capacity = capacity
    return out.data + out.used


cdef inline int put_byte(CodecBuffer* out, uint8_t byte) except -1:
    room(out, 1)[0] = <char>byte
    out.used += 1
    return 0


cdef int put_varint(CodecBuffer* out, uint8_t tag, uint64_t value) except -1:
    cdef uint8_t* at = <uint8_t*>room(out, 11)
    cdef int n = 1
    at[0] = tag
    while value >= 0x80:
        at[n] = <uint8_t>(value | 0x80)
        value >>= 7
        n += 1
    at[n] = <uint8_t>value
    out.used += n + 1
    return 0


cdef inline uint64_t zigzag(int64_t value) noexcept:
    return (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)


cdef int put_sized(CodecBuffer* out, uint8_t tag, const char* data, int64_t size) except -1:
    put_varint(out, tag, <uint64_t>size)
    memcpy(room(out, size), data, size)
    out.used += size
    return 0


cdef int put_int(CodecBuffer* out, object value) except -1:
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef bytes raw
    if overflow:
        raw = int.to_bytes(value, (int.bit_length(value) + 8) // 8, "little", signed=True)
        return put_sized(out, TAG_BIG, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
    if 0 <= number < 128:
        return put_byte(out, <uint8_t>number)
    if -32 <= number < 0:
        return put_byte(out, <uint8_t>(256 + number))
    return put_varint(out, TAG_INT, zigzag(number))


cdef int put_str(CodecBuffer* out, object value) except -1:
    cdef Py_ssize_t size = 0
    cdef const char* data
    cdef bytes raw
    try:
        data = PyUnicode_AsUTF8AndSize(value, &size)
    except UnicodeEncodeError:               # lone surrogates, as os.fsdecode makes them: kept as they are
        raw = str.encode(value, "utf-8", "surrogatepass")
        return put_sized(out, TAG_STR, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
    if size >= 32:
        return put_sized(out, TAG_STR, data, size)
    put_byte(out, <uint8_t>(STR_SHORT + size))
    memcpy(room(out, size), data, size)
    out.used += size
    return 0


cdef int put_count(CodecBuffer* out, int short_tag, int long_tag, Py_ssize_t n) except -1:
    if n < 16:
        return put_byte(out, <uint8_t>(short_tag + n))
    return put_varint(out, <uint8_t>long_tag, <uint64_t>n)


cdef int put_datetime(CodecBuffer* out, object value) except -1:
    offset = value.utcoffset()
    if offset is None:
        put_varint(out, TAG_DATETIME, 0)
    else:
        put_varint(out, TAG_DATETIME, 2 if value.fold else 1)
    naive = value.replace(tzinfo=None)
    put_int(out, (naive - EPOCH) // MICROSECOND)
    if offset is not None:
        put_int(out, offset // MICROSECOND)
    return 0


cdef int put_text(CodecBuffer* out, uint8_t tag, str text) except -1:
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return put_sized(out, tag, data, size)


cdef int put_container(CodecBuffer* out, object value, int depth) except -1:
    cdef Py_ssize_t i, n
    if depth >= MAX_DEPTH:
        raise StateError(f"a state value is nested more than {MAX_DEPTH} deep", remedy="Keep a flatter value, or several states.")
    if isinstance(value, list):
        n = PyList_GET_SIZE(value)
        put_count(out, LIST_SHORT, TAG_LIST, n)
        for i in range(n):
            if i >= PyList_GET_SIZE(value):
                break
            encode_into(out, <object>PyList_GET_ITEM(value, i), depth + 1)
        if n != PyList_GET_SIZE(value):
            raise StateError("a list changed while it was written to state")
        return 0
    if isinstance(value, tuple):
        n = PyTuple_GET_SIZE(value)
        put_count(out, TUPLE_SHORT, TAG_TUPLE, n)
        for i in range(n):
            encode_into(out, <object>PyTuple_GET_ITEM(value, i), depth + 1)
        return 0
    put_count(out, DICT_SHORT, TAG_DICT, PyDict_Size(value))
    for key, item in (<dict?>value).items():
        encode_into(out, key, depth + 1)
        encode_into(out, item, depth + 1)
    return 0


cdef int encode_into(CodecBuffer* out, object value, int depth) except -1:
    cdef double number
    if value is None:
        return put_byte(out, TAG_NONE)
    if value is True:
        return put_byte(out, TAG_TRUE)
    if value is False:
        return put_byte(out, TAG_FALSE)
    if PyLong_Check(value):
        return put_int(out, value)
    if PyFloat_Check(value):
        number = PyFloat_AS_DOUBLE(value)
        put_byte(out, TAG_FLOAT)
        memcpy(room(out, 8), &number, 8)
        out.used += 8
        return 0
    if PyUnicode_Check(value):
        return put_str(out, value)
    if isinstance(value, bytes):
        return put_sized(out, TAG_BYTES, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if isinstance(value, (list, tuple, dict)):
        return put_container(out, value, depth)
    if PyDateTime_Check(value):
        return put_datetime(out, value)
    if PyDate_Check(value):
        put_byte(out, TAG_DATE)
        return put_int(out, value.toordinal())
    if isinstance(value, DECIMAL):
        return put_text(out, TAG_DECIMAL, str(value))
    raise StateError(
        f"a value of type {type(value).__name__} cannot be kept in state",
        remedy="Use None, bool, int, float, str, bytes, list, tuple, dict, datetime, date or Decimal.",
    )


cdef int put_dict_head(CodecBuffer* out, Py_ssize_t n) except -1:
    put_byte(out, CODEC_VERSION)
    return put_count(out, DICT_SHORT, TAG_DICT, n)


cdef int put_raw(CodecBuffer* out, bytes encoded) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(encoded)
    memcpy(room(out, size), PyBytes_AS_STRING(encoded), size)
    out.used += size
    return 0


cpdef bytes encode(object value):
    cdef CodecBuffer out
    codec_init(&out, 128)
    try:
        put_byte(&out, CODEC_VERSION)
        encode_into(&out, value, 0)
        return PyBytes_FromStringAndSize(out.data, out.used)
    finally:
        codec_free(&out)


cdef int damaged(str what) except -1:
    raise StateError(f"a state value is damaged: {what}", remedy="Restore another checkpoint.")


cdef inline uint8_t next_byte(CodecCursor* cursor) except? 255:
    if cursor.at >= cursor.end:
        damaged("it ends too early")
    cursor.at += 1
    return cursor.data[cursor.at - 1]


cdef uint64_t next_varint(CodecCursor* cursor) except? 0:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while True:
        byte = next_byte(cursor)
        if shift == 63 and byte > 1:
            damaged("a number is too long")
        value |= <uint64_t>(byte & 0x7f) << shift
        if byte < 0x80:
            return value
        shift += 7


cdef const char* next_bytes(CodecCursor* cursor, uint64_t size) except NULL:
    if size > <uint64_t>(cursor.end - cursor.at):
        damaged("it ends too early")
    cursor.at += <int64_t>size
    return <const char*>cursor.data + cursor.at - <int64_t>size


cdef object next_int(CodecCursor* cursor):
    value = decode_next(cursor, MAX_DEPTH)
    if type(value) is not int:
        damaged("a number was expected")
    return value


cdef object next_str(CodecCursor* cursor, uint64_t size):
    cdef const char* data = next_bytes(cursor, size)
    try:
        return PyUnicode_DecodeUTF8(data, <Py_ssize_t>size, "surrogatepass")
    except UnicodeDecodeError:
        damaged("a text is not UTF-8")


cdef Py_ssize_t checked_count(CodecCursor* cursor, uint64_t n, int bytes_each, int depth) except -1:
    # Every element takes a byte at least: a hostile count cannot make us reserve more than the input's size.
    if depth >= MAX_DEPTH:
        damaged(f"it is nested more than {MAX_DEPTH} deep")
    if n > <uint64_t>((cursor.end - cursor.at) // bytes_each):
        damaged("it ends too early")
    return <Py_ssize_t>n


cdef list next_list(CodecCursor* cursor, uint64_t count, int depth):
    cdef Py_ssize_t _, n = checked_count(cursor, count, 1, depth)
    cdef list out = []
    for _ in range(n):
        out.append(decode_next(cursor, depth + 1))
    return out


cdef dict next_dict(CodecCursor* cursor, uint64_t count, int depth):
    cdef Py_ssize_t _, n = checked_count(cursor, count, 2, depth)
    cdef dict out = {}
    for _ in range(n):
        key = decode_next(cursor, depth + 1)
        value = decode_next(cursor, depth + 1)
        try:
            out[key] = value
        except TypeError:
            damaged("a key of a dict is a list or dict")
    if PyDict_Size(out) != n:
        damaged("a dict has a key twice")
    return out


cdef object next_datetime(CodecCursor* cursor):
    cdef uint64_t flag = next_varint(cursor)
    if flag > 2:
        damaged("an unknown kind of datetime")
    try:
        value = EPOCH + TIMEDELTA(microseconds=next_int(cursor))
        if flag == 0:
            return value
        offset = TIMEDELTA(microseconds=next_int(cursor))
        zone = UTC if not offset else datetimes.timezone(offset)
        return value.replace(tzinfo=zone, fold=<int>(flag - 1))
    except (OverflowError, ValueError):
        damaged("a datetime is out of range")


cdef object next_decimal(CodecCursor* cursor):
    text = next_str(cursor, next_varint(cursor))
    try:
        return DECIMAL(text)
    except (InvalidOperation, ValueError):
        damaged("a decimal is not a number")


cdef object next_date(CodecCursor* cursor):
    try:
        return DATE.fromordinal(next_int(cursor))
    except (OverflowError, ValueError):
        damaged("a date is out of range")


cdef object decode_long(CodecCursor* cursor, uint8_t tag, int depth):
    cdef uint64_t size
    if tag == TAG_DATETIME:
        return next_datetime(cursor)
    if tag == TAG_DATE:
        return next_date(cursor)
    if tag == TAG_DECIMAL:
        return next_decimal(cursor)
    if tag > TAG_DECIMAL:
        damaged(f"an unknown tag {tag}")
    size = next_varint(cursor)
    if tag == TAG_LIST:
        return next_list(cursor, size, depth)
    if tag == TAG_TUPLE:
        return tuple(next_list(cursor, size, depth))
    if tag == TAG_DICT:
        return next_dict(cursor, size, depth)
    if tag == TAG_BIG:
        return int.from_bytes(next_bytes(cursor, size)[:<Py_ssize_t>size], "little", signed=True)
    return PyBytes_FromStringAndSize(next_bytes(cursor, size), <Py_ssize_t>size)


cdef object decode_next(CodecCursor* cursor, int depth):
    cdef uint8_t tag = next_byte(cursor)
    cdef double number
    cdef uint64_t bits
    if tag < 0x80:
        return <long>tag
    if tag >= NEGATIVE_SHORT:
        return <long>tag - 256
    if tag == TAG_FLOAT:
        memcpy(&number, next_bytes(cursor, 8), 8)
        return number if number == number else NAN
    if tag == TAG_INT:
        bits = next_varint(cursor)
        return <int64_t>(bits >> 1) ^ -<int64_t>(bits & 1)
    if tag < TUPLE_SHORT:
        return next_list(cursor, tag - LIST_SHORT, depth)
    if tag < STR_SHORT:
        return tuple(next_list(cursor, tag - TUPLE_SHORT, depth))
    if tag < DICT_SHORT:
        return next_str(cursor, tag - STR_SHORT)
    if tag < TAG_NONE:
        return next_dict(cursor, tag - DICT_SHORT, depth)
    if tag == TAG_NONE:
        return None
    if tag == TAG_FALSE or tag == TAG_TRUE:
        return tag == TAG_TRUE
    if tag == TAG_STR:
        return next_str(cursor, next_varint(cursor))
    return decode_long(cursor, tag, depth)


cdef object decode_buffer(const char* data, int64_t size):
    cdef CodecCursor cursor
    cursor.data = <const uint8_t*>data
    cursor.at = 0
    cursor.end = size
    cdef uint8_t version = next_byte(&cursor)
    if version != CODEC_VERSION:
        raise StateError(
            f"a state value has the format version {version}; this release reads {CODEC_VERSION}",
            remedy="Use the release of streamdsl that wrote the checkpoint.",
        )
    value = decode_next(&cursor, 0)
    if cursor.at != cursor.end:
        damaged(f"{cursor.end - cursor.at} bytes too many")
    return value


cpdef object decode(data):
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        damaged("it is empty")
    return decode_buffer(<const char*>&view[0], view.shape[0])
