"""Disks that fail: at every call of a checkpoint and of a start, with every error; and full ones, for the database's own writes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError, StreamError
from tests.trust import jobs
from tests.trust.filesystems import CALLS, ERRORS, FailingFileSystem

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def expected(tmp_path):
    (tmp_path / "reference").mkdir()
    reference = jobs.Stage(tmp_path / "reference", "memory", source=tmp_path / "in.jsonl")
    job = reference.job()
    job.open()
    jobs.finish(job)
    return reference.output()


def stage_in(tmp_path, backend, name="place", **settings):
    (tmp_path / name).mkdir()
    return jobs.Stage(tmp_path / name, backend, source=tmp_path / "in.jsonl", **settings)


def begun(stage, filesystem):
    """A job with two checkpoints, about to take its third."""
    job = stage.job(filesystem)
    job.open()
    for _ in range(2):
        jobs.step(job, 1)
        assert jobs.checkpoint(job)
    jobs.step(job, 1)
    return job


def leftovers(stage):
    """Everything below `checkpoints` that no complete checkpoint names."""
    root = stage.state / "checkpoints"
    storage = DirectoryStorage(root)
    known = set()
    for checkpoint_id in storage.ids():
        found = find_checkpoint(storage, "trust", checkpoint_id=checkpoint_id)
        known |= {root / str(checkpoint_id) / "manifest.json"}
        known |= {root / str(checkpoint_id) / store.name / file.name for store in found.manifest.stores for file in store.files}
    return {path for path in root.rglob("*") if not path.is_dir()} - known


def tables_of(stage, checkpoint_id):
    """The database files that a complete checkpoint names."""
    manifest = find_checkpoint(DirectoryStorage(stage.state / "checkpoints"), "trust", checkpoint_id=checkpoint_id).manifest
    return {file.name for store in manifest.stores for file in store.files}


def assert_restorable(stage, at_least):
    found = find_checkpoint(DirectoryStorage(stage.state / "checkpoints"), "trust")
    assert found is not None and found.id >= at_least


#: Every checkpoint is an append to the journal, or a new base; or one of them is a new base, the third or the one before it.
SHAPES = {"journal": 1 << 20, "base": 0, "both": 3_700, "begun": 2_500}


KINDS = [("memory", "journal"), ("memory", "both"), ("rocksdb", "journal"), ("rocksdb", "base"), ("rocksdb", "both"), ("rocksdb", "begun")]


def calls_of_a_checkpoint(tmp_path, backend, shape):
    """How many calls there are up to the third checkpoint, and in it."""
    filesystem = FailingFileSystem()
    job = begun(stage_in(tmp_path, backend, "counted", journal_bytes=SHAPES[shape]), filesystem)
    before = len(filesystem.calls)
    jobs.checkpoint(job)
    after = len(filesystem.calls)
    job.abandon()
    return before, after


def test_every_step_of_journal_and_base_is_among_these_calls(tmp_path):
    made = set()
    for shape, journal_bytes in SHAPES.items():
        filesystem = FailingFileSystem()
        job = begun(stage_in(tmp_path, "rocksdb", shape, journal_bytes=journal_bytes), filesystem)
        before = len(filesystem.calls)
        jobs.checkpoint(job)
        made |= {name for name, _ in filesystem.calls[before:]}
        job.abandon()
    assert made == set(CALLS)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("backend", "shape"), KINDS)
def test_every_call_of_a_checkpoint_may_fail(tmp_path, backend, shape, error, expected):
    """The checkpoint fails (or is whole: only its tidying failed), the job goes on, the next ones complete, nothing is left over."""
    before, after = calls_of_a_checkpoint(tmp_path, backend, shape)
    assert after - before >= 10
    for k in range(before, after):
        stage = stage_in(tmp_path, backend, f"once-{k}", journal_bytes=SHAPES[shape])
        filesystem = FailingFileSystem(lambda number, name, k=k: ERRORS[error] if number == k else 0)
        job = begun(stage, filesystem)
        taken = jobs.checkpoint(job)
        assert_restorable(stage, 2 if taken is None else 3)
        jobs.step(job, 1)
        lost = backend == "rocksdb" and filesystem.calls[k][0] == "sync_file" and filesystem.calls[k][1].endswith(".sst")
        if lost:
            # Never taken for a durable one. Either a compaction has read it back, by its checksums, into a new file before the
            # next checkpoint, or that one fails too and only a new start helps: which, is the database's timing.
            again = jobs.checkpoint(job)
            assert again is None or Path(filesystem.calls[k][1]).name not in tables_of(stage, again)
            job.abandon()
            job = stage.job()
            job.open()
        assert jobs.checkpoint(job) and jobs.checkpoint(job), filesystem.calls[k]
        assert leftovers(stage) == set(), filesystem.calls[k]
        jobs.finish(job)
        assert stage.output() == expected, filesystem.calls[k]


@pytest.mark.parametrize(("backend", "shape"), KINDS)
def test_a_disk_may_be_full_for_a_while_from_any_call_on(tmp_path, backend, shape, expected):
    before, after = calls_of_a_checkpoint(tmp_path, backend, shape)
    for k in range(before, after):
        stage = stage_in(tmp_path, backend, f"full-{k}", journal_bytes=SHAPES[shape])
        filesystem = FailingFileSystem()
        job = begun(stage, filesystem)
        writing = ("make_directory", "write_new", "create", "append", "sync_open", "sync_directory", "rename", "link")
        filesystem.fails = lambda number, name, k=k, writing=writing: errno.ENOSPC if number >= k and name in writing else 0
        for _ in range(3):
            jobs.checkpoint(job)
            jobs.step(job, 1)
        filesystem.fails = lambda number, name: 0
        assert_restorable(stage, 2)
        assert jobs.checkpoint(job) and jobs.checkpoint(job)
        assert leftovers(stage) == set()
        jobs.finish(job)
        assert stage.output() == expected


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_a_disk_that_stays_full_stops_the_job_by_policy(tmp_path, backend, expected):
    stage = stage_in(tmp_path, backend, checkpoint_failure_timeout=1)
    filesystem = FailingFileSystem()
    job = begun(stage, filesystem)
    filesystem.fails = lambda number, name: errno.ENOSPC if name in ("make_directory", "write_new") else 0
    assert [jobs.checkpoint(job) for _ in range(5)] == [None] * 5, "a moment is tolerated"
    stage.clock.ms += 1
    with pytest.raises(StateError, match=r"(?s)last of 6 in a row.*No space left"):
        jobs.checkpoint(job)
    job.close()
    job = stage.job()
    job.open()
    jobs.finish(job)
    assert stage.output() == expected


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_every_call_of_a_start_may_fail(tmp_path, backend, error, expected):
    """The start fails with a name and a remedy, lets go of the directory, touches no output; the next start is fine."""
    stage = stage_in(tmp_path, backend)
    begun(stage, None).abandon()
    shutil.copytree(stage.directory, tmp_path / "whole")
    filesystem = FailingFileSystem()
    job = stage.job(filesystem)
    job.open()
    job.abandon()
    output = (tmp_path / "whole" / "out.jsonl").read_text()
    failures = 0
    for k in range(len(filesystem.calls)):
        shutil.rmtree(stage.directory)
        shutil.copytree(tmp_path / "whole", stage.directory)
        failing = FailingFileSystem(lambda number, name, k=k: ERRORS[error] if number == k else 0)
        job = stage.job(failing)
        older = 0
        try:
            job.open()
        except StreamError as caught:
            failures += 1
            assert isinstance(caught, StateError) and caught.remedy, filesystem.calls[k]
            assert (stage.directory / "out.jsonl").read_text() == output
        else:
            # What the disk cannot read is damaged: the older checkpoint takes its place, for good.
            older = error == "I/O error" and filesystem.calls[k][0] == "read"
            job.abandon()
        assert_restorable(stage, 2 - older)
        job = stage.job()
        job.open()
        jobs.finish(job)
        assert stage.output() == expected, filesystem.calls[k]
    assert failures >= 5


def test_a_checkpoint_that_was_passed_over_never_comes_back(tmp_path, expected):
    """A disk that reads again: the newer checkpoint's output has been cut off and written anew, it must not be restored."""
    stage = stage_in(tmp_path, "memory")
    begun(stage, None).abandon()
    failing = FailingFileSystem()
    failing.fails = lambda number, name: errno.EIO if name == "read" and "checkpoints/2/" in failing.calls[-1][1] else 0
    job = stage.job(failing)
    job.open()
    assert job.environment.completed == [1]
    job.abandon()
    job = stage.job()
    job.open()
    assert job.environment.completed == [1]
    jobs.finish(job)
    assert stage.output() == expected


@pytest.mark.parametrize("cause", [errno.EMFILE, errno.EACCES, errno.EINTR])
def test_a_passing_failure_is_no_reason_to_fall_back(tmp_path, cause, expected):
    stage = stage_in(tmp_path, "memory")
    begun(stage, None).abandon()
    failing = FailingFileSystem()
    failing.fails = lambda number, name: cause if name == "read" and "checkpoints/2/" in failing.calls[-1][1] else 0
    with pytest.raises(StateError, match=r"checkpoints/2/.* cannot be read") as caught:
        stage.job(failing).open()
    assert caught.value.remedy
    job = stage.job()
    job.open()
    assert job.environment.completed == [1, 2]
    jobs.finish(job)
    assert stage.output() == expected


def test_a_short_write_goes_on_where_it_stopped(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, bytes(data)[:7]))
    stage = stage_in(tmp_path, "memory")
    job = stage.job()
    job.open()
    jobs.step(job, 1)
    assert jobs.checkpoint(job) == 1
    job.abandon()
    assert_restorable(stage, 1)


def test_a_failed_fsync_is_not_repeated_as_if_it_had_worked(tmp_path):
    """The next fsync of a file whose pages were dropped succeeds: only a new start, from what is durable, is right."""
    stage = stage_in(tmp_path, "rocksdb", journal_bytes=0)
    filesystem = FailingFileSystem()
    job = stage.job(filesystem)
    job.open()
    jobs.step(job, 1)
    assert jobs.checkpoint(job) == 1
    jobs.step(job, 1)  # three tables by the third checkpoint: too few for a compaction to take the lost one away
    failed: list[str] = []

    def first_sync_of_a_table(number, name):
        if name == "sync_file" and not failed and filesystem.calls[-1][1].endswith(".sst"):
            failed.append(Path(filesystem.calls[-1][1]).name)
            return errno.EIO
        return 0

    filesystem.fails = first_sync_of_a_table
    assert jobs.checkpoint(job) is None
    assert failed
    reasons: list[str] = []
    job.coordinator._listener = type("Spy", (), {"on_failed": lambda _, i, reason, fatal: reasons.append(reason)})()
    assert jobs.checkpoint(job) is None
    assert f"{failed[0]} could not be made durable before" in reasons[0]
    job.abandon()
    assert_restorable(stage, 1)


def test_clearing_up_may_fail_in_the_writers_thread(tmp_path):
    """A checkpoint is given up while a writer is at it: clearing up is then the writer's, and must not end it."""
    filesystem = FailingFileSystem()
    (tmp_path / "checkpoints").mkdir()
    storage = DirectoryStorage(tmp_path / "checkpoints", filesystem)
    storage.begin(1)
    target = storage.target(1, "1-0")
    target.write_file("rows", [b"x"])
    storage.discard(1)
    filesystem.fails = lambda number, name: errno.EIO if name.startswith("remove") else 0
    target.close()
    filesystem.fails = lambda number, name: 0
    storage.remove(1)
    assert storage.ids() == []


# What RocksDB writes itself.

FULL = """
import errno, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.trust import jobs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
place = Path(sys.argv[2])
stage = jobs.Stage(place, "rocksdb", source=place.parent / "in.jsonl")
job = stage.job()
job.open()
for _ in range(2):
    jobs.step(job, 1)
    assert jobs.checkpoint(job)
jobs.step(job, 1)
job.on_complete = lambda manifest: None
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
for _ in range(3):
    print("limited", jobs.checkpoint(job), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
job.abandon()
"""


@pytest.mark.parametrize("limit", [0, 100, 600, 1500, 2500, 8000])
def test_the_database_may_meet_a_limit(tmp_path, limit, expected):
    """Whatever of its files it can no longer write: no checkpoint is whole that is not, no crash, and a new start goes on."""
    (tmp_path / "place").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(ROOT), str(tmp_path / "place"), str(limit)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    stage = jobs.Stage(tmp_path / "place", "rocksdb", source=tmp_path / "in.jsonl")
    assert ended.returncode in (0, 1), ended.stderr
    if ended.returncode:
        assert "Error: " in ended.stderr and "Fatal" not in ended.stderr, ended.stderr
    assert_restorable(stage, 2)
    job = stage.job()
    job.open()
    jobs.finish(job)
    assert stage.output() == expected
