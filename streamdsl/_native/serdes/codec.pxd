"""Python values in state, as bytes: typed, compact, versioned, deterministic. Never code.

A value is one version byte and a tagged tree:

    00..7f int 0..127   80..8f list of n   90..9f tuple of n   a0..bf str of n bytes   c0..cf dict of n pairs
    d0 None  d1 False  d2 True  d3 int (zigzag varint)  d4 int (varint n, n bytes two's complement, little endian)
    d5 float (8 bytes, little endian)  d6 str  d7 bytes  d8 list  d9 tuple  da dict (varint n in front of each)
    db datetime (flag, varint µs since the epoch[, varint offset from UTC in µs])  dc date (varint ordinal)
    dd Decimal (varint n, n bytes of text)  e0..ff int -32..-1
"""
from libc.stdint cimport int64_t, uint8_t

cdef enum:
    CODEC_VERSION = 1
    MAX_DEPTH = 64                           # of nested containers

cdef struct CodecBuffer:
    char* data
    int64_t used
    int64_t capacity

cdef struct CodecCursor:
    const uint8_t* data
    int64_t at
    int64_t end

cdef int codec_init(CodecBuffer* out, int64_t capacity) except -1
cdef void codec_free(CodecBuffer* out) noexcept
cdef int encode_into(CodecBuffer* out, object value, int depth) except -1   # without the version byte
cdef object decode_next(CodecCursor* cursor, int depth)                     # without the version byte

cpdef bytes encode(object value)
cpdef object decode(data)
cdef int put_dict_head(CodecBuffer* out, Py_ssize_t n) except -1            # version byte and the head of a dict
cdef int put_raw(CodecBuffer* out, bytes encoded) except -1                 # bytes that were encoded before
cdef object decode_buffer(const char* data, int64_t size)                   # as decode
