"""The store's writer: order, checkpoints at MARKs, and what happens when the disk says no."""

from __future__ import annotations

import queue
import random
import threading

import pytest

from streamdsl._native.state.testing import want_applied
from streamdsl._native.state.writer import StoreWriter
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.history import MemoryHistory
from streamdsl.checkpoint.storage import DirectoryStorage, MemoryStorage
from streamdsl.errors import StateError
from tests.state.state_job import StateJob


class Flaky:
    """A backend that fails when told to."""

    def __init__(self, inner):
        self.inner, self.fail_apply, self.fail_checkpoint = inner, False, False
        self.applied = 0

    def apply(self, entries):
        self.applied += len(entries)
        if self.fail_apply:
            raise StateError("the disk is full")
        self.inner.apply(entries)

    def checkpoint(self, target):
        if self.fail_checkpoint:
            raise OSError(5, "Input/output error")
        self.inner.checkpoint(target)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def make(tmp_path, storage=None, **limits):
    job = StateJob(storage or MemoryStorage(), "memory", tmp_path, **limits)
    job.flaky = Flaky(job.tasks[0].writer.backend)
    job.tasks[0].writer.backend = job.flaky
    job.rows = job.tasks[0].rows
    for i in range(10):
        job.rows.set_int(job.rows.slot(b"key %d" % i), 0, i)
    return job


@pytest.fixture
def job(tmp_path):
    """Every MARK makes a base."""
    return make(tmp_path, journal_bytes=0)


@pytest.fixture
def journalling(tmp_path):
    """No base is ever due."""
    return make(tmp_path)


def test_a_mark_makes_a_checkpoint(job):
    assert job.checkpoint() == 1
    [manifest] = job.completed
    [store] = manifest.stores
    assert (store.shards, store.backend, store.description) == (tuple(range(8)), "memory", job.tasks[0].store.describe())
    assert [file.name for file in store.files] == ["rows"]


def test_a_failed_checkpoint_is_reported_and_the_next_one_has_everything(job):
    job.flaky.fail_checkpoint = True
    job.checkpoint()
    assert [(i, fatal) for i, _, fatal in job.failed] == [(1, False)]
    job.flaky.fail_checkpoint = False
    assert job.checkpoint() == 2
    assert [m.checkpoint_id for m in job.completed] == [2]
    assert len(list(job.flaky.scan(b""))) == 10


def test_entries_that_cannot_be_applied_stay_queued(job):
    writer, store = job.tasks[0].writer, job.tasks[0].store
    job.flaky.fail_apply = True
    job.checkpoint()
    assert [i for i, _, _ in job.failed] == [1]
    assert "disk is full" in str(writer.error)
    waiting = store.stream.bytes_waiting
    assert waiting > 0
    assert not writer.step()  # nothing is due: the failure is told once
    assert len(job.failed) == 1
    job.rows.set_int(job.rows.slot(b"key 3"), 0, 33)
    job.checkpoint()
    assert [i for i, _, _ in job.failed] == [1, 2]
    job.flaky.fail_apply = False
    job.checkpoint()
    assert [m.checkpoint_id for m in job.completed] == [3]
    assert writer.error is None
    assert store.stream.bytes_waiting == 20  # the last MARK
    [value] = [v for k, v in job.flaky.scan(b"") if k.endswith(b"key 3")]
    assert int.from_bytes(value[6:14], "little") == 33


def test_a_small_job_has_a_journal_and_no_base(journalling):
    for _ in range(3):
        journalling.checkpoint()
    sizes = []
    for manifest in journalling.completed:
        [file] = manifest.stores[0].files
        assert (file.name, file.grows) == ("journal", True)
        sizes.append(file.size)
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == 20  # a MARK each
    assert journalling.flaky.applied == 0


def test_a_mark_does_not_wait_for_a_database_that_fails(journalling):
    journalling.flaky.fail_apply = journalling.flaky.fail_checkpoint = True
    journalling.checkpoint()
    assert [m.checkpoint_id for m in journalling.completed] == [1]


def test_the_database_follows_when_it_is_too_far_behind(tmp_path):
    job = make(tmp_path, backlog_bytes=2000)
    stream = job.tasks[0].store.stream
    for i in range(100):
        job.rows.set_int(job.rows.slot(b"key 1"), 0, i)
        job.checkpoint()
        assert stream.bytes_waiting <= 2000 + 100
    assert 10 < job.flaky.applied < 40  # ten keys at first, then one of a hundred versions now and then
    assert stream.applied_bytes + stream.bytes_waiting == stream.appended_bytes


def test_the_database_applies_when_it_is_asked_to(journalling):
    stream = journalling.tasks[0].store.stream
    journalling.checkpoint()
    assert stream.applied_bytes == 0
    want_applied(stream)
    while journalling.tasks[0].writer.step():
        pass
    assert stream.applied_bytes == stream.appended_bytes
    assert len(list(journalling.flaky.scan(b""))) == 10


def test_a_base_is_due_behind_a_long_journal(tmp_path):
    job = make(tmp_path, journal_bytes=1000)
    shapes = []
    for i in range(12):
        for key in range(10):
            job.rows.set_int(job.rows.slot(b"key %d" % key), 0, i)
        job.checkpoint()
        shapes.append("+".join(file.name for file in job.completed[-1].stores[0].files))
    assert shapes[:3] == ["journal", "journal", "rows"]
    assert shapes.count("rows") >= 2 and "rows+journal" in shapes
    assert job.failed == []


def test_a_journal_is_not_written_on_where_a_base_takes_its_place(tmp_path, monkeypatch):
    """What follows would go with the journal at the next MARK, unread."""
    monkeypatch.setattr("streamdsl._native.state.writer.APPEND_BYTES", 500)
    job = make(tmp_path, journal_bytes=1000)
    history, written = job.tasks[0].writer.history, []
    append = history.append
    monkeypatch.setattr(history, "append", lambda entries: written.append(len(entries)) or append(entries))
    for i in range(500):
        job.rows.set_int(job.rows.slot(b"key %d" % i), 0, i)
    job.checkpoint()
    assert 1000 < sum(written) < 2000
    assert [file.name for file in job.completed[-1].stores[0].files] == ["rows"]
    job.rows.set_int(job.rows.slot(b"key 7"), 0, 8)
    job.checkpoint()
    assert [file.name for file in job.completed[-1].stores[0].files] == ["rows", "journal"]


def test_a_failed_base_fails_its_checkpoint_and_is_tried_again(tmp_path):
    job = make(tmp_path, journal_bytes=100)
    job.flaky.fail_checkpoint = True
    job.checkpoint()
    assert [i for i, _, _ in job.failed] == [1]
    job.flaky.fail_checkpoint = False
    job.checkpoint()
    assert [file.name for file in job.completed[-1].stores[0].files] == ["rows"]


@pytest.mark.parametrize("call", ["create", "append", "sync_open"])
def test_a_journal_that_fails_once_is_never_gone_on_with(tmp_path, call):
    """What one fsync has lost, the next does not tell of: a new base and a new journal."""

    class Failing(FileSystem):
        left = -1

    def fails(self, *arguments):
        Failing.left -= 1
        if Failing.left == 0:
            raise OSError(5, "Input/output error")
        return getattr(FileSystem, call)(self, *arguments)

    setattr(Failing, call, fails)
    (tmp_path / "checkpoints").mkdir()
    storage = DirectoryStorage(tmp_path / "checkpoints", Failing())
    job = make(tmp_path, storage)
    if call != "create":
        job.checkpoint()
    job.rows.set_int(job.rows.slot(b"key 1"), 0, 77)
    Failing.left = 1
    job.checkpoint()
    assert Failing.left <= 0
    # Rows that cannot be written fail nothing; a MARK that cannot, or an fsync, its checkpoint.
    assert [i for i, _, _ in job.failed] == ([2] if call == "sync_open" else [])
    expected = job.contents()
    job.checkpoint()
    shapes = [[file.name for file in m.stores[0].files] for m in job.completed]
    assert ["rows"] in shapes, "a new base"
    history = sorted(path.name.split("-")[0] for path in (tmp_path / f"{job.tasks[0].store.name}.history").iterdir())
    assert history.count("journal") <= 1 and history.count("base") == 1
    job.close()
    again = make_plain(tmp_path / "again", DirectoryStorage(tmp_path / "checkpoints"))
    assert again.contents() == expected
    again.close()


def make_plain(live, storage):
    live.mkdir()
    return StateJob(storage, "memory", live)


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_files_go_with_the_last_checkpoint_that_needs_them(tmp_path, backend):
    (tmp_path / "checkpoints").mkdir()
    storage = DirectoryStorage(tmp_path / "checkpoints")
    job = StateJob(storage, backend, tmp_path, journal_bytes=2000)
    task, kept = job.tasks[0], set()
    for i in range(60):
        for key in range(5):
            task.rows.set_int(task.rows.slot(b"key %d" % key), 0, i)
        if i % 7 == 3:  # one that is given up
            job.begin()
            job.coordinator.check_timeout(10**9)
            job.finish()
        job.checkpoint()
        inodes = {p.stat().st_ino for p in (tmp_path / "checkpoints").rglob("*") if p.is_file()}
        shared = {p.stat().st_ino for p in (tmp_path / f"{task.store.name}.history").rglob("*") if p.is_file()}
        named = sum(len(m.stores[0].files) + 1 for m in job.completed[-2:])
        assert sum(p.is_file() for p in (tmp_path / "checkpoints").rglob("*")) == named
        assert len(shared - inodes) <= 1  # a journal that no checkpoint has yet
        kept.add(len(inodes | shared))
    assert max(kept) <= 40
    assert len({m.stores[0].files[0].checksum for m in job.completed}) > 2  # bases and journals have changed
    job.close()


def test_a_checkpoint_that_was_given_up_is_passed_over(job):
    job.begin()
    job.now = 5000
    job.coordinator.check_timeout(job.now)
    job.finish()
    assert job.completed == []
    [(_, reason, _)] = job.failed
    assert reason == f"it took longer than 1000 ms; it waited for stores {job.tasks[0].store.name}"
    assert job.checkpoint() == 2
    assert [m.checkpoint_id for m in job.completed] == [2]


def test_work_comes_in_small_pieces(job):
    job.begin()
    assert job.tasks[0].store.drain_some(100)
    steps = 0
    while job.tasks[0].writer.step():
        steps += 1
    assert steps == 4  # the journal; three rows a write, two writes a step: 3 + 3, 3 + 1; the MARK


def test_a_thread_may_write_while_the_task_goes_on(tmp_path):
    storage = MemoryStorage()
    job = StateJob(storage, "memory", tmp_path / "first")
    task = job.tasks[0]
    stop, at_barrier, events = threading.Event(), {}, queue.SimpleQueue()
    job.store_written = lambda *event: events.put(event)
    writer = StoreWriter(
        task.store, task.writer.backend, MemoryHistory(), storage.target, job, chunk_rows=3, backlog_bytes=2000, journal_bytes=20_000
    )

    def write():
        while not stop.is_set():
            writer.step()
        while writer.step():
            pass

    thread = threading.Thread(target=write)
    thread.start()
    rng = random.Random(3)
    for step in range(20_000):
        slot = task.rows.slot(b"key %d" % rng.randrange(50))
        task.rows.set_int(slot, 0, step)
        if rng.random() < 0.1:
            task.rows.remove(slot)
        task.store.drain_some(3)
        while not events.empty():
            store, checkpoint_id, files = events.get()
            job.coordinator.store_written(0, store, checkpoint_id, files)
        if step % 50 == 0:
            checkpoint_id = job.begin()
            if checkpoint_id is not None:
                at_barrier[checkpoint_id] = job.contents()
    while not task.store.drain_some(100):
        pass
    stop.set()
    thread.join()
    assert task.store.stream.bytes_waiting <= 2100
    while not events.empty():
        store, checkpoint_id, files = events.get()
        job.coordinator.store_written(0, store, checkpoint_id, files)
    assert job.failed == []
    restored = StateJob(storage, "memory", tmp_path / "second")
    assert restored.contents() == at_barrier[job.completed[-1].checkpoint_id]
