"""Calendar arithmetic in a time zone: parts, steps, wall times."""
from libc.stdint cimport INT64_MIN, int64_t, uint8_t

from streamdsl._native.expr.calendar cimport (
    DAY_MS,
    EARLIEST,
    LATEST,
    NULL_VALUE,
    REFUSE,
    days_from_civil,
    days_in,
    from_wall,
    is_leap,
    iso_week,
    offset_at,
    saturating,
    with_zone,
)
from streamdsl._native.expr.functions cimport define
from streamdsl._native.expr.vector cimport Frame, Instruction, Vector, fail, own_valid, row_at, vector_alloc
from streamdsl._native.flow.batch cimport KIND_BOOL, KIND_I64, is_valid
from streamdsl._native.serdes.number_text cimport civil_from_days, floor_div

cdef enum:
    WALL = 0
    WEEK = 1
    ISO_YEAR = 2
    QUARTER = 3
    DAYS_IN_MONTH = 4
    MONTH_START = 5
    MONTH_END = 6

    BY_MS = 0                                # units of a step
    BY_WEEKS = 1
    BY_MONTHS = 2

UNCLEAR = {"raise": REFUSE, "earliest": EARLIEST, "latest": LATEST, "null": NULL_VALUE}
UNITS = {"ms": BY_MS, "weeks": BY_WEEKS, "months": BY_MONTHS}


cdef int zoned(Instruction* ins, tuple params, list keep) except -1:
    """(zone)"""
    return with_zone(ins, params[0], keep)


cdef int with_step(Instruction* ins, tuple params, list keep) except -1:
    """(how many, unit, zone)"""
    if params[0] < 1:
        raise ValueError("the step must be above 0")
    ins.whole, ins.which = params[0], UNITS[params[1]]
    return with_zone(ins, params[2], keep)


cdef int with_offset(Instruction* ins, tuple params, list keep) except -1:
    """(months, days, ms, zone): days and ms are kept in one number of ms and one of days"""
    ins.whole, ins.which, ins.whole2 = params[0], params[1], params[2]
    return with_zone(ins, params[3], keep)


cdef int with_unclear(Instruction* ins, tuple params, list keep) except -1:
    """(zone, ambiguous, non_existent)"""
    ins.whole, ins.whole2 = UNCLEAR[params[1]], UNCLEAR[params[2]]
    return with_zone(ins, params[0], keep)


# Parts -------------------------------------------------------------------------------------------------------


cdef int64_t part(Instruction* ins, int64_t ms) noexcept nogil:
    cdef int64_t days = floor_div(ms, DAY_MS), year, week
    cdef int month, day
    if ins.which == WEEK or ins.which == ISO_YEAR:
        iso_week(days, &year, &week)
        return week if ins.which == WEEK else year
    civil_from_days(days, &year, &month, &day)
    if ins.which == QUARTER:
        return (month + 2) // 3
    return days_in(year, month)


cdef int64_t moved_in_month(Instruction* ins, int64_t ms) noexcept nogil:
    """To the first or last day of its month, at the same time of day."""
    cdef int64_t wall = saturating(ms, offset_at(ins, ms)), year, out, near = offset_at(ins, ms)
    cdef int month, day
    civil_from_days(floor_div(wall, DAY_MS), &year, &month, &day)
    wall = saturating(wall, <int64_t>DAY_MS * ((1 if ins.which == MONTH_START else days_in(year, month)) - day))
    from_wall(ins, wall, EARLIEST, EARLIEST, &near, &out)
    return out


cdef int part_of_time(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row, ms
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        ms = (<int64_t*>args[0].col.values)[row]
        if ins.which == WALL:
            ms = saturating(ms, offset_at(ins, ms))
        elif ins.which >= MONTH_START:
            ms = moved_in_month(ins, ms)
        else:
            ms = part(ins, ms)
        (<int64_t*>out.col.values)[row] = ms
    return 0


cdef int leap_year(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row, year
    cdef int month, day
    vector_alloc(frame, out, KIND_BOOL)
    for i in range(frame.m):
        row = row_at(frame, i)
        civil_from_days(floor_div((<int64_t*>args[0].col.values)[row], DAY_MS), &year, &month, &day)
        (<uint8_t*>out.col.values)[row] = is_leap(year)
    return 0


# Steps -------------------------------------------------------------------------------------------------------


cdef int64_t truncated_wall(Instruction* ins, int64_t wall) noexcept nogil:
    cdef int64_t days, year, months
    cdef int month, day
    if ins.which == BY_MS:
        return floor_div(wall, ins.whole) * ins.whole if wall >= INT64_MIN + ins.whole else wall
    days = floor_div(wall, DAY_MS)
    if ins.which == BY_WEEKS:                # weeks begin on Monday; 1970-01-05 was one
        return (floor_div(days - 4, 7 * ins.whole) * 7 * ins.whole + 4) * DAY_MS
    civil_from_days(days, &year, &month, &day)
    months = floor_div((year - 1970) * 12 + month - 1, ins.whole) * ins.whole
    return days_from_civil(1970 + floor_div(months, 12), <int>(months - floor_div(months, 12) * 12) + 1, 1) * DAY_MS


cdef int truncate(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row, ms, near
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        ms = (<int64_t*>args[0].col.values)[row]
        near = offset_at(ins, ms)
        from_wall(ins, truncated_wall(ins, saturating(ms, near)), EARLIEST, EARLIEST, &near, <int64_t*>out.col.values + row)
    return 0


cdef int offset_by(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    """Months and days on the wall's calendar, the day of the month at most its last one; then the rest."""
    cdef int64_t i, row, ms, near, wall, year, months, days
    cdef int month, day
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        ms = (<int64_t*>args[0].col.values)[row]
        if ins.whole != 0 or ins.which != 0:
            near = offset_at(ins, ms)
            wall = saturating(ms, near)
            days = floor_div(wall, DAY_MS)
            wall -= days * DAY_MS
            if ins.whole != 0:
                civil_from_days(days, &year, &month, &day)
                months = year * 12 + month - 1 + ins.whole
                year = floor_div(months, 12)
                month = <int>(months - year * 12) + 1
                days = days_from_civil(year, month, min(day, days_in(year, month)))
            from_wall(ins, (days + ins.which) * DAY_MS + wall, EARLIEST, EARLIEST, &near, &ms)
        (<int64_t*>out.col.values)[row] = saturating(ms, ins.whole2)
    return 0


# Wall times --------------------------------------------------------------------------------------------------


cdef int instant_of(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef int found
    cdef uint8_t* nulls = NULL
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        if not is_valid(&out.col, row):
            continue
        found = from_wall(
            ins, (<int64_t*>args[0].col.values)[row], <int>ins.whole, <int>ins.whole2, NULL, <int64_t*>out.col.values + row
        )
        if found == 1:
            continue
        if found == 0 and ins.whole != NULL_VALUE:
            fail(frame, row, "clocks of the time zone showed this time twice: say ambiguous=")
        if found == -1 and ins.whole2 != NULL_VALUE:
            fail(frame, row, "clocks of the time zone never showed this time: say non_existent=")
        if nulls == NULL:
            nulls = own_valid(frame, out)
        nulls[row] = 0
    return 0


define("dt_wall", "i64 -> i64", part_of_time, WALL, zoned)
define("dt_week", "i64 -> i64", part_of_time, WEEK)
define("dt_iso_year", "i64 -> i64", part_of_time, ISO_YEAR)
define("dt_quarter", "i64 -> i64", part_of_time, QUARTER)
define("dt_days_in_month", "i64 -> i64", part_of_time, DAYS_IN_MONTH)
define("dt_month_start", "i64 -> i64", part_of_time, MONTH_START, zoned)
define("dt_month_end", "i64 -> i64", part_of_time, MONTH_END, zoned)
define("dt_is_leap_year", "i64 -> bool", leap_year)
define("dt_truncate_in", "i64 -> i64", truncate, 0, with_step)
define("dt_offset_by", "i64 -> i64", offset_by, 0, with_offset)
define("dt_instant", "i64 -> i64", instant_of, 0, with_unclear)
