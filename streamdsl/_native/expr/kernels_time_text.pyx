"""Times to and from text, by a format of chrono's (and Polars') letters."""
from libc.stdint cimport INT64_MIN, int64_t, uint8_t
from libc.string cimport memcpy, strlen

from streamdsl._native.expr.calendar cimport (
    DAY_MS,
    EARLIEST,
    LATEST,
    NULL_VALUE,
    REFUSE,
    Stretch,
    days_from_civil,
    days_in,
    from_wall,
    iso_week,
    ordinal_day,
    saturating,
    stretch_at,
    weekday,
    with_zone,
)
from streamdsl._native.expr.functions cimport define, refuse_text
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
from streamdsl._native.serdes.number_text cimport civil_from_days, floor_div

from streamdsl.time_format import tokens_of

cdef enum:
    TOKEN_ROOM = 24                          # bytes that one token may write
    UNSET = -1

cdef extern from * nogil:
    """
    static const char *const SD_MONTHS[] = {"January", "February", "March", "April", "May", "June", "July", "August", "September",
                                            "October", "November", "December"};
    static const char *const SD_DAYS[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
    """
    const char** MONTHS "((const char **)SD_MONTHS)"
    const char** DAYS "((const char **)SD_DAYS)"

# One piece of a format. A literal has the code "L" and its byte as `number`; " " is any white space.
cdef struct Token:
    char code
    char pad                                 # "0", " " or NUL: none
    char number                              # digits of a fraction; 1: a colon in an offset

cdef struct Wall:
    int64_t days
    int64_t year
    int month
    int day
    int64_t in_day                           # ms
    int64_t ms                               # the instant
    int64_t below_ms                         # ns
    int64_t offset
    const char* zone


# Parameters --------------------------------------------------------------------------------------------------


cdef int with_tokens(Instruction* ins, tokens, list keep) except -1:
    cdef bytes packed = bytes(byte for token in tokens for byte in token)
    keep.append(packed)
    ins.text2 = packed
    ins.size2 = len(tokens)
    return 0


cdef int with_format(Instruction* ins, tuple params, list keep) except -1:
    """(format, zone, units of the time in a millisecond)"""
    with_tokens(ins, tokens_of(params[0], False), keep)
    ins.whole = params[2]
    return with_zone(ins, params[1], keep)


cdef int with_reading(Instruction* ins, tuple params, list keep) except -1:
    """(format, or None for ISO 8601; zone; whether what cannot be read is an error; what is done about a time that is there twice)"""
    if params[0] is not None:
        with_tokens(ins, tokens_of(params[0], True), keep)
    ins.whole = params[2]
    ins.whole2 = {"raise": REFUSE, "earliest": EARLIEST, "latest": LATEST, "null": NULL_VALUE}[params[3]]
    return with_zone(ins, params[1], keep)


# Writing -----------------------------------------------------------------------------------------------------


cdef int put_number(int64_t value, int width, char pad, char* out) noexcept nogil:
    cdef char[24] digits
    cdef int n = 0, used = 0
    if value < 0:
        out[0] = c"-"
        used = 1
        value = -value
    while value > 0 or n == 0:
        digits[n] = <char>(c"0" + value % 10)
        value = value // 10
        n += 1
    while pad != 0 and n < width:
        digits[n] = pad
        n += 1
    while n > 0:
        n -= 1
        out[used] = digits[n]
        used += 1
    return used


cdef int put_name(const char* name, int most, char* out) noexcept nogil:
    cdef int size = <int>strlen(name)
    size = size if size < most else most
    memcpy(out, name, size)
    return size


cdef int put_offset(int64_t offset, bint colon, char* out) noexcept nogil:
    cdef int64_t minutes = (offset if offset >= 0 else -offset) // 60000
    cdef int used = 1
    out[0] = c"-" if offset < 0 else c"+"
    used += put_number(minutes // 60, 2, c"0", out + used)
    if colon:
        out[used] = c":"
        used += 1
    return used + put_number(minutes % 60, 2, c"0", out + used)


cdef int put_fraction(int64_t ns, Token* token, char* out) noexcept nogil:
    """`f`: nine digits or `number`; `.`: with a point in front, and 0, 3, 6 or 9 as needed if `number` is 0."""
    cdef char[24] all_digits
    cdef int used = 0, digits = token.number
    if token.code == c".":
        if digits == 0:
            if ns == 0:
                return 0
            digits = 3 if ns % 1000000 == 0 else (6 if ns % 1000 == 0 else 9)
        out[0] = c"."
        used = 1
    elif digits == 0:
        digits = 9
    put_number(ns, 9, c"0", all_digits)
    memcpy(out + used, all_digits, digits)
    return used + digits


cdef int put_clock(Token* token, const Wall* wall, char* out) noexcept nogil:
    cdef int64_t hour = wall.in_day // 3600000
    cdef int64_t twelve = hour % 12 if hour % 12 != 0 else 12
    cdef char code = token.code
    if code == c"H" or code == c"k":
        return put_number(hour, 2, token.pad, out)
    if code == c"I" or code == c"l":
        return put_number(twelve, 2, token.pad, out)
    if code == c"M":
        return put_number(wall.in_day // 60000 % 60, 2, token.pad, out)
    if code == c"S":
        return put_number(wall.in_day // 1000 % 60, 2, token.pad, out)
    if code == c"p":
        return put_name(b"AM", 2, out) if hour < 12 else put_name(b"PM", 2, out)
    if code == c"P":
        return put_name(b"am", 2, out) if hour < 12 else put_name(b"pm", 2, out)
    if code == c"s":
        return put_number(floor_div(wall.ms, 1000), 0, 0, out)
    if code == c"z":
        return put_offset(wall.offset, token.number != 0, out)
    if code == c"Z":
        return put_name(wall.zone, 8, out)
    return put_fraction(wall.in_day % 1000 * 1000000 + wall.below_ms, token, out)


cdef int put_day(Token* token, const Wall* wall, char* out) noexcept nogil:
    cdef char code = token.code
    cdef int64_t year, week
    if code == c"L":
        out[0] = token.number
        return 1
    if code == c"Y":
        return put_number(wall.year, 4, token.pad, out)
    if code == c"C":
        return put_number(floor_div(wall.year, 100), 2, token.pad, out)
    if code == c"y":
        return put_number(wall.year - floor_div(wall.year, 100) * 100, 2, token.pad, out)
    if code == c"m":
        return put_number(wall.month, 2, token.pad, out)
    if code == c"d" or code == c"e":
        return put_number(wall.day, 2, token.pad, out)
    if code == c"b" or code == c"B":
        return put_name(MONTHS[wall.month - 1], 3 if code == c"b" else 9, out)
    if code == c"a" or code == c"A":
        return put_name(DAYS[weekday(wall.days)], 3 if code == c"a" else 9, out)
    if code == c"u":
        return put_number(weekday(wall.days) + 1, 1, 0, out)
    if code == c"w":
        return put_number((weekday(wall.days) + 1) % 7, 1, 0, out)
    if code == c"j":
        return put_number(ordinal_day(wall.days), 3, token.pad, out)
    if code == c"U":                         # weeks from the first Sunday on
        return put_number((ordinal_day(wall.days) + 6 - (weekday(wall.days) + 1) % 7) // 7, 2, token.pad, out)
    if code == c"W":                         # and from the first Monday on
        return put_number((ordinal_day(wall.days) + 6 - weekday(wall.days)) // 7, 2, token.pad, out)
    if code == c"G" or code == c"g" or code == c"V":
        iso_week(wall.days, &year, &week)
        if code == c"V":
            return put_number(week, 2, token.pad, out)
        return put_number(year if code == c"G" else year - floor_div(year, 100) * 100, 4 if code == c"G" else 2, token.pad, out)
    return put_clock(token, wall, out)


cdef int to_text(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef Writer writer
    cdef Wall wall
    cdef int64_t i, k, row, used
    cdef const Stretch* stretch
    cdef char* room
    writer_init(&writer, frame, frame.m * 24)
    try:
        for i in range(frame.m):
            row = row_at(frame, i)
            if not is_valid(&out.col, row):
                continue
            wall.ms = floor_div((<int64_t*>args[0].col.values)[row], ins.whole)
            wall.below_ms = ((<int64_t*>args[0].col.values)[row] - wall.ms * ins.whole) * (1000000 // ins.whole)
            stretch = stretch_at(ins, wall.ms)
            wall.offset = 0 if stretch == NULL else stretch.offset
            wall.zone = b"UTC"
            if stretch != NULL:
                wall.zone = stretch.name
            wall.days = floor_div(saturating(wall.ms, wall.offset), DAY_MS)
            wall.in_day = saturating(wall.ms, wall.offset) - wall.days * DAY_MS
            civil_from_days(wall.days, &wall.year, &wall.month, &wall.day)
            room = writer_room(&writer, ins.size2 * TOKEN_ROOM)
            used = 0
            for k in range(ins.size2):
                used += put_day(<Token*>ins.text2 + k, &wall, room + used)
            writer_end(&writer, row, used)
        writer_finish(&writer, frame, out)
    finally:
        writer_free(&writer)
    return 0


# Reading -----------------------------------------------------------------------------------------------------

cdef struct Read:
    const char* at
    const char* end
    int64_t year
    int64_t month
    int64_t day
    int64_t ordinal
    int64_t weekday                          # 0 = Monday
    int64_t hour
    int64_t twelve
    int64_t afternoon
    int64_t minute
    int64_t second
    int64_t ms
    int64_t offset                           # ms; INT64_MIN: none was read
    int64_t stamp                            # seconds since 1970; INT64_MIN: none was read


cdef inline bint is_blank(char c) noexcept nogil:
    return c == c" " or 9 <= c <= 13


cdef bint number(Read* read, int most, int64_t* out) noexcept nogil:
    """A whole number of up to `most` digits, white space before it."""
    cdef int64_t value = 0
    cdef int n = 0
    while read.at < read.end and is_blank(read.at[0]):
        read.at += 1
    while n < most and read.at < read.end and c"0" <= read.at[0] <= c"9":
        value = value * 10 + (read.at[0] - c"0")
        read.at += 1
        n += 1
    out[0] = value
    return n > 0


cdef bint signed_number(Read* read, int most, int64_t* out) noexcept nogil:
    cdef bint negative = read.at < read.end and read.at[0] == c"-"
    if negative or (read.at < read.end and read.at[0] == c"+"):
        read.at += 1
        if read.at == read.end or is_blank(read.at[0]):
            return False
    if not number(read, most, out):
        return False
    out[0] = -out[0] if negative else out[0]
    return True


cdef bint name_of(Read* read, const char** names, int n_names, bint short_only, int64_t* out) noexcept nogil:
    """A name in full or its first three letters, whatever their case."""
    cdef int64_t k, i, size, left = read.end - read.at
    cdef bint same
    for k in range(2 * n_names):             # the full names first
        size = <int64_t>strlen(names[k % n_names]) if k < n_names else 3
        same = left >= size and not (short_only and size > 3)
        for i in range(size if same else 0):
            same = same and (read.at[i] | 32) == (names[k % n_names][i] | 32)
        if same:
            read.at += size
            out[0] = k % n_names
            return True
    return False


cdef bint fraction(Read* read, int exactly) noexcept nogil:
    """Digits behind the point, floored to ms: `exactly` so many, 0: one to nine."""
    cdef int n = 0
    cdef int64_t value = 0
    while read.at < read.end and c"0" <= read.at[0] <= c"9" and (exactly == 0 or n < exactly):
        if n < 3:
            value = value * 10 + (read.at[0] - c"0")
        read.at += 1
        n += 1
    read.ms = value * (100 if n == 1 else (10 if n == 2 else 1))
    return n == exactly if exactly > 0 else 1 <= n <= 9


cdef bint offset(Read* read) noexcept nogil:
    """Z, +hh, +hhmm or +hh:mm."""
    cdef int64_t hours, minutes = 0
    cdef bint negative
    if read.at < read.end and (read.at[0] | 32) == c"z":
        read.at += 1
        read.offset = 0
        return True
    if read.at == read.end or (read.at[0] != c"+" and read.at[0] != c"-"):
        return False
    negative = read.at[0] == c"-"
    read.at += 1
    if read.end - read.at < 2 or is_blank(read.at[0]) or not number(read, 2, &hours):
        return False
    if read.at < read.end and (read.at[0] == c":" or c"0" <= read.at[0] <= c"9"):
        read.at += read.at[0] == c":"
        if read.end - read.at < 2 or is_blank(read.at[0]) or not number(read, 2, &minutes) or minutes > 59:
            return False
    read.offset = (hours * 60 + minutes) * (-60000 if negative else 60000)
    return hours < 24


cdef bint take(Read* read, Token* token) noexcept nogil:
    cdef char code = token.code
    cdef int64_t ignored
    if code == c"L":
        if read.at == read.end or read.at[0] != token.number:
            return False
        read.at += 1
        return True
    if code == c" ":
        while read.at < read.end and is_blank(read.at[0]):
            read.at += 1
        return True
    if code == c"Y":
        return signed_number(read, 4, &read.year)
    if code == c"y":
        if not number(read, 2, &read.year):
            return False
        read.year += 1900 if read.year >= 70 else 2000
        return True
    if code == c"m":
        return number(read, 2, &read.month)
    if code == c"d" or code == c"e":
        return number(read, 2, &read.day)
    if code == c"j":
        return number(read, 3, &read.ordinal)
    if code == c"b" or code == c"B":
        if not name_of(read, MONTHS, 12, code == c"b", &read.month):
            return False
        read.month += 1
        return True
    if code == c"a" or code == c"A":
        return name_of(read, DAYS, 7, code == c"a", &read.weekday)
    if code == c"H" or code == c"k":
        return number(read, 2, &read.hour)
    if code == c"I" or code == c"l":
        return number(read, 2, &read.twelve)
    if code == c"M":
        return number(read, 2, &read.minute)
    if code == c"S":
        return number(read, 2, &read.second)
    if code == c"s":
        return signed_number(read, 12, &read.stamp)
    if code == c"z":
        return offset(read)
    if code == c"p" or code == c"P":
        if read.end - read.at < 2 or (read.at[1] | 32) != c"m":
            return False
        read.afternoon = (read.at[0] | 32) == c"p"
        ignored = read.at[0] | 32
        read.at += 2
        return ignored == c"a" or ignored == c"p"
    if code == c".":
        if read.at == read.end or read.at[0] != c".":
            return token.number == 0         # without a fraction
        read.at += 1
    return fraction(read, token.number)


cdef bint read_iso(Read* read) noexcept nogil:
    """2026-01-02, 2026-01-02T03:04, ...:05, ...:05.678, each with an offset or without; a blank for the T."""
    cdef const char* first = read.at
    if read.end - read.at < 10 or is_blank(read.at[0]) or not number(read, 4, &read.year) or read.at - first != 4 or read.at[0] != c"-":
        return False
    read.at += 1
    if not two(read, &read.month) or read.at == read.end or read.at[0] != c"-":
        return False
    read.at += 1
    if not two(read, &read.day):
        return False
    if read.at == read.end:
        return True
    if (read.at[0] | 32) != c"t" and read.at[0] != c" ":
        return False
    read.at += 1
    if not two(read, &read.hour) or read.at == read.end or read.at[0] != c":":
        return False
    read.at += 1
    if not two(read, &read.minute):
        return False
    if read.at < read.end and read.at[0] == c":":
        read.at += 1
        if not two(read, &read.second):
            return False
        if read.at < read.end and (read.at[0] == c"." or read.at[0] == c","):
            read.at += 1
            if not fraction(read, 0):
                return False
    return read.at == read.end or offset(read)


cdef inline bint two(Read* read, int64_t* out) noexcept nogil:
    """Exactly two digits."""
    cdef const char* first = read.at
    return read.at < read.end and not is_blank(read.at[0]) and number(read, 2, out) and read.at - first == 2


cdef bint wall_of(Read* read, int64_t* out) noexcept nogil:
    """What was read, as a wall time."""
    cdef int64_t days
    if read.twelve != UNSET:
        if not 1 <= read.twelve <= 12 or read.afternoon == UNSET:
            return False
        read.hour = read.twelve % 12 + 12 * read.afternoon
    if read.ordinal != UNSET:
        if not 1 <= read.ordinal <= 365 + days_in(read.year, 2) - 28:
            return False
        days = days_from_civil(read.year, 1, 1) + read.ordinal - 1
    else:
        if not 1 <= read.month <= 12 or not 1 <= read.day <= days_in(read.year, <int>read.month):
            return False
        days = days_from_civil(read.year, <int>read.month, <int>read.day)
    if read.weekday != UNSET and read.weekday != weekday(days):
        return False
    if read.hour > 23 or read.minute > 59 or read.second > 60:
        return False
    out[0] = days * DAY_MS + read.hour * 3600000 + read.minute * 60000 + read.second * 1000 + read.ms
    return True


cdef int read_time(Instruction* ins, const char* source, int64_t size, int64_t* out) noexcept nogil:
    """1; 0: the text is no such time; -1: the zone does not have it, or has it twice, and that is refused; -2: is null."""
    cdef Read read
    cdef int64_t k, wall
    cdef int found
    read.at, read.end = source, source + size
    read.year = read.month = read.day = read.ordinal = read.weekday = read.twelve = read.afternoon = UNSET
    read.hour = read.minute = read.second = read.ms = 0
    read.offset = read.stamp = INT64_MIN
    if ins.text2 == NULL:
        if not read_iso(&read):
            return 0
    for k in range(ins.size2):
        if not take(&read, <Token*>ins.text2 + k):
            return 0
    if read.at != read.end:
        return 0
    if read.stamp != INT64_MIN:
        out[0] = read.stamp * 1000 + read.ms
        return 1
    if not wall_of(&read, &wall):
        return 0
    if read.offset != INT64_MIN:
        out[0] = wall - read.offset
        return 1
    found = from_wall(ins, wall, <int>ins.whole2, REFUSE, NULL, out)
    return 1 if found == 1 else (-2 if found == 0 and ins.whole2 == NULL_VALUE else -1)


cdef int to_time(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int found
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            continue
        found = read_time(ins, text(&args[0], row), text_size(&args[0], row), <int64_t*>out.col.values + row)
        if found == 1:
            continue
        if ins.whole and found == 0:
            refuse_text(frame, &args[0], row, "is no time in ISO 8601, or does not match the format that was given")
        if ins.whole and found == -1:
            refuse_text(frame, &args[0], row, "is a time that clocks of the time zone showed twice (say ambiguous=) or never")
        if nulls == NULL:
            nulls = own_valid(frame, out)
        nulls[row] = 0
    return 0


define("dt_strftime", "i64 -> str", to_text, 0, with_format)
define("str_strptime", "str -> i64", to_time, 0, with_reading)
