"""The coordinator: a control object, told the time, in microseconds."""

from __future__ import annotations

import pytest

from streamdsl.checkpoint.coordinator import Coordinator, Settings
from streamdsl.checkpoint.manifest import FileEntry, Manifest
from streamdsl.checkpoint.pending import StoreOwner
from streamdsl.checkpoint.storage import MemoryStorage
from streamdsl.errors import InternalError, StateError

FILES = (FileEntry("rows", 3, "0" * 64),)


class Run:
    """A coordinator of two tasks, the second with a store."""

    def __init__(self, storage=None, completed=(), **settings):
        self.storage = storage or MemoryStorage()
        self.events = []
        values = {"interval_ms": 100, "timeout_ms": 1000, "failure_timeout_ms": 60_000, **settings}
        owner = StoreOwner("2.0", "2-0", "memory", [1, 0], {"tables": []})
        self.coordinator = Coordinator(
            "job", shards=2, tasks=["1.0", "2.0"], stores=[owner], storage=self.storage, settings=Settings(**values),
            listener=self, completed=completed,
        )  # fmt: skip

    def on_complete(self, manifest):
        self.events.append(("complete", manifest.checkpoint_id))

    def on_failed(self, checkpoint_id, reason, fatal):
        self.events.append(("fatal" if fatal else "failed", checkpoint_id, reason))

    def pass_barrier(self, now, checkpoint_id, tasks=("1.0", "2.0")):
        for task in tasks:
            self.coordinator.acknowledge(now, task, checkpoint_id, {"operators": {"op": {"by": task}}})

    def checkpoint(self, now):
        checkpoint_id = self.coordinator.trigger(now)
        self.pass_barrier(now, checkpoint_id)
        self.coordinator.store_written(now, "2-0", checkpoint_id, FILES)
        return checkpoint_id


def test_it_completes_when_all_have_answered():
    run = Run()
    assert run.coordinator.trigger(0) == 1
    run.coordinator.acknowledge(
        5, "1.0", 1, {"sources": {"s": {"p0": 7}}, "operators": {"op": {"n": 1}}, "shard_watermarks": {"lookup": {"0": 4}}, "arrivals": 3}
    )
    run.coordinator.store_written(6, "2-0", 1, FILES)
    assert run.events == []
    run.coordinator.acknowledge(7, "2.0", 1, {"operators": {"op": {"n": 2}}, "shard_watermarks": {"lookup": {"1": 9}}, "arrivals": 2})
    assert run.events == [("complete", 1)]
    manifest = Manifest.decode(run.storage.read_manifest(1), "m")
    assert manifest.sources == {"s": {"p0": 7}}
    assert manifest.operators == {"op": {"1.0": {"n": 1}, "2.0": {"n": 2}}}
    assert manifest.shard_watermarks == {"lookup": {"0": 4, "1": 9}}
    assert manifest.arrivals == 3
    assert [(store.name, store.shards, store.files) for store in manifest.stores] == [("2-0", (0, 1), FILES)]
    assert (manifest.job, manifest.shards, manifest.finished) == ("job", 2, False)


def test_one_at_a_time():
    run = Run()
    assert run.coordinator.trigger(0) == 1
    assert run.coordinator.trigger(1) is None
    run.pass_barrier(2, 1)
    assert run.coordinator.trigger(3) is None  # its store is not written yet
    run.coordinator.store_written(4, "2-0", 1, FILES)
    assert run.coordinator.trigger(5) == 2


def test_interval_and_pause():
    run = Run(interval_ms=100, min_pause_ms=50)
    assert not run.coordinator.due(1000)
    assert not run.coordinator.due(1099)
    assert run.coordinator.due(1100)
    run.coordinator.trigger(1100)
    assert not run.coordinator.due(1250)  # under way
    run.pass_barrier(1260, 1)
    run.coordinator.store_written(1260, "2-0", 1, FILES)
    assert not run.coordinator.due(1309)
    assert run.coordinator.due(1310)


def test_a_timeout_names_who_is_missing():
    run = Run()
    run.coordinator.trigger(0)
    run.pass_barrier(1, 1, ["1.0"])
    run.coordinator.check_timeout(999)
    assert run.events == []
    run.coordinator.check_timeout(1000)
    assert run.events == [("failed", 1, "it took longer than 1000 ms; it waited for tasks 2.0; stores 2-0")]
    assert run.storage.read_manifest(1) is None


def test_the_next_barrier_waits_until_all_have_passed_the_last():
    run = Run()
    run.coordinator.trigger(0)
    run.pass_barrier(1, 1, ["1.0"])
    run.coordinator.check_timeout(1000)
    assert run.coordinator.trigger(1001) is None
    assert not run.coordinator.due(5000)
    run.pass_barrier(5001, 1, ["2.0"])  # late: it counts as passed, nothing more
    assert run.coordinator.trigger(5002) == 2
    assert [event[0] for event in run.events] == ["failed"]


def test_late_answers_change_nothing():
    run = Run()
    run.coordinator.trigger(0)
    run.coordinator.check_timeout(1000)
    run.pass_barrier(1001, 1)
    run.coordinator.store_written(1002, "2-0", 1, FILES)
    run.coordinator.fail(1003, 1, "late as well", task="2.0")
    assert [event[0] for event in run.events] == ["failed"]
    assert run.storage.read_manifest(1) is None
    assert run.checkpoint(1100) == 2
    assert run.events[-1] == ("complete", 2)
    run.pass_barrier(1200, 1)  # of a checkpoint long gone
    run.pass_barrier(1200, 2)
    assert run.events[-1] == ("complete", 2)


def test_a_late_answer_of_a_store_does_not_count_for_the_next():
    run = Run()
    run.coordinator.trigger(0)
    run.coordinator.check_timeout(1000)
    run.pass_barrier(1001, 1)
    assert run.coordinator.trigger(1100) == 2
    run.pass_barrier(1101, 2)
    run.coordinator.store_written(1102, "2-0", 1, FILES)
    assert run.coordinator.pending == 2
    assert [event[0] for event in run.events] == ["failed"]


def test_a_task_that_fails_has_passed_the_barrier():
    run = Run()
    run.coordinator.trigger(0)
    run.coordinator.fail(1, 1, "snapshot of 2.0: no", task="2.0")
    assert run.events == [("failed", 1, "snapshot of 2.0: no")]
    assert run.coordinator.trigger(2) is None
    run.pass_barrier(3, 1, ["1.0"])
    assert run.coordinator.trigger(4) == 2


def failures(run, times):
    """Have a checkpoint fail at each of these times, and return what was said of them."""
    for now in times:
        checkpoint_id = run.coordinator.trigger(now)
        run.pass_barrier(now, checkpoint_id)
        run.coordinator.fail(now, checkpoint_id, "disk full")
    return [event[0] for event in run.events]


def test_failures_are_fatal_when_they_last():
    """However many there are in a short time: a disk that is full for a moment ends no run that takes checkpoints often."""
    assert failures(Run(failure_timeout_ms=1000), range(0, 1000, 10)) == ["failed"] * 100
    assert failures(Run(failure_timeout_ms=1000), [0, 500, 999, 1000]) == ["failed"] * 3 + ["fatal"]


def test_rare_failures_are_fatal_once_there_are_several():
    assert failures(Run(failure_timeout_ms=1000), [0, 60_000, 120_000]) == ["failed", "failed", "fatal"]


def test_no_failure_is_tolerated():
    assert failures(Run(failure_timeout_ms=0), [5]) == ["fatal"]


def test_a_success_forgives():
    run = Run(failure_timeout_ms=2)
    for now in range(6):
        checkpoint_id = run.coordinator.trigger(now)
        run.pass_barrier(now, checkpoint_id)
        if now % 3 == 2:
            run.coordinator.store_written(now, "2-0", checkpoint_id, FILES)
        else:
            run.coordinator.fail(now, checkpoint_id, "no")
    assert [event[0] for event in run.events] == ["failed", "failed", "complete"] * 2


def test_retention():
    run = Run(retained=2)
    for now in range(5):
        run.checkpoint(now)
    assert run.coordinator.completed == (4, 5)
    assert run.storage.ids() == [4, 5]


def test_what_failed_checkpoints_left_goes_with_the_next_complete_one():
    run = Run()
    run.checkpoint(0)
    run.coordinator.trigger(1)
    run.pass_barrier(1, 2)
    run.coordinator.fail(2, 2, "no")
    assert run.storage.ids() == [1, 2]  # the id stays used
    run.checkpoint(3)
    assert run.storage.ids() == [1, 3]


def test_ids_are_never_used_twice():
    storage = MemoryStorage()
    run = Run(storage)
    run.checkpoint(0)
    run.coordinator.trigger(1)
    run.coordinator.abort()
    assert Run(storage, completed=[1]).coordinator.trigger(2) == 3
    assert Run(storage, completed=[1]).coordinator.trigger(2) == 4


def test_completed_ones_of_an_earlier_run_are_retained_and_removed():
    storage = MemoryStorage()
    first = Run(storage)
    for now in range(3):
        first.checkpoint(now)
    second = Run(storage, completed=first.coordinator.completed)
    second.checkpoint(10)
    assert storage.ids() == [3, 4]


class Broken(MemoryStorage):
    broken = ""

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "broken"):
            raise OSError(28, "No space left on device")
        return super().__getattribute__(name)


def test_a_manifest_that_cannot_be_written_is_a_failed_checkpoint():
    storage = Broken()
    run = Run(storage)
    run.coordinator.trigger(0)
    run.pass_barrier(0, 1)
    storage.broken = "publish"
    run.coordinator.store_written(1, "2-0", 1, FILES)
    assert run.events[0][:2] == ("failed", 1)
    assert "No space left" in run.events[0][2]
    storage.broken = ""
    assert run.checkpoint(2) == 2
    assert run.events[-1] == ("complete", 2)


def test_a_directory_that_cannot_be_made_is_a_failed_checkpoint():
    storage = Broken()
    run = Run(storage)
    storage.broken = "begin"
    assert run.coordinator.trigger(0) is None
    assert run.events[0][:2] == ("failed", 1)
    storage.broken = ""
    assert run.checkpoint(1) == 2


def test_retention_that_fails_starves_nobody():
    storage = Broken()
    run = Run(storage, retained=1)
    run.checkpoint(0)
    storage.broken = "remove"
    run.checkpoint(1)
    assert run.events[-1] == ("complete", 2)
    storage.broken = ""
    run.checkpoint(2)
    assert storage.ids() == [3]


def test_a_snapshot_that_is_not_json_fails_the_checkpoint():
    run = Run()
    run.coordinator.trigger(0)
    run.coordinator.acknowledge(0, "1.0", 1, {"operators": {"op": object()}})
    run.coordinator.acknowledge(0, "2.0", 1, {})
    run.coordinator.store_written(0, "2-0", 1, FILES)
    assert run.events[0][:2] == ("failed", 1)
    assert "not JSON" in run.events[0][2]


def test_the_last_checkpoint_says_that_all_input_has_ended():
    run = Run()
    run.coordinator.trigger(0, finished=True)
    run.pass_barrier(0, 1)
    run.coordinator.store_written(0, "2-0", 1, FILES)
    assert Manifest.decode(run.storage.read_manifest(1), "m").finished


def test_strangers_are_an_internal_error():
    run = Run()
    run.coordinator.trigger(0)
    with pytest.raises(InternalError, match=r"'9.9'"):
        run.coordinator.acknowledge(0, "9.9", 1, {})
    with pytest.raises(InternalError, match="'9-9'"):
        run.coordinator.store_written(0, "9-9", 1, FILES)


def test_without_tasks_with_state_only_acknowledgements_count():
    storage = MemoryStorage()
    events = []

    class Listener:
        def on_complete(self, manifest):
            events.append(manifest.checkpoint_id)

        def on_failed(self, checkpoint_id, reason, fatal):
            raise StateError(reason)

    coordinator = Coordinator(
        "job", shards=1, tasks=["0.0"], stores=[], storage=storage, settings=Settings(interval_ms=1, timeout_ms=10), listener=Listener()
    )
    coordinator.trigger(0)
    coordinator.acknowledge(0, "0.0", 1, {})
    assert events == [1]
