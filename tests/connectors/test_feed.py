"""Splits that one feed brings rows for: it is asked once for all of them, and those that have nothing are left alone."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, data, integers, lists, tuples

from streamdsl import Config, ConnectorError, Topology, memory, tumbling
from streamdsl.connectors.base import END, Chunk, Source, SplitFeed, SplitReader, Together
from streamdsl.schema import Schema

SPLITS = 1000


class Mail(Source, SplitFeed):
    """What is put into it comes to its splits. `full`: it cannot say to which."""

    name = "mail"
    schema = Schema.of({"at": "int64"})
    bounded = False
    idle_timeout = "50ms"

    def __init__(self, splits: int = SPLITS, *, full: bool = False) -> None:
        self.count, self.full, self.over = splits, full, False
        self.waiting: dict[str, list[int]] = {}
        self.reads = self.polls = 0
        self.lock = threading.Lock()

    def put(self, split: int, at: int) -> None:
        with self.lock:
            self.waiting.setdefault(f"mail/{split}", []).append(at)

    def splits(self) -> Sequence[str]:
        return [f"mail/{number}" for number in range(self.count)]

    def open_split(self, split, position, columns):
        return _Reader(self, split)

    def poll(self) -> Collection[str] | None:
        self.polls += 1
        with self.lock:
            return None if self.full else list(self.waiting)


class _Reader(SplitReader):
    def __init__(self, mail: Mail, split: str) -> None:
        self.mail, self.split = mail, split

    def read(self, max_rows):
        self.mail.reads += 1
        with self.mail.lock:
            came = self.mail.waiting.pop(self.split, None)
        if came is None:
            return END if self.mail.over else None
        return Chunk(pa.record_batch({"at": pa.array(came, pa.int64())}), None)

    def position(self, chunk, rows):
        return None

    def feed(self):
        return self.mail


def running(source: Source):
    topology, out = Topology("mail"), memory("out")
    rows = topology.stream(source, timestamp="at")
    rows.key_by().window(tumbling("1s")).count().to(out)
    return topology.start(Config()), out


def test_splits_that_have_nothing_are_not_asked():
    mail = Mail()
    run, _ = running(mail)
    time.sleep(1.0)
    reads, polls = mail.reads, mail.polls
    time.sleep(2.0)
    run.stop()
    run.wait(30)
    assert mail.polls > polls
    # Once a second each, to see whether they are still idle; asked with every poll it would be hundreds of times as many.
    assert mail.reads - reads <= 4 * SPLITS


def test_between_two_questions_to_a_feed_the_worker_sleeps():
    mail = Mail(3)
    run, _ = running(mail)
    until = time.monotonic() + 1.0
    at = 0
    while time.monotonic() < until:
        mail.put(at % 3, at)
        at += 1
        time.sleep(0.001)
    polls = mail.polls
    steps = sum(task["starved"] for task in run.metrics()["tasks"] if "splits" in task)
    run.stop()
    run.wait(30)
    # Nothing can come of a step before the feed is asked again; without a look at that time there were eight for each question.
    assert steps < 3 * polls + 20


class Noted(Mail):
    """Counts how often its splits are told what was committed."""

    def __init__(self) -> None:
        super().__init__(100)
        self.told: list[str] = []

    def open_split(self, split, position, columns):
        return _Noting(self, split)


class _Noting(_Reader):
    at = 0

    def position(self, chunk, rows):
        self.at += chunk.rows.num_rows
        return self.at

    def start(self):
        return self.at

    def committed(self, position):
        self.mail.told.append(f"{self.split} {position}")


def test_only_splits_that_have_moved_are_told_of_a_checkpoint(tmp_path):
    mail, topology, out = Noted(), Topology("noted"), memory("out")
    topology.stream(mail, timestamp="at").to(out)
    run = topology.start(Config(state_dir=tmp_path / "state", checkpoint_interval="20ms"))
    until = time.monotonic() + 30
    for place, at in ((3, 1), (3, 2), (5, 3)):
        mail.put(place, at)
        while out.rows()[-1:] != [{"at": at}] and time.monotonic() < until:
            time.sleep(0.01)
    while "mail/5 1" not in mail.told:
        assert time.monotonic() < until
        time.sleep(0.01)
    run.stop()
    run.wait(30)
    assert len(mail.told) == len(set(mail.told))
    assert {"mail/3 2", "mail/5 1"} <= set(mail.told)


class Sure(Mail):
    """Says of which splits it does not know whether they have been read to their end."""

    doubts: Collection[str] = ()

    def unsure(self) -> Collection[str]:
        return self.doubts


def test_idle_splits_are_looked_at_where_their_feed_is_unsure():
    mail = Sure()
    run, _ = running(mail)
    reads, until = -1, time.monotonic() + 30
    # Asked one by one, each is looked at about once a second: there is no such pause then.
    while mail.reads != reads:
        assert time.monotonic() < until, "idle splits of which the feed is sure are looked at"
        reads = mail.reads
        time.sleep(1.5)
    mail.doubts = ["mail/7"]
    while mail.reads < reads + 2:
        assert time.monotonic() < until, "a split of which the feed is unsure is not looked at"
        time.sleep(0.05)
    run.stop()
    run.wait(30)
    assert mail.reads < reads + 100


@pytest.mark.parametrize("full", [False, True], ids=["said", "not said"])
def test_what_comes_is_read_from_whichever_split(full):
    mail = Mail(30, full=full)
    run, out = running(mail)
    for n in range(300):
        mail.put(n * 7 % 30, 10 * n)
        time.sleep(0.001)
    _until(lambda: not mail.waiting)
    mail.over = True
    assert run.wait(30)
    assert sum(row["count"] for row in out.rows()) == 300


def test_a_split_without_rows_becomes_idle_all_the_same():
    mail = Mail(30)
    run, out = running(mail)
    for n in range(40):
        mail.put(3, 100 * n)
    _until(lambda: len(out.rows()) >= 3)
    run.stop()
    run.wait(30)


def test_a_split_of_another_source_is_asked_until_it_has_ended():
    """`then`: files and memory have no feed, and end; what is behind them is read as they end."""
    mail = Mail(30)
    for n in range(30):
        mail.put(n, 5000 + n)
    history = memory("history", {"at": int}, rows=[{"at": n} for n in range(100)])
    run, out = running(history.then(mail))
    _until(lambda: not mail.waiting)
    reads = mail.reads
    mail.put(1, 5999)
    _until(lambda: not mail.waiting)
    assert mail.reads - reads < 1000
    mail.over = True
    assert run.wait(30)
    assert sum(row["count"] for row in out.rows()) == 131


def test_an_error_of_the_feed_names_the_source():
    class Broken(Mail):
        def poll(self):
            raise OSError("the line is cut")

    run, _ = running(Broken(3))
    with pytest.raises(ConnectorError, match=r"the source 'mail' cannot read.*the line is cut"):
        run.wait(30)


class Post(Mail):
    """Hands over what has come to several splits in one batch."""

    idle_timeout = None

    def __init__(self, splits: int) -> None:
        super().__init__(splits)
        self.together = 0

    def read_together(self, splits, max_rows):
        with self.lock:
            came = {split: self.waiting.pop(split) for split in splits if split in self.waiting}
        rows = pa.record_batch({"at": pa.array([at for times in came.values() for at in times], pa.int64())})
        parts, first = [], 0
        for split, times in came.items():
            parts.append((split, Chunk(rows.slice(first, len(times)), None)))
            first += len(times)
        self.together += 1
        return Together(rows, parts)


@settings(max_examples=30, deadline=None)
@given(data())
def test_what_is_read_together_counts_as_if_each_split_were_read_by_itself(draw):
    """Times ascend in each split: no row is late, however far apart the splits are, and one too far ahead is left out by itself."""
    mail = Post(draw.draw(integers(2, 5)))
    rounds = draw.draw(lists(lists(tuples(integers(0, mail.count - 1), integers(0, 3000), booleans()), max_size=8), max_size=12))
    topology, out = Topology("post"), memory("out")
    rows = topology.stream(mail, timestamp="at", max_ahead="1h", errors="skip")
    rows.key_by().window(tumbling("1s")).count().to(out)
    run = topology.start(Config())
    reached, expected = [0] * mail.count, Counter[int]()
    try:
        for puts in rounds:
            with mail.lock:
                for split, step, good in puts:
                    reached[split] += step
                    expected[reached[split] // 1000] += good
                    at = reached[split] if good else int(1000 * time.time()) + 7_200_000
                    mail.waiting.setdefault(f"mail/{split}", []).append(at)
            _until(lambda: not mail.waiting)
        mail.over = True
        assert run.wait(30)
    finally:
        run.stop()
    assert {row["window_start"].timestamp(): row["count"] for row in out.rows()} == {key: n for key, n in expected.items() if n}
    (figures,) = (task for task in run.metrics()["tasks"] if "splits" in task)
    assert figures["rejected"] == sum(not good for puts in rounds for *_, good in puts)


def test_splits_that_have_a_few_rows_each_are_read_together():
    mail = Post(30)
    run, out = running(mail)
    for n in range(50):
        with mail.lock:
            mail.waiting.update({split: [10 * n] for split in mail.splits()})
        _until(lambda: not mail.waiting)
    reads = mail.reads
    mail.over = True
    assert run.wait(30)
    assert sum(row["count"] for row in out.rows()) == 50 * 30
    assert mail.together > 10
    assert reads < 30 * 30, "each split is read by itself"


def _until(done) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until, "it has not come to pass"
        time.sleep(0.01)
