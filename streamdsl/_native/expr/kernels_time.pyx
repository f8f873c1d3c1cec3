"""Parts of a time in milliseconds since 1970-01-01 UTC, of either sign."""
from libc.stdint cimport INT64_MIN, int64_t

from streamdsl._native.expr.ops cimport (
    OP_DT_DATE,
    OP_DT_DAY,
    OP_DT_HOUR,
    OP_DT_MILLISECOND,
    OP_DT_MINUTE,
    OP_DT_MONTH,
    OP_DT_SECOND,
    OP_DT_TRUNCATE,
    OP_DT_WEEKDAY,
    OP_DT_YEAR,
)
from streamdsl._native.expr.vector cimport Frame, Instruction, Kernel, Vector, row_at, vector_alloc
from streamdsl._native.flow.batch cimport KIND_I64
from streamdsl._native.serdes.number_text cimport civil_from_days, floor_div

cdef enum:
    DAY_MS = 86400000


cdef Kernel time_kernel(int op) noexcept:
    if OP_DT_YEAR <= op <= OP_DT_TRUNCATE:
        return part_of_time
    return NULL


cdef int64_t calendar_part(int op, int64_t days) noexcept nogil:
    cdef int64_t year
    cdef int month, day, before
    cdef bint leap
    civil_from_days(days, &year, &month, &day)
    if op == OP_DT_YEAR:
        return year
    if op == OP_DT_MONTH:
        return month
    if op == OP_DT_DAY:
        return day
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    before = (month - 1) * 30 + (month + (month > 8)) // 2 - (0 if month < 3 else (1 if leap else 2))
    return before + day


cdef inline int64_t truncated(int64_t ms, int64_t step) noexcept nogil:
    """The last multiple of step that is not later; near the first time of all, that one."""
    cdef int64_t rest = ms - floor_div(ms, step) * step if ms >= INT64_MIN + step else 0
    return ms - rest


cdef inline int64_t part(Instruction* ins, int64_t ms) noexcept nogil:
    cdef int op = ins.op
    cdef int64_t days = floor_div(ms, DAY_MS)
    cdef int64_t rest = ms - days * DAY_MS
    if op == OP_DT_HOUR:
        return rest // 3600000
    if op == OP_DT_MINUTE:
        return rest // 60000 % 60
    if op == OP_DT_SECOND:
        return rest // 1000 % 60
    if op == OP_DT_MILLISECOND:
        return rest % 1000
    if op == OP_DT_WEEKDAY:                  # 1 = Monday; 1970-01-01 was a Thursday
        return days + 4 - floor_div(days + 3, 7) * 7
    if op == OP_DT_DATE:
        return days
    if op == OP_DT_TRUNCATE:
        return truncated(ms, ins.whole)
    return calendar_part(op, days)


cdef int part_of_time(Frame* frame, Instruction* ins, Vector* args, Vector* out) except -1 nogil:
    cdef int64_t i, row
    cdef const int64_t* values = <int64_t*>args[0].col.values
    vector_alloc(frame, out, KIND_I64)
    for i in range(frame.m):
        row = row_at(frame, i)
        (<int64_t*>out.col.values)[row] = part(ins, values[row])
    return 0
