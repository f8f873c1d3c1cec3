"""The store's writer: order, checkpoints at MARKs, and what happens when the disk says no."""

from __future__ import annotations

import queue
import random
import threading

import pytest
from state_job import StateJob

from streamdsl._native.state.writer import StoreWriter
from streamdsl.checkpoint.storage import MemoryStorage
from streamdsl.errors import StateError


class Flaky:
    """A backend that fails when told to."""

    def __init__(self, inner):
        self.inner, self.fail_apply, self.fail_checkpoint = inner, False, False

    def apply(self, entries):
        if self.fail_apply:
            raise StateError("the disk is full")
        self.inner.apply(entries)

    def checkpoint(self, target):
        if self.fail_checkpoint:
            raise OSError(5, "Input/output error")
        self.inner.checkpoint(target)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.fixture
def job(tmp_path):
    job = StateJob(MemoryStorage(), "memory", tmp_path)
    job.flaky = Flaky(job.tasks[0].writer.backend)
    job.tasks[0].writer.backend = job.flaky
    job.rows = job.tasks[0].rows
    for i in range(10):
        job.rows.set_int(job.rows.slot(b"key %d" % i), 0, i)
    return job


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
    assert not writer.step()  # tries again, in vain; the failure is told once
    assert len(job.failed) == 1
    job.rows.set_int(job.rows.slot(b"key 3"), 0, 33)
    job.checkpoint()
    assert [i for i, _, _ in job.failed] == [1, 2]
    job.flaky.fail_apply = False
    job.checkpoint()
    assert [m.checkpoint_id for m in job.completed] == [3]
    assert writer.error is None
    assert store.stream.bytes_waiting == 0
    [value] = [v for k, v in job.flaky.scan(b"") if k.endswith(b"key 3")]
    assert int.from_bytes(value[6:14], "little") == 33


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
    assert steps == 5  # three rows a write: 3 + 3 + 3 + 1, then the MARK


def test_a_thread_may_write_while_the_task_goes_on(tmp_path):
    storage = MemoryStorage()
    job = StateJob(storage, "memory", tmp_path / "first")
    task = job.tasks[0]
    stop, at_barrier, events = threading.Event(), {}, queue.SimpleQueue()
    job.store_written = lambda *event: events.put(event)
    writer = StoreWriter(task.store, task.writer.backend, storage.target, job, chunk_rows=3)

    def write():
        while not stop.is_set() or task.store.stream.bytes_waiting:
            writer.step()

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
    assert task.store.stream.bytes_waiting == 0
    while not events.empty():
        store, checkpoint_id, files = events.get()
        job.coordinator.store_written(0, store, checkpoint_id, files)
    assert job.failed == []
    restored = StateJob(storage, "memory", tmp_path / "second")
    assert restored.contents() == at_barrier[job.completed[-1].checkpoint_id]
