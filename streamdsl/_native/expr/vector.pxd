"""What expression kernels work on: vectors, the rows to work at, and memory that is used again.

A vector holds a value for each row of the batch, at the row's own index, but only at the rows of its frame:
elsewhere it is undefined. A constant vector holds one value, at index 0, which stands for every row.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t

from streamdsl._native.flow.batch cimport Buffer, Column

cdef enum:
    POOL_SLOTS = 48

# Buffers that the program keeps a reference to. One with no other reference is free, whoever had it.
cdef struct Pool:
    Buffer* slots[48]
    int used
    int victim                               # the slot given up next when all are taken

cdef struct Vector:
    Column col                               # releases its buffers with column_clear
    bint constant

cdef struct Frame:
    int64_t n                                # rows of the batch = length of a result; 1 for constants
    const int32_t* rows                      # the rows to work at, ascending; NULL = all n
    int64_t m                                # how many
    Pool* pool
    int64_t error_row                        # the row to blame for an error of a constant; -1 = the row itself
    int64_t id                               # for common subexpressions: what was computed for a frame
    Frame* parent                            # holds for every frame made from it

cdef struct Instruction

# Fills out.col for the frame's rows. For strict kernels out.col.valid is already set: null where an argument is.
ctypedef int (*Kernel)(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil

cdef struct Instruction:
    int op
    int which                                # OP_FUNCTION: which function of its kernel
    int kind
    int n_args
    int* args
    int uses                                 # how many instructions and outputs read this one
    bint strict                              # null if any argument is null
    bint cheap                               # cannot fail and costs less than choosing rows for it
    Kernel kernel                            # NULL: evaluated by the program itself
    int64_t whole                            # numeric parameters; their meaning depends on the op
    int64_t whole2
    const char* text1                        # text parameters, held by params
    const char* text2
    int64_t size1
    int64_t size2
    PyObject* params                         # borrowed from Program.keep
    void* table                              # lookup.Table of replace and is_in
    Vector constant                          # the value of a literal
    # When it is evaluated (schedule.pxd)
    char* eager                              # of each argument: whether it is needed at all rows of the frame
    int common                               # an instruction that every branch of a `when` needs; -1 = none
    bint safe                                # neither it nor what it needs can fail
    int nest                                 # lazy arguments within lazy arguments
    int asked                                # while which instruction it may be asked for by a lazy argument; -1 = none
    int owner                                # the first output that needs it: whose error it is
    int last                                 # after this instruction nobody reads its result
    int* done                                # the instructions whose `last` is this one
    int n_done
    int64_t marked                           # the agenda it was last put on
    Vector kept                              # its last result ...
    int64_t kept_frame                       # ... and the frame it is for; -1 = none

cdef Buffer* pool_take(Pool* pool, int64_t size) except NULL nogil       # the caller has a reference of its own
cdef void pool_clear(Pool* pool) noexcept nogil

cdef int vector_alloc(Frame* frame, Vector* out, int kind) except -1 nogil   # values; keeps out.col.valid
cdef void vector_clear(Vector* vector) noexcept nogil
cdef void vector_share(Vector* target, const Vector* source) noexcept nogil
cdef void vector_null(Vector* out, int kind) noexcept nogil              # the constant null
cdef int vector_spread(Frame* frame, Vector* vector) except -1 nogil     # makes a constant an ordinary vector of n rows
cdef int combine_valid(Frame* frame, Vector* args, int n_args, Vector* out) except -1 nogil
cdef uint8_t* own_valid(Frame* frame, Vector* out) except NULL nogil     # a validity array that may be written
cdef int to_f64(Frame* frame, Vector* vector) except -1 nogil            # any numeric kind, in place
cdef int fail(Frame* frame, int64_t row, const char* reason) except -1 nogil   # raises RecordError


cdef inline int64_t row_at(const Frame* frame, int64_t i) noexcept nogil:
    return i if frame.rows == NULL else frame.rows[i]


cdef inline bint is_null_constant(const Vector* vector) noexcept nogil:
    return vector.constant and vector.col.valid != NULL and vector.col.valid[0] == 0


cdef inline bint has_value(const Vector* vector, int64_t row) noexcept nogil:
    return vector.col.valid == NULL or vector.col.valid[0 if vector.constant else row] != 0


# Strings: row r of a vector is text(v, r)[0 : text_size(v, r)].
cdef inline const char* text(const Vector* vector, int64_t row) noexcept nogil:
    return vector.col.values + vector.col.offsets[0 if vector.constant else row]


cdef inline int32_t text_size(const Vector* vector, int64_t row) noexcept nogil:
    if vector.constant:
        return vector.col.offsets[1] - vector.col.offsets[0]
    return vector.col.offsets[row + 1] - vector.col.offsets[row]


cdef inline const char* text_end(const Frame* frame, const Vector* vector) noexcept nogil:
    # Where the bytes of all rows end: whoever reads whole words must know.
    if vector.col.offsets == NULL:
        return NULL
    return vector.col.values + vector.col.offsets[1 if vector.constant else frame.n]


# Writes a string vector, rows ascending; rows that are passed over are empty.
cdef struct Writer:
    Pool* pool
    Buffer* bytes
    Buffer* offsets_buffer
    int32_t* offsets
    int64_t used
    int64_t next                             # offsets[0 .. next] are set

cdef int writer_init(Writer* writer, Frame* frame, int64_t bytes_hint) except -1 nogil
cdef int writer_grow(Writer* writer, int64_t n_bytes) except -1 nogil
cdef int writer_finish(Writer* writer, Frame* frame, Vector* out) except -1 nogil   # gives the buffers away
cdef void writer_free(Writer* writer) noexcept nogil                     # what writer_finish has not given away


cdef inline char* writer_room(Writer* writer, int64_t n_bytes) except NULL nogil:
    """Return where at least n_bytes can be written for the row at hand."""
    if writer.used + n_bytes > writer.bytes.size:
        writer_grow(writer, n_bytes)
    return writer.bytes.data + writer.used


cdef inline void writer_end(Writer* writer, int64_t row, int64_t n_bytes) noexcept nogil:
    """End row `row`, which takes n_bytes of the room."""
    while writer.next < row:
        writer.next += 1
        writer.offsets[writer.next] = <int32_t>writer.used
    writer.used += n_bytes
    writer.next = row + 1
    writer.offsets[row + 1] = <int32_t>writer.used
