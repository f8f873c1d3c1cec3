"""Timers per key, time and name."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdsl._native.event_time.timer_entry import timer_entry, timer_of
from streamdsl._native.event_time.timers import EVENT, PROCESSING, TimerService
from streamdsl._native.state.memory import MemoryBackend
from streamdsl._native.state.store import StateStore
from streamdsl._native.state.stream_reader import StreamReader

LOW, HIGH = -(2**63), 2**63 - 1


def service(store=None):
    return TimerService((store or StateStore("task", 8)).add_table("timers", "op"))


def due(timers, now, clock=EVENT):
    return list(iter(lambda: timers.pop_due(clock, now), None))


def test_timers_fire_in_order_of_time_key_and_name():
    timers = service()
    for key, time, name in ((b"b", 5, ""), (b"a", 5, "z"), (b"a", 5, "a"), (b"c", -7, ""), (b"a", 6, ""), (b"ab", 5, "")):
        timers.set(key, 0, time, name)
    assert due(timers, 5) == [(b"c", -7, ""), (b"a", 5, "a"), (b"a", 5, "z"), (b"ab", 5, ""), (b"b", 5, "")]
    assert due(timers, 5) == []
    assert due(timers, HIGH) == [(b"a", 6, "")]
    assert timers.fired == 6


def test_a_timer_that_is_set_twice_fires_once():
    timers = service()
    timers.set(b"k", 0, 5)
    timers.set(b"k", 0, 5)
    assert len(due(timers, 5)) == 1
    timers.set(b"k", 0, 5)
    assert len(due(timers, 5)) == 1


def test_a_cancelled_timer_does_not_fire():
    timers = service()
    timers.set(b"k", 0, 5, "x")
    assert timers.cancel(b"k", 0, 5, "x")
    assert not timers.cancel(b"k", 0, 5, "x")
    assert not timers.cancel(b"k", 0, 5, "y")
    assert due(timers, 9) == []
    timers.set(b"k", 0, 5, "x")
    timers.cancel(b"k", 0, 5, "x")
    timers.set(b"k", 0, 5, "x")
    assert due(timers, 9) == [(b"k", 5, "x")]


def test_a_timer_set_during_an_advance_takes_its_place_in_it():
    timers = service()
    timers.set(b"k", 0, 1)
    timers.set(b"k", 0, 3)
    fired = [timers.pop_due(EVENT, 10)]
    timers.set(b"k", 0, 2)
    timers.set(b"k", 0, 11)
    assert fired + due(timers, 10) == [(b"k", 1, ""), (b"k", 2, ""), (b"k", 3, "")]


def test_the_clocks_are_apart():
    timers = service()
    timers.set(b"k", 0, 5, "", PROCESSING)
    timers.set(b"k", 0, 5, "", EVENT)
    assert due(timers, 5, EVENT) == [(b"k", 5, "")]
    assert due(timers, 5, PROCESSING) == [(b"k", 5, "")]


def test_timers_come_back_from_their_table():
    table = StateStore("task", 8).add_table("timers", "op")
    first = TimerService(table)
    for time, name in ((LOW, "é"), (HIGH, ""), (0, "n" * 300)):
        first.set(b"\x00\xff", 3, time, name)
        first.set(b"", 3, time, name, PROCESSING)
    first.cancel(b"", 3, 0, "n" * 300, PROCESSING)
    second = TimerService(table)
    second.restored()
    assert due(second, HIGH) == [(b"\x00\xff", LOW, "é"), (b"\x00\xff", 0, "n" * 300), (b"\x00\xff", HIGH, "")]
    assert due(second, HIGH, PROCESSING) == [(b"", LOW, "é"), (b"", HIGH, "")]


def test_timers_that_are_put_off_again_and_again_do_not_pile_up():
    timers = service()
    for time in range(10_000):
        timers.set(b"k", 0, time)
        timers.cancel(b"k", 0, time - 1)
    assert timers.pending() == [(EVENT, 9_999, b"k", "")]
    assert due(timers, 10_000) == [(b"k", 9_999, "")]


KEYS, TIMES, NAMES = st.sampled_from([b"", b"a", b"ab"]), st.integers(-3, 9), st.sampled_from(["", "x"])


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "advance", "restore"]), KEYS, TIMES, NAMES), max_size=60))
def test_timers_answer_as_a_set_does(steps):
    timers, expected = service(), set()
    for step, key, time, name in steps:
        if step == "set":
            timers.set(key, 0, time, name)
            expected.add((time, key, name))
        elif step == "cancel":
            assert timers.cancel(key, 0, time, name) == ((time, key, name) in expected)
            expected.discard((time, key, name))
        elif step == "restore":
            timers.restored()
        else:
            now = sorted(timer for timer in expected if timer[0] <= time)
            assert due(timers, time) == [(found, at, called) for at, found, called in now]
            expected -= set(now)
    assert timers.pending() == [(EVENT, *timer) for timer in sorted(expected)]


ALIKE = st.lists(st.sampled_from([b"\x00", b"\x01", b"\xff", b"a"]), max_size=4).map(b"".join)
ANY_TIMES = st.integers(LOW, HIGH) | st.integers(-2, 2)
ANY_NAMES = st.text(max_size=3) | st.sampled_from(["", "\x00every=5", "\ud800", "\U0001f600", "\uffff"])
ENTRIES = st.tuples(st.sampled_from([EVENT, PROCESSING]), ANY_TIMES, ALIKE | st.binary(max_size=20), ANY_NAMES)


@given(ENTRIES, ENTRIES)
def test_the_bytes_of_timers_are_in_the_order_in_which_they_fire(left, right):
    assert (timer_entry(*left) < timer_entry(*right)) == (left < right)
    assert (timer_entry(*left) == timer_entry(*right)) == (left == right)
    assert timer_of(timer_entry(*left)) == left[1:]


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        timer_entry(EVENT, 5, b"k", "")[:-2],
        timer_entry(EVENT, 5, b"k", "")[:-1],
        b"\x02" + bytes(8) + b"\x00\x01",
        bytes(9) + b"k\x00\x02\x00\x01",
    ],
)
def test_what_is_no_timer_is_told_of(entry):
    with pytest.raises(ValueError):
        timer_of(entry)


class Cold:
    """Timers of a store with little room."""

    def __init__(self, limit):
        self.store = StateStore("task", 8)
        self.timers = service(self.store)
        self.backend = MemoryBackend()
        self.store.attach(self.backend, limit)
        self.reader = StreamReader(self.store.stream)

    def make_room(self):
        for _ in range(20):
            self.store.make_some_room()
            while self.reader.peek_journal(1 << 20) is not None:
                self.reader.confirm_journal()
            while entries := self.reader.peek_database(100):
                self.backend.apply(entries)
                self.reader.confirm_database()


@pytest.mark.parametrize("seed", range(40))
def test_timers_answer_as_a_set_does_wherever_they_are(seed):
    draw = random.Random(seed)
    cold, expected, most = Cold(400), set(), 0
    timers = cold.timers
    for _ in range(400):
        step = draw.choices(("set", "cancel", "pop", "advance", "cold"), (40, 6, 15, 1, 12))[0]
        key = b"".join(draw.choices((b"\x00", b"\x01", b"\xff", b"a"), k=draw.randrange(4)))
        shard = len(key)  # the bytes of a row's key do not tell it
        time = draw.choice((draw.randrange(-3, 9), draw.randrange(-(10**6), 10**6), LOW, HIGH, draw.randrange(LOW, HIGH)))
        name = draw.choice(("", "x"))
        if step == "set":
            timers.set(key, shard, time, name)
            expected.add((time, key, name))
        elif step == "cancel":
            time, key, name = draw.choice([*sorted(expected), (time, key, name)])
            assert timers.cancel(key, len(key), time, name) == ((time, key, name) in expected)
            expected.discard((time, key, name))
        elif step == "cold":
            cold.make_room()
            most = max(most, cold.store.figures()["cold_keys"])
        else:
            time = min(time, 10**6) if step == "advance" and draw.random() < 0.9 else time
            due = sorted(timer for timer in expected if timer[0] <= time)
            for found in due[:1] if step == "pop" else due:
                assert timers.pop_due(EVENT, time) == (found[1], found[0], found[2])
                expected.remove(found)
            assert step == "pop" or timers.pop_due(EVENT, time) is None
        assert cold.store.figures()["keys"] == len(expected)
    assert most > 10
    assert timers.pending() == [(EVENT, *timer) for timer in sorted(expected)]


def test_what_has_no_room_is_in_the_database_alone():
    cold = Cold(1 << 16)
    for i in range(2_000):
        cold.timers.set(b"%d" % (i * 7_919 % 2_000), i % 8, i % 50 * 10**9)
        if i % 100 == 0:
            cold.make_room()
    assert cold.store.figures()["cold_keys"] > 1_000
    expected = sorted((i % 50 * 10**9, b"%d" % (i * 7_919 % 2_000)) for i in range(2_000))
    for i, (time, key) in enumerate(expected):
        if i % 37 == 0:
            cold.make_room()
        assert cold.timers.pop_due(EVENT, HIGH) == (key, time, "")
    assert cold.timers.pop_due(EVENT, HIGH) is None
