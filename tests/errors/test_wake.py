"""What the control thread is woken by bears a signal handler that raises at any moment: a stopped run once hung in it."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time

import pytest

from streamdsl.runtime.listener import Wake


class Interrupted(Exception):
    pass


def raises(number, frame):
    raise Interrupted


@pytest.fixture
def interrupt_soon():
    before = signal.signal(signal.SIGALRM, raises)
    chance = random.Random(1)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 2e-4))
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def locks_out(event, interrupt_soon, seconds):
    """Whether somebody who sets it and waits for it in another thread is locked out by interruptions in this one."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(Interrupted):
            interrupt_soon()
            while True:
                event.set()
        other = threading.Thread(target=lambda: (event.set(), event.wait(0)), daemon=True)
        other.start()
        other.join(2)
        if other.is_alive():
            return True
    return False


def test_a_signal_within_set_locks_nobody_out(interrupt_soon):
    assert not locks_out(Wake(), interrupt_soon, 1)


def test_an_event_of_threading_would(interrupt_soon):
    """What the test above can see."""
    assert locks_out(threading.Event(), interrupt_soon, 60)


def test_a_word_said_before_is_kept_and_many_are_one():
    wake = Wake()
    for _ in range(3):
        wake.set()
    began = time.monotonic()
    wake.wait(10)
    assert time.monotonic() - began < 5
    began = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - began > 0.04
