"""See calendar.pxd. A zone is a table of its stretches from 1850 to 2500; later ones are those of 400 years before."""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from streamdsl._native.expr.vector cimport Instruction

import datetime
import functools
import re
import zoneinfo

cdef enum:
    CYCLE_MS = 12622780800000                # 400 years
    LAST_MS = 16725225600000                 # 2500-01-01

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
FIXED = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
STEP_S = 7 * 86_400
FIRST_S, LAST_S = -3_786_825_600, 16_725_225_600


@functools.lru_cache(maxsize=64)
def stretches(zone):
    """Return [(first second, offset in seconds, abbreviation)] of a zone, in order."""
    fixed = FIXED.fullmatch(zone)
    if fixed:
        offset = (int(fixed[2]) * 60 + int(fixed[3])) * (-60 if fixed[1] == "-" else 60)
        return [(FIRST_S, offset, zone)]
    info = zoneinfo.ZoneInfo(zone)

    def at(second):
        local = (EPOCH + datetime.timedelta(seconds=second)).astimezone(info)
        return round(local.utcoffset().total_seconds()), local.tzname() or ""

    known = at(FIRST_S)
    found = [(FIRST_S, *known)]
    for end in range(FIRST_S + STEP_S, LAST_S, STEP_S):
        low, high = end - STEP_S, end
        if at(end) == known:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if at(middle) == known else (low, middle)
        known = at(high)
        found.append((high, *known))
    return found


@functools.lru_cache(maxsize=64)
def table_of(zone):
    """Return the stretches as an array of `Stretch`."""
    cdef bytes table
    cdef Stretch one
    parts = []
    for start, offset, name in stretches(zone):
        memset(&one, 0, sizeof(Stretch))
        one.start, one.offset = start * 1000, offset * 1000
        short = name.encode()[:8]
        memcpy(one.name, <const char*>short, len(short))
        parts.append((<char*>&one)[:sizeof(Stretch)])
    table = b"".join(parts)
    return table


cdef int with_zone(Instruction* ins, str zone, list keep) except -1:
    cdef bytes table
    ins.text1, ins.size1 = NULL, 0
    if zone in ("", "UTC"):
        return 0
    table = table_of(zone)
    keep.append(table)
    ins.text1 = table
    ins.size1 = len(table) // sizeof(Stretch)
    return 0


cdef const Stretch* stretch_at(Instruction* ins, int64_t ms) noexcept nogil:
    cdef const Stretch* table = <const Stretch*>ins.text1
    # As signed numbers: an enum of this size is unsigned.
    cdef int64_t low = 0, high = ins.size1, middle, last = LAST_MS, cycle = CYCLE_MS
    if high == 0:
        return NULL
    if ms >= last:
        ms = last - cycle + (ms - last) % cycle
    while high - low > 1:
        middle = (low + high) // 2
        if table[middle].start <= ms:
            low = middle
        else:
            high = middle
    return &table[low]


cdef int from_wall(Instruction* ins, int64_t wall, int unclear, int missing, const int64_t* near, int64_t* out) noexcept nogil:
    # The two offsets that can be meant are those in force a day before and a day after.
    cdef int64_t before, after, first, second
    cdef bint first_fits, second_fits
    if ins.size1 == 0:
        out[0] = wall
        return 1
    if near != NULL:
        out[0] = saturating(wall, -near[0])
        if offset_at(ins, out[0]) == near[0]:
            return 1
    before = offset_at(ins, saturating(wall, -DAY_MS))
    after = offset_at(ins, saturating(wall, DAY_MS))
    first = saturating(wall, -before)
    second = saturating(wall, -after)
    first_fits = offset_at(ins, first) == before
    second_fits = offset_at(ins, second) == after
    if first_fits and (not second_fits or first == second):
        out[0] = first
        return 1
    if second_fits and not first_fits:
        out[0] = second
        return 1
    if first_fits:                           # twice: clocks went back
        out[0] = first if unclear == EARLIEST else second
        return 1 if unclear == EARLIEST or unclear == LATEST else 0
    out[0] = first                           # not at all: clocks went forward by so much
    return 1 if missing == EARLIEST else -1
