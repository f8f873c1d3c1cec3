"""What expressions answer: times in zones, as text and from text."""

import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl import DataError, Topology, col, memory
from streamdsl.schema import type_of
from tests.dsl.fakes import refused

UTC = datetime.UTC


TIME = pa.timestamp("ms", tz="UTC")


def answers(expression, *values, schema=TIME):
    stream = Topology("job").stream(memory("in", schema=pa.schema([("t", type_of(schema))]), rows=[{"t": value} for value in values]))
    found = stream.select(out=expression).collect().column("out").to_pylist()
    return [value.astimezone(UTC) if isinstance(value, datetime.datetime) else value for value in found]


def at(*parts):
    return datetime.datetime(*parts, tzinfo=UTC)


T = col("t").dt
S = col("t").str
VIENNA = T.convert_time_zone("Europe/Vienna").dt


@pytest.mark.parametrize(
    ("expression", "time", "wanted"),
    [
        (T.weekday(), at(2024, 1, 1), 1),
        (T.weekday(), at(2024, 1, 7), 7),
        (T.week(), at(2021, 1, 1), 53),
        (T.iso_year(), at(2021, 1, 1), 2020),
        (T.quarter(), at(2021, 3, 31), 1),
        (T.is_leap_year(), at(2000, 1, 1), True),
        (T.days_in_month(), at(2023, 2, 1), 28),
        (T.ordinal_day(), at(2024, 12, 31), 366),
        (T.truncate("1w"), at(2021, 3, 4, 5), at(2021, 3, 1)),
        (T.truncate("2w"), at(2021, 3, 4, 5), at(2021, 2, 22)),
        (T.truncate("1mo"), at(2021, 3, 4, 5), at(2021, 3, 1)),
        (T.truncate("5mo"), at(2021, 3, 4, 5), at(2020, 11, 1)),
        (T.truncate("1q"), at(1969, 12, 30), at(1969, 10, 1)),
        (T.truncate("3y"), at(2021, 3, 4, 5), at(2021, 1, 1)),
        (T.truncate("7h"), at(1969, 12, 30, 1), at(1969, 12, 29, 23)),
        (T.truncate("1h30m"), at(2021, 3, 4, 5, 6), at(2021, 3, 4, 4, 30)),
        (T.month_start(), at(2021, 3, 4, 5), at(2021, 3, 1, 5)),
        (T.month_end(), at(2024, 2, 4, 5), at(2024, 2, 29, 5)),
        (T.offset_by("1mo"), at(2021, 1, 31), at(2021, 2, 28)),
        (T.offset_by("-1mo2d"), at(2021, 3, 31), at(2021, 2, 26)),
        (T.offset_by("1w"), at(2021, 3, 31), at(2021, 4, 7)),
        (T.offset_by("-90m"), at(2021, 3, 31), at(2021, 3, 30, 22, 30)),
        (T.epoch("s"), at(1970, 1, 1, 0, 0, 1), 1),
        (T.epoch("d"), at(1969, 12, 31, 23), -1),
        (T.epoch(), at(1970, 1, 1, 0, 0, 1), 1_000_000),
        (T.timestamp("ms"), at(1970, 1, 1, 0, 0, 1), 1000),
        (T.strftime("%d.%m.%Y %H:%M:%S%.3f"), at(2021, 3, 4, 5, 6, 7, 89_000), "04.03.2021 05:06:07.089"),
        (T.strftime("%a %b %e %j %U %W %V %p %I"), at(2021, 3, 4, 5), "Thu Mar  4 063 09 09 09 AM 05"),
        (T.strftime("%+"), at(2021, 3, 4, 5, 6, 7), "2021-03-04T05:06:07+00:00"),
        (T.to_string(), at(2021, 3, 4, 5, 6, 7, 89_000), "2021-03-04 05:06:07.089+00:00"),
        (VIENNA.hour(), at(2021, 7, 1, 23), 1),
        (VIENNA.date(), at(2021, 7, 1, 23), datetime.date(2021, 7, 2)),
        (VIENNA.truncate("1d"), at(2021, 7, 1, 23), at(2021, 7, 1, 22)),
        (VIENNA.truncate("1h"), at(2021, 10, 31, 0, 30), at(2021, 10, 31, 0)),
        (VIENNA.truncate("1h"), at(2021, 10, 31, 1, 30), at(2021, 10, 31, 1)),
        (VIENNA.truncate("1d"), at(2021, 10, 31, 12, 30), at(2021, 10, 30, 22)),
        (VIENNA.offset_by("1d"), at(2021, 3, 27, 12), at(2021, 3, 28, 11)),
        (VIENNA.offset_by("24h"), at(2021, 3, 27, 12), at(2021, 3, 28, 12)),
        (VIENNA.strftime("%H:%M %Z %z %:z"), at(2021, 3, 4), "01:00 CET +0100 +01:00"),
        (VIENNA.hour(), at(1960, 7, 1, 23), 0),
        (VIENNA.hour(), at(2600, 7, 1, 23), 1),
        (VIENNA.replace_time_zone("UTC"), at(2021, 7, 1), at(2021, 7, 1, 2)),
        (T.replace_time_zone("Europe/Vienna"), at(2021, 7, 1), at(2021, 6, 30, 22)),
        (T.replace_time_zone("Europe/Vienna", ambiguous="latest"), at(2021, 10, 31, 2, 30), at(2021, 10, 31, 1, 30)),
        (T.replace_time_zone("Europe/Vienna", ambiguous="null"), at(2021, 10, 31, 2, 30), None),
        (T.replace_time_zone("Europe/Vienna", non_existent="null"), at(2021, 3, 28, 2, 30), None),
        (T.year(), None, None),
    ],
    ids=str,
)
def test_moments(expression, time, wanted):
    assert answers(expression, time) == [wanted]


def test_days_stay_days():
    day = datetime.date(2021, 3, 4)
    assert answers(T.truncate("1mo"), day, None, schema="date") == [datetime.date(2021, 3, 1), None]
    assert answers(T.strftime("%d.%m.%Y"), day, schema="date") == ["04.03.2021"]
    assert answers(T.offset_by("1mo"), day, schema="date") == [datetime.date(2021, 4, 4)]
    assert answers(T.to_string(), day, schema="date") == ["2021-03-04"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2020-01-02T03:04:05", at(2020, 1, 2, 3, 4, 5)),
        ("2020-01-02 03:04:05.1239", at(2020, 1, 2, 3, 4, 5, 123_000)),
        ("2020-01-02", at(2020, 1, 2)),
        ("2020-01-02T03:04:05Z", at(2020, 1, 2, 3, 4, 5)),
        ("2020-01-02T03:04:05+02:00", at(2020, 1, 2, 1, 4, 5)),
        ("2020-01-02 03:04", at(2020, 1, 2, 3, 4)),
        ("1969-12-31T23:59:59.9999Z", at(1969, 12, 31, 23, 59, 59, 999_000)),
        *(
            (text, None)
            for text in (
                "x",
                "",
                "2020-02-30",
                "2020-1-2",
                "2020-01-02T25:00",
                "2020-01-02T03:04:05+2",
                "2020-01-02 ",
                "20200102",
                "202-01-02 03:04",
            )
        ),
    ],
)
def test_iso_texts(text, wanted):
    assert answers(S.to_datetime(strict=False), text, schema=str) == [wanted]
    assert answers(S.to_datetime(strict=False).dt.date(), text, schema=str) == [wanted and wanted.date()]


@pytest.mark.parametrize(
    ("form", "text", "wanted"),
    [
        ("%d.%m.%Y %H:%M", "05.03.2021 4:05", at(2021, 3, 5, 4, 5)),
        ("%d.%m.%Y", "5.3.2021", at(2021, 3, 5)),
        ("%Y-%m-%d %H:%M:%S%.f", "2021-01-01 00:00:00.5", at(2021, 1, 1, 0, 0, 0, 500_000)),
        ("%Y-%m-%dT%H:%M:%S%.3f", "2021-01-01T00:00:00.123", at(2021, 1, 1, 0, 0, 0, 123_000)),
        ("%Y%m%d", "20210102", at(2021, 1, 2)),
        ("%Y-%m-%d %H:%M:%S %z", "2021-01-01 00:00:00 +0200", at(2020, 12, 31, 22)),
        ("%Y-%m-%dT%H:%M:%S%:z", "2021-01-01T00:00:00+02:00", at(2020, 12, 31, 22)),
        ("%b %d, %Y %I:%M %p", "Jan 05, 2021 03:04 PM", at(2021, 1, 5, 15, 4)),
        ("%A, %d %B %Y", "Monday, 04 January 2021", at(2021, 1, 4)),
        ("%s", "1600000000", at(2020, 9, 13, 12, 26, 40)),
        ("%y-%j", "21-045", at(2021, 2, 14)),
        ("%F %T", "2021-01-01 23:59:60", at(2021, 1, 2)),
        ("%Y-%m-%d %H:%M:%S", "  2021-01-01 00:00:00", at(2021, 1, 1)),
        *(
            (form, text, None)
            for form, text in (("%Y-%m-%d", "2021-02-30"), ("%Y-%m-%d", "2021-01-01 10:00"), ("%F %T", "2021-01-01 24:00:00"))
        ),
        ("%A %F", "Sunday 2021-01-04", None),
    ],
)
def test_texts_of_a_format(form, text, wanted):
    assert answers(S.to_datetime(form, strict=False), text, schema=str) == [wanted]
    if wanted is None:
        with pytest.raises(DataError, match="does not match the format"):
            answers(S.to_datetime(form), text, schema=str)


def test_texts_in_a_zone():
    noon = S.to_datetime("%Y-%m-%d %H:%M", time_zone="Europe/Vienna")
    assert answers(noon, "2021-07-01 12:00", schema=str) == [at(2021, 7, 1, 10)]
    assert answers(noon.dt.hour(), "2021-07-01 12:00", schema=str) == [12]
    with pytest.raises(DataError, match="ambiguous="):
        answers(noon, "2021-10-31 02:30", schema=str)
    assert answers(S.to_date("%d.%m.%Y"), "01.07.2021", None, schema=str) == [datetime.date(2021, 7, 1), None]
    assert answers(S.strptime(datetime.date), "2021-07-01", schema=str) == [datetime.date(2021, 7, 1)]
    assert answers(S.strptime(datetime.datetime, "%F %R"), "2021-07-01 10:30", schema=str) == [at(2021, 7, 1, 10, 30)]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-62_000_000_000_000, 250_000_000_000_000),
    st.sampled_from(["%F %T%.3f", "%s%.3f", "%d/%b/%Y:%H:%M:%S%.3f %z", "%+", "%Y %j %T%.3f"]),
)
def test_what_is_written_is_read(ms, form):
    time = at(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    assert answers(T.strftime(form).str.to_datetime(form), time) == [time]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: T.strftime("%Q"), ["'%Q' cannot be used", "%Q is not known"]),
        (lambda: S.to_datetime("%Y-%m"), ["does not say which day"]),
        (lambda: S.to_datetime("%F %H"), ["an hour or a minute without the other"]),
        (lambda: S.to_datetime("%F %I:%M"), ["without am or pm"]),
        (lambda: S.to_datetime("%F %T.%f"), ["%f counts nanoseconds", "%.f"]),
        (lambda: S.to_datetime(ambiguous="first"), ["ambiguous='first'"]),
        (lambda: S.strptime(int), ["gives a time or a date"]),
        (lambda: T.truncate("0s"), ["longer than 0"]),
        (lambda: T.truncate("-1h"), ["is not a duration"]),
        (lambda: T.truncate("1M"), ["a month or a minute"]),
        (lambda: T.epoch("m"), ["time_unit='m'"]),
        (lambda: T.convert_time_zone(""), ["name of a zone"]),
        (lambda: T.replace_time_zone("UTC", non_existent="x"), ["non_existent='x'"]),
        (lambda: answers(T.convert_time_zone("Mars/Olympus"), None), ["no time zone 'Mars/Olympus'", "Europe/Vienna"]),
        (lambda: answers(T.hour(), "x", schema=str), [".dt.hour needs a timestamp"]),
        (lambda: answers(S.to_datetime(), at(2021, 1, 1)), [".str.to_datetime needs texts"]),
    ],
)
def test_refused(make, parts):
    with refused(*parts):
        make()
