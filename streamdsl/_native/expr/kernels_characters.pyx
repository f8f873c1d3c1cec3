"""Functions of the characters of a text: ends, paddings, capitals. Lengths count code points."""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp, memcpy

from streamdsl._native.expr.functions cimport define, keep_params, refuse_text
from streamdsl._native.expr.utf8 cimport code_point, code_points, is_white, last_head, offset_of
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
from streamdsl._native.flow.batch cimport KIND_I64, is_valid

cdef enum:
    STRIP = 0
    STRIP_START = 1
    STRIP_END = 2
    STRIP_PREFIX = 3
    STRIP_SUFFIX = 4
    HEAD = 5
    TAIL = 6

    PAD_START = 0
    PAD_END = 1
    ZFILL = 2
    REVERSE = 3


# Parameters --------------------------------------------------------------------------------------------------


cdef int with_text(Instruction* ins, tuple params, list keep) except -1:
    """(text or None)"""
    cdef bytes data
    if params[0] is None:
        return 0
    data = params[0].encode()
    keep_params(ins, (data,), keep)
    ins.text1 = data
    ins.size1 = len(data)
    return 0


cdef int with_count(Instruction* ins, tuple params, list keep) except -1:
    """(number of characters)"""
    ins.whole = params[0]
    return 0


cdef int with_padding(Instruction* ins, tuple params, list keep) except -1:
    """(length, character)"""
    if len(params[1]) != 1 or params[0] < 0:
        raise ValueError(f"a text is padded to a length of at least 0 with one character, not to {params[0]} with {params[1]!r}")
    ins.whole = params[0]
    return with_text(ins, params[1:], keep)


cdef int with_base(Instruction* ins, tuple params, list keep) except -1:
    """(base, strict)"""
    if not 2 <= params[0] <= 36:
        raise ValueError(f"a base is 2 to 36, not {params[0]}")
    ins.whole, ins.whole2 = params[0], params[1]
    return 0


# Ends --------------------------------------------------------------------------------------------------------


cdef bint stripped(Instruction* ins, const char* source, int64_t size) noexcept nogil:
    """Whether the code point of `size` bytes goes: it is one of text1, or white if there is none."""
    cdef int64_t at = 0, n
    if ins.text1 == NULL:
        return is_white(code_point(source, size))
    while at < ins.size1:
        n = offset_of(ins.text1 + at, ins.size1 - at, 1)
        if n == size and memcmp(ins.text1 + at, source, n) == 0:
            return True
        at += n
    return False


cdef void strip(Instruction* ins, const char** source, int64_t* size) noexcept nogil:
    cdef int64_t n
    while ins.which != STRIP_END and size[0] > 0:
        n = offset_of(source[0], size[0], 1)
        if not stripped(ins, source[0], n):
            break
        source[0] += n
        size[0] -= n
    while ins.which != STRIP_START and size[0] > 0:
        n = last_head(source[0], size[0])
        if not stripped(ins, source[0] + n, size[0] - n):
            break
        size[0] = n


cdef void narrow(Instruction* ins, const char** source, int64_t* size) noexcept nogil:
    cdef int64_t at
    if ins.which <= STRIP_END:
        strip(ins, source, size)
    elif ins.which == STRIP_PREFIX:
        if size[0] >= ins.size1 and memcmp(source[0], ins.text1, ins.size1) == 0:
            source[0] += ins.size1
            size[0] -= ins.size1
    elif ins.which == STRIP_SUFFIX:
        if size[0] >= ins.size1 and memcmp(source[0] + size[0] - ins.size1, ins.text1, ins.size1) == 0:
            size[0] -= ins.size1
    else:                                    # HEAD: characters up to `at`, TAIL: those from `at` on
        at = ins.whole
        if (at < 0) == (ins.which == HEAD):
            at = code_points(source[0], size[0]) - (at if at >= 0 else -at)
        else:
            at = at if at >= 0 else -at
        at = offset_of(source[0], size[0], at if at > 0 else 0)
        if ins.which == HEAD:
            size[0] = at
        else:
            source[0] += at
            size[0] -= at


cdef int part_of_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, size
    cdef const char* source
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            source = text(&args[0], row)
            size = text_size(&args[0], row)
            narrow(ins, &source, &size)
            memcpy(writer_room(&writer, size), source, size)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


# Paddings ----------------------------------------------------------------------------------------------------


cdef int64_t put_fill(Instruction* ins, int64_t n, char* out) noexcept nogil:
    cdef int64_t k
    for k in range(n):
        memcpy(out + k * ins.size1, ins.text1, ins.size1)
    return n * ins.size1


cdef int64_t put_padded(Instruction* ins, const char* source, int64_t size, char* out) noexcept nogil:
    cdef int64_t missing, used = 0, head = 0
    missing = ins.whole - code_points(source, size)
    missing = missing if missing > 0 else 0
    if ins.which == ZFILL and size > 0 and (source[0] == c"-" or source[0] == c"+"):
        out[0] = source[0]
        head = used = 1
    if ins.which != PAD_END:
        used += put_fill(ins, missing, out + used)
    memcpy(out + used, source + head, size - head)
    used += size - head
    if ins.which == PAD_END:
        used += put_fill(ins, missing, out + used)
    return used


cdef int64_t put_reversed(const char* source, int64_t size, char* out) noexcept nogil:
    cdef int64_t n, used = 0
    while size > 0:
        n = last_head(source, size)
        memcpy(out + used, source + n, size - n)
        used += size - n
        size = n
    return used


cdef int changed_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, size
    cdef char* room
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            size = text_size(&args[0], row)
            room = writer_room(&writer, size if ins.which == REVERSE else size + ins.whole * ins.size1)
            if ins.which == REVERSE:
                size = put_reversed(text(&args[0], row), size, room)
            else:
                size = put_padded(ins, text(&args[0], row), size, room)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


# Capitals ----------------------------------------------------------------------------------------------------


cdef inline bint is_letter(char c) noexcept nogil:
    return <uint8_t>((c | 32) - c"a") < 26


cdef bint put_title(const char* source, int64_t size, char* out) noexcept nogil:
    """False if there are characters beyond ASCII."""
    cdef int64_t k
    cdef bint inside = False
    for k in range(size):
        if <uint8_t>source[k] >= 0x80:
            return False
        out[k] = source[k]
        if is_letter(source[k]):
            out[k] = source[k] | 32 if inside else source[k] & ~32
        inside = is_letter(source[k])
    return True


cdef int64_t title_beyond_ascii(const char* source, int64_t size, Writer* writer) except -1 nogil:
    with gil:
        changed = source[:size].decode("utf-8", "surrogateescape").title().encode("utf-8", "surrogateescape")
        memcpy(writer_room(writer, len(changed)), <const char*>changed, len(changed))
        return len(changed)


cdef int to_titlecase(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef int64_t i, row, size
    writer_init(&writer, frame, frame.m * 16)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            size = text_size(&args[0], row)
            if not put_title(text(&args[0], row), size, writer_room(&writer, size)):
                size = title_beyond_ascii(text(&args[0], row), size, &writer)
            writer_end(&writer, row, size)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


# Numbers -----------------------------------------------------------------------------------------------------


cdef int len_bytes(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        (<int64_t*>out.col.values)[row] = text_size(&args[0], row)
    return 0


cdef extern from * nogil:
    """
    /* A whole number in a base, with a sign; 0 if the text is none or does not fit. */
    static int sd_parse_base(const char* p, int64_t n, int64_t base, int64_t* out) {
        int64_t i = 0, value = 0;
        const int negative = n > 0 && p[0] == '-';
        if (n > 0 && (p[0] == '-' || p[0] == '+')) i = 1;
        if (i == n) return 0;
        for (; i < n; i++) {
            const int c = p[i], d = c >= '0' && c <= '9' ? c - '0' : ((c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99);
            if (d >= base || __builtin_mul_overflow(value, base, &value)) return 0;
            if (negative ? __builtin_sub_overflow(value, (int64_t)d, &value) : __builtin_add_overflow(value, (int64_t)d, &value)) return 0;
        }
        *out = value;
        return 1;
    }
    """
    bint parse_base "sd_parse_base"(const char* text, int64_t n, int64_t base, int64_t* out)


cdef int to_integer(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        if is_valid(&out.col, row) and not parse_base(
            text(&args[0], row), text_size(&args[0], row), ins.whole, <int64_t*>out.col.values + row
        ):
            if ins.whole2:
                refuse_text(frame, &args[0], row, "is no int64 in the base of to_integer")
            if nulls == NULL:
                nulls = own_valid(frame, out)
            nulls[row] = 0
    return 0


define("str_strip_chars", "str -> str", part_of_text, STRIP, with_text)
define("str_strip_chars_start", "str -> str", part_of_text, STRIP_START, with_text)
define("str_strip_chars_end", "str -> str", part_of_text, STRIP_END, with_text)
define("str_strip_prefix", "str -> str", part_of_text, STRIP_PREFIX, with_text)
define("str_strip_suffix", "str -> str", part_of_text, STRIP_SUFFIX, with_text)
define("str_head", "str -> str", part_of_text, HEAD, with_count)
define("str_tail", "str -> str", part_of_text, TAIL, with_count)
define("str_pad_start", "str -> str", changed_text, PAD_START, with_padding)
define("str_pad_end", "str -> str", changed_text, PAD_END, with_padding)
define("str_zfill", "str -> str", changed_text, ZFILL, with_padding)
define("str_reverse", "str -> str", changed_text, REVERSE)
define("str_to_titlecase", "str -> str", to_titlecase)
define("str_len_bytes", "str -> i64", len_bytes)
define("str_to_integer", "str -> i64", to_integer, 0, with_base)
