"""Flat JSON objects to a batch, without the GIL: what is plain is read here, what is not is told apart and left to others.

A record is *plain* if it is one JSON object in valid UTF-8 whose asked-for members are there (those that must be), each once, and hold
a value that is certainly of its column: a number that fits, true or false, a text, or null. All else is *odd*: perhaps good, perhaps
not, which is for a slower reader to say. So nothing here has to be right about rare things; it has to know what it is sure of.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t

from streamdsl._native.flow.batch cimport Buffer, Column


cdef enum:
    PLACES = 128                             # members of a record whose keys are remembered
    DEPTH = 32                               # of values that nobody asks for; deeper ones are odd
    DIGITS = 100                             # of a number, and what its exponent may be at most: beyond, doubles may overflow
    EXACT_UP_TO = 9007199254740992           # 2**53: integers up to it are doubles
    SPARE = 16                               # bytes behind a buffer that may be written over (see buffer_new)

cdef struct Target:                          # a column that is asked for
    const char* name
    int64_t name_size
    int kind                                 # KIND_*
    bint required                            # a null is odd
    int64_t least                            # KIND_I64: bounds of the declared type
    int64_t most
    int32_t row                              # the record that has given a value already
    Column* column

cdef struct Place:                           # a member of the record before, by its place: the next one mostly has the same keys
    const char* key                          # without its quotes; NULL = there was none
    int64_t size
    int target                               # -1: nobody asks for it

cdef struct Reading:                         # what is known while records are read
    Target* targets
    int width
    int found                                # targets that the record has given a value
    int32_t row
    Place* places
    Buffer* scratch                          # texts that nobody asks for: they are read to be checked

cdef struct Number:
    uint64_t digits                          # the significant ones, without the point
    int n_digits                             # how many; of more than 19, `digits` is not all
    int scale                                # the value is digits * 10**scale
    bint negative
    bint whole                               # neither point nor exponent
