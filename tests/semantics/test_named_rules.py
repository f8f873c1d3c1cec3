"""Each rule of windows, frames, keyed state and timers, and the tests that ask it; the tests of rules that no other file asks alone."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Processor, col, count, count_window, expanding, hopping, rolling, session, sliding, tumbling
from tests.semantics.jobs import driver, figures, row
from tests.windows.test_cases import CASES

TESTS = Path(__file__).resolve().parents[1]

#: By rule: "file::test", or "case: name" of tests/windows/test_cases.py, which the model and the library answer.
RULES: dict[str, tuple[str, ...]] = {
    # Windows
    "windows are aligned to the epoch plus offset": (
        "semantics/test_windows.py::test_a_window_is_half_open_and_aligned_to_the_epoch",
        "semantics/test_windows.py::test_the_offset_moves_the_grid",
        "case: tumbling windows are aligned to the epoch plus offset, before it too",
    ),
    "hopping: every [start, start + s) that holds t, in ascending start": (
        "semantics/test_windows.py::test_a_record_is_in_every_hopping_window_that_holds_it",
        "semantics/test_windows.py::test_hopping_with_an_offset_and_every_by_name",
    ),
    "a window with a negative start is never clipped": (
        "case: hopping windows with a negative start are not clipped",
        "semantics/test_time.py::test_negative_times_have_windows_of_their_own",
    ),
    "sliding(d): [a, a + d], closed at both ends": (
        "case: sliding windows are closed at both ends",
        "windows/test_rules.py::test_a_sliding_window_begins_with_the_records_that_are_in_it",
    ),
    "sliding(d): none is empty, none comes twice": (
        "case: no sliding window comes twice",
        "windows/test_sliding.py::test_sliding_windows_that_close",
    ),
    "session(gap): exactly gap apart: together": (
        "windows/test_rules.py::test_records_exactly_a_gap_apart_are_in_one_session",
        "case: exactly the gap apart: together",
    ),
    "a session's row has the first time and the last one plus gap": (
        "semantics/test_named_rules.py::test_a_row_has_its_last_moment_as_its_time",
    ),
    "a late record bridges two sessions that are still open": (
        "windows/test_rules.py::test_a_late_record_unites_two_open_sessions",
        "case: a late record bridges two sessions that are still open",
    ),
    "in update mode a merge withdraws the old sessions by their bounds, then adds the new one": (
        "case: in update mode a merge withdraws both old sessions",
        "windows/test_rules.py::test_a_session_that_grows_withdraws_its_old_bounds_once",
    ),
    "a late record does not merge with a session that was closed": (
        "windows/test_rules.py::test_a_session_that_was_closed_takes_nothing_and_unites_with_nothing",
        "case: a late record does not merge with a session that was closed",
    ),
    "a window is open while W < its last moment + grace": (
        "semantics/test_windows.py::test_a_window_is_open_while_the_watermark_is_below_its_last_moment_and_grace",
        "semantics/test_named_rules.py::test_a_window_takes_records_up_to_its_last_moment_and_grace",
        "case: a session is open while W < last + gap + grace",
    ),
    "rows have the last moment as their time, and carry window_start and window_end": (
        "semantics/test_named_rules.py::test_a_row_has_its_last_moment_as_its_time",
        "semantics/test_windows.py::test_a_row_has_the_time_of_the_windows_last_millisecond",
    ),
    "grace is 0 by default": ("case: kafka: a late record is dropped without grace",),
    "records that no window took are counted, and go to the late output; refusals are counted by window": (
        "semantics/test_windows.py::test_a_refusal_is_counted_for_each_window_and_a_late_record_once",
        "semantics/test_windows.py::test_late_records_leave_by_the_tag_that_is_named",
    ),
    "update: a row whenever the aggregate changed": (
        "semantics/test_windows.py::test_update_gives_a_row_for_each_change_and_none_at_the_close",
        "windows/test_sessions.py::test_sessions_that_update",
    ),
    "close: windows in order of end, then start, then key": (
        "semantics/test_windows.py::test_windows_close_in_order_of_end_then_start_then_key",
        "state/test_closing_windows.py::test_windows_of_one_end_close_in_the_order_of_their_keys",
        "case: windows close in order of end, then start, then key",
    ),
    "on_time: when W passes the last moment, then at once for each record within grace, accumulated": (
        "windows/test_rules.py::test_a_window_shown_on_time_takes_late_records_within_grace",
        "case: on time, then again for each record within grace, then nothing",
    ),
    "throttle(d): changed windows at most once per d of wall clock": (
        "windows/test_rules.py::test_throttled_windows_leave_once_per_period_and_at_the_close",
        "windows/test_emissions.py::test_throttle",
    ),
    "at END every open window closes; a stop closes none": (
        "semantics/test_windows.py::test_end_closes_every_window_and_a_crash_none",
        "semantics/test_running.py::test_stop_leaves_windows_open_and_a_later_run_goes_on",
    ),
    "rows made because W arrived leave before W does": ("semantics/test_time.py::test_rows_that_a_watermark_makes_leave_before_it",),
    "an operator that may still emit rows behind W passes on W less its grace": (
        "semantics/test_windows.py::test_a_row_behind_grace_is_not_late_at_the_next_stage",
    ),
    "lateness is judged against W before the record, after a restore against the greater of the task's and the shard's": (
        "semantics/test_sentences.py::test_lateness_is_judged_against_the_watermark_before_the_record",
        "semantics/test_time.py::test_lateness_is_remembered_across_a_crash",
    ),
    "arithmetic on timestamps saturates": (
        "windows/test_ends_of_time.py::test_windows_at_the_ends_of_time",
        "semantics/test_sentences.py::test_nothing_wraps_near_the_ends_of_time",
    ),
    # Frames
    "rolling(d): t - d < time <= t": ("semantics/test_frames.py::test_rolling_is_half_open_at_its_old_end",),
    "rolling(d): what arrived before, and the record itself": (
        "semantics/test_frames.py::test_rolling_does_not_see_records_of_a_later_time",
        "aggregates/test_frames.py::test_rolling_sees_what_arrived_before_and_is_not_younger",
    ),
    "expanding(): all that arrived before it, and itself": (
        "semantics/test_named_rules.py::test_expanding_holds_all_that_arrived_and_the_record",
    ),
    "exclude_current=True leaves the record out": ("semantics/test_frames.py::test_the_current_record_can_be_left_out",),
    "lag(n): the value n arrivals ago, null at first": ("semantics/test_frames.py::test_lag_is_the_value_n_arrivals_ago",),
    "a record at or below W is late for rolling": (
        "semantics/test_frames.py::test_a_record_at_or_below_the_watermark_is_late_for_rolling_only",
    ),
    "what rolling keeps is purged as W passes time + d": (
        "semantics/test_sentences.py::test_what_a_frame_keeps_goes_as_the_watermark_passes",
    ),
    "expanding and lag know no lateness": ("semantics/test_sentences.py::test_expanding_and_lag_know_no_lateness",),
    # Keyed state and timers
    "null keys are dropped by keyed operators, counted, and logged once": (
        "semantics/test_keys.py::test_a_null_component_drops_the_record_and_is_counted_and_logged_once",
        "semantics/test_named_rules.py::test_no_keyed_operator_fails_for_a_null_key",
    ),
    "a timer is one of its key, time and name; it can be cancelled": (
        "semantics/test_sentences.py::test_a_timer_is_one_of_its_key_time_and_name",
    ),
    "a timer that is set twice is one call": ("processor/test_timers.py::test_setting_twice_is_one_call",),
    "timers fire in order of time, those of equal time in order of key bytes": (
        "semantics/test_processors.py::test_timers_fire_by_time_then_key_bytes_and_once",
        "aggregates/test_timers.py::test_timers_fire_in_order_of_time_key_and_name",
    ),
    "a timer set during an advance, for a time within it, fires in the same advance": (
        "semantics/test_processors.py::test_a_timer_set_during_an_advance_for_a_time_within_it_fires_in_it",
    ),
    "a timer set at or below W fires at the next watermark": (
        "semantics/test_processors.py::test_a_cancelled_timer_does_not_fire_and_one_in_the_past_waits_for_the_next_watermark",
        "semantics/test_watermarks.py::test_a_timer_that_waits_for_the_next_watermark_does_so_across_a_crash",
    ),
    "after a restore each pending timer fires exactly once": ("processor/test_timers.py::test_restored_timers_fire_once",),
    "overdue timers of the wall clock fire at once after a restore": (
        "semantics/test_processors.py::test_overdue_timers_of_the_wall_clock_fire_at_once_after_a_restore",
    ),
    "a periodic timer that was missed fires once and keeps its grid": (
        "semantics/test_processors.py::test_a_periodic_timer_that_was_missed_fires_once_and_keeps_its_grid",
    ),
    "a value is gone iff now >= t + ttl, exact on read": ("semantics/test_processors.py::test_a_value_is_gone_exactly_at_its_time",),
    "now is the record's time, in on_timer that of the timer": (
        "semantics/test_sentences.py::test_in_a_timer_a_value_is_as_old_as_the_timers_time_says",
    ),
    "a removal looks at the live value again": ("semantics/test_sentences.py::test_a_removal_looks_at_the_live_value_again",),
    "setting without ttl makes permanent": ("semantics/test_processors.py::test_without_ttl_a_value_is_permanent",),
    "ttl by event time never looks at the wall clock": (
        "semantics/test_processors.py::test_the_watermark_and_the_wall_clock_do_not_expire_what_a_record_can_see",
    ),
    "the clock is chosen with the ttl; event time is the default": (
        "semantics/test_processors.py::test_a_ttl_by_the_wall_clock_is_exact_too",
        "semantics/test_processors.py::test_a_value_is_gone_exactly_at_its_time",
    ),
}


@cache
def defined_in(path: str) -> frozenset[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_the_tests_that_are_named(rule: str) -> None:
    assert RULES[rule]
    for named in RULES[rule]:
        if named.startswith("case: "):
            assert named.removeprefix("case: ") in {case.name for case in CASES}
        else:
            path, _, test = named.partition("::")
            assert test in defined_in(path), named


# Windows --------------------------------------------------------------------------------------------------------------

#: By window: the bounds and the last moment of what two records at 3 and 7 open first.
LAST_MOMENTS: list[tuple[Any, int, int, int]] = [
    (tumbling(10), 0, 10, 9),
    (hopping(10, 5), -5, 5, 4),
    (sliding(10), -7, 3, 3),
    (session(10), 3, 17, 17),
]


def counted(window: Any, grace: int = 0) -> Any:
    return driver(lambda rows: rows.key_by("k").window(window, grace=grace).count(), tags=["late"], watermarks="external")


@pytest.mark.parametrize(("window", "start", "end", "last"), LAST_MOMENTS, ids=str)
def test_a_row_has_its_last_moment_as_its_time(window: Any, start: int, end: int, last: int) -> None:
    job = counted(window)
    for t in (3, 7):
        job.send("in", row("a", t))
    job.end()
    time, found = job.read("out", timestamps=True)[0]
    moments = [round(found[name].timestamp() * 1000) for name in ("window_start", "window_end")]
    assert (time, moments) == (last, [start, end])


@pytest.mark.parametrize("grace", [0, 1, 30])
@pytest.mark.parametrize(("window", "start", "end", "last"), LAST_MOMENTS, ids=str)
def test_a_window_takes_records_up_to_its_last_moment_and_grace(window: Any, start: int, end: int, last: int, grace: int) -> None:
    """The one at hand holds records at 3 and 7, or at 3 alone; whatever is sent in between is the same moment again."""
    for ahead in (1, 0):
        job = counted(window, grace)
        for t in (3, 7) if last > 4 else (3,):
            job.send("in", row("a", t))
        job.advance_watermark("in", last + grace - ahead)
        early = [out for time, out in job.read("out", timestamps=True) if time == last]
        job.send("in", row("a", 3))
        job.end()
        rows = [out["count"] for time, out in job.read("out", timestamps=True) if time == last]
        full = 2 if last > 4 else 1
        assert ([out["count"] for out in early], rows) == (([], [full + 1]) if ahead else ([full], []))


# Frames -----------------------------------------------------------------------------------------------------------------


def test_expanding_holds_all_that_arrived_and_the_record() -> None:
    frames = {"all": expanding(), "others": expanding(exclude_current=True)}
    job = driver(lambda rows: rows.key_by("k").with_columns(**{name: col("t").max().over(frame) for name, frame in frames.items()}))
    for k, t in [("a", 50), ("b", 99), ("a", 3), ("a", 60)]:
        job.send("in", row(k, t))
    assert [(out["all"], out["others"]) for out in job.read("out")] == [(50, None), (99, None), (50, 50), (60, 50)]


# Keyed state and timers -----------------------------------------------------------------------------------------------


class Timed(Processor):
    """Keeps a value and sets a timer."""

    output = {"k": str | None, "n": int}

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int, ttl=10)

    def process(self, row: Any, ctx: Any) -> None:
        self.n.set(self.n.get(0) + 1)
        ctx.set_timer(row.t + 1)

    def on_timer(self, timer: Any, ctx: Any) -> dict[str, Any]:
        return {"k": ctx.key, "n": self.n.get(0)}


KEYED: dict[str, Any] = {
    **{str(window): lambda rows, window=window: rows.window(window).count() for window in (tumbling(10), hopping(10, 2), hopping(10, 5))},
    **{str(window): lambda rows, window=window: rows.window(window).count() for window in (sliding(10), session(10), count_window(2))},
    "windowed reduce": lambda rows: rows.window(tumbling(10)).reduce(lambda left, right: right),
    "rolling": lambda rows: rows.with_columns(n=count().over(rolling(10))),
    "lag": lambda rows: rows.with_columns(n=col("t").lag()),
    "aggregate": lambda rows: rows.aggregate(n=count()),
    "by batch": lambda rows: rows.aggregate(n=count(), emit="batch"),
    "reduce": lambda rows: rows.reduce(lambda left, right: right),
    "process": lambda rows: rows.process(Timed),
    "deduplicate": lambda rows: rows.deduplicate(within="10s"),
}


@pytest.mark.parametrize("verb", KEYED)
def test_no_keyed_operator_fails_for_a_null_key(verb: str) -> None:
    job = driver(lambda rows: KEYED[verb](rows.key_by("k")))
    for k, t in [(None, 1), ("a", 2), (None, 3), (None, 1_000), ("a", 1_001)]:
        job.send("in", row(k, t))
    job.end()
    out = job.read("out")
    assert {found["k"] for found in out} == {"a"}
    assert figures(job, "null_keys") == 3
