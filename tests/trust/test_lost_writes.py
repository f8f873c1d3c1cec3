"""Power cuts: what a disk may hold at every moment of a job's life is opened, and must give checkpoint n or n - 1, whole.

The recording file system writes down every call of our own code; a disk model by the rules of POSIX (`filesystems.Disk`) replays a
prefix, drops what was not synced in several ways, and the job's start is tried on the result. RocksDB's own files are its business:
the memory backend goes through ours alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from streamdsl.checkpoint.recovery import StateDirectory, find_checkpoint
from streamdsl.errors import StateError
from tests.state.state_job import StateJob
from tests.trust.filesystems import Chooser, Disk, RecordingFileSystem

#: A mixture is drawn so many times for each prefix.
MIXTURES = 6
MOST_SINGLES = 8


class Story:
    """A recorded life: the log of calls, and how far it was when what was promised."""

    def __init__(self, root: Path, journal_bytes: int) -> None:
        self.filesystem, self.journal_bytes = RecordingFileSystem(root), journal_bytes
        self.promises: list[tuple[int, int]] = []  # (length of the log, id that is durable from there on)
        self.begun: list[tuple[int, int]] = []
        self.contents: dict[int, object] = {}

    def start(self) -> tuple[StateDirectory, StateJob]:
        state = StateDirectory(self.filesystem.root / "state", "job", self.filesystem)
        return state, StateJob(state.storage, "memory", state.live("x").parent, journal_bytes=self.journal_bytes)

    def checkpoint(self, job: StateJob, change: int) -> None:
        for task in job.tasks:
            for i in range(40):
                slot = task.rows.slot(f"key-{i % (30 + change)}".encode(), i % 8)
                task.rows.set_int(slot, 0, change * 1000 + i)
                task.rows.set_bytes(slot, 1, b"x" * (change * 7 % 50))
        expected = job.contents()
        checkpoint_id = job.coordinator._next_id
        self.begun.append((len(self.filesystem.log), checkpoint_id))
        self.contents[checkpoint_id] = expected
        job.checkpoint()
        assert job.completed and job.completed[-1].checkpoint_id == checkpoint_id
        # Retention comes behind the promise; it may not take it back either.
        published = [i for i, entry in enumerate(self.filesystem.log) if entry[0] == "rename" and entry[1][-1] == "manifest.json.tmp"][-1]
        self.promises.append((published + 2, checkpoint_id))

    def leave(self, state: StateDirectory, job: StateJob) -> None:
        job.close()
        state.close()


#: Nothing but a journal; a base at every checkpoint; both, in turns.
SHAPES = {"journal": 1 << 20, "base": 0, "both": 3000}


def record(root: Path, story: str, shape: str) -> Story:
    made = Story(root, SHAPES[shape])
    state, job = made.start()
    made.checkpoint(job, 1)
    made.checkpoint(job, 2)
    if story == "failed":
        assert job.begin()
        job.tasks[0].store.drain_some(5)
        job.coordinator.check_timeout(10**9)
        job.finish()
    made.checkpoint(job, 3)
    made.checkpoint(job, 4)
    if story == "restarted":
        assert job.begin()  # never finished
        job.tasks[0].writer.close()
        state.close()
        state, job = made.start()
        made.checkpoint(job, 5)
        made.checkpoint(job, 6)
    if story == "twice":
        made.leave(state, job)
        state, job = made.start()
        made.leave(state, job)
        state, job = made.start()
        made.checkpoint(job, 5)
    made.leave(state, job)
    return made


def choosers(pending: int, prefix: int):
    yield Chooser("none")
    yield Chooser("all")
    yield Chooser("torn", prefix)
    for i in range(min(pending, MOST_SINGLES)):
        yield Chooser("all but one", i)
    for i in range(MIXTURES):
        yield Chooser("mixed", prefix * 31 + i)


def check(story: Story, prefix: int, place: Path) -> None:
    """Start on what a power cut left."""
    promised = max([checkpoint_id for at, checkpoint_id in story.promises if at <= prefix], default=0)
    begun = max([checkpoint_id for at, checkpoint_id in story.begun if at <= prefix], default=0)
    if not (place / "state").exists():
        assert promised == 0
        return
    state = StateDirectory(place / "state", "job")
    try:
        found = find_checkpoint(state.storage, "job")
        restored = 0 if found is None else found.id
        assert promised <= restored <= begun, f"checkpoint {restored} instead of {promised} to {begun}"
        job = StateJob(state.storage, "memory", state.live("x").parent)
        assert job.contents() == (story.contents[restored] if restored else {})
        assert job.checkpoint() > restored
        job.close()
        names = sorted(os.listdir(place / "state" / "checkpoints"), key=int)
        assert len(names) <= 3, f"leftovers: {names}"
    finally:
        state.close()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("story", ["plain", "failed", "restarted", "twice"])
def test_every_power_cut_leaves_a_whole_checkpoint(tmp_path, story, shape):
    made = record(tmp_path, story, shape)
    root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    states = 0
    disk = Disk()
    try:
        for prefix in range(len(made.filesystem.log) + 1):
            if prefix:
                disk.apply(made.filesystem.log[prefix - 1])
            counter = Chooser("all")
            (root / "count").mkdir()
            disk.write_to(root / "count", counter)
            shutil.rmtree(root / "count")
            for chooser in choosers(counter.asked, prefix):
                place = root / "disk"
                place.mkdir()
                disk.write_to(place, chooser)
                try:
                    check(made, prefix, place)
                except (AssertionError, StateError, OSError) as error:
                    error.add_note(
                        f"after call {prefix} of {story!r}, {made.filesystem.log[prefix - 1]!r}: {chooser.kind} {chooser.number}"
                    )
                    raise
                shutil.rmtree(place)
                states += 1
    finally:
        shutil.rmtree(root, ignore_errors=True)
    assert states > 500
    print(f"{story}: {states} states of {len(made.filesystem.log)} calls")


FORGOTTEN = {
    "the bytes of the manifest": lambda log: [
        e for i, e in enumerate(log) if not (e[0] == "fsync" and e[1][-1:] == ("manifest.json.tmp",))
    ],
    "the name of the manifest": lambda log: [
        e
        for i, e in enumerate(log)
        if not (e[0] == "fsync" and i and log[i - 1][0] == "rename" and log[i - 1][1][-1] == "manifest.json.tmp")
    ],
    "the bytes of the rows": lambda log: [e for e in log if not (e[0] == "fsync" and e[1][-1:] == ("rows",))],
    "the bytes of the journal": lambda log: [e for e in log if not (e[0] == "fsync" and e[1] and e[1][-1].startswith("journal-"))],
    "the names of the stores": lambda log: [e for e in log if not (e[0] == "fsync" and len(e[1]) == 3)],
    "the names of the files": lambda log: [e for e in log if not (e[0] == "fsync" and len(e[1]) == 4 and e[1][1] == "checkpoints")],
    "the place of the checkpoint": lambda log: [e for e in log if not (e[0] == "fsync" and e[1] == ("state", "checkpoints"))],
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_the_replay_finds_a_forgotten_fsync(tmp_path, what):
    made = record(tmp_path, "plain", "base" if "rows" in what else "journal")
    log = FORGOTTEN[what](made.filesystem.log)
    if len(log) == len(made.filesystem.log):
        pytest.skip("no such call")
    # Promises are told by the number of calls: count them in the log that is left.
    made.promises = [(min(at, len(log)) and sum(e in log for e in made.filesystem.log[:at]), i) for at, i in made.promises]
    made.filesystem.log = log
    disk = Disk()
    with pytest.raises((AssertionError, StateError)):
        for prefix, entry in enumerate(log, 1):
            disk.apply(entry)
            for number, chooser in enumerate(
                [Chooser("none"), Chooser("torn", prefix), *(Chooser("mixed", prefix * 31 + i) for i in range(6))]
            ):
                place = tmp_path / f"{prefix}-{number}"
                place.mkdir()
                disk.write_to(place, chooser)
                check(made, prefix, place)
