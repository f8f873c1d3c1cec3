"""A sample of the corruption sweep (`corruption.py` does all of it), and what the sweep found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from streamdsl.checkpoint.recovery import StateDirectory, find_checkpoint, published
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError
from tests.trust import corruption, jobs


@pytest.mark.parametrize("backend", ["rocksdb", "memory"])
def test_a_sample_of_all_damages_is_noticed_or_harmless(tmp_path, backend):
    report = corruption.campaign(tmp_path, backend, n=2_000, seed=11)
    assert report.cases > 1_500
    assert report.outcomes["noticed"] and report.outcomes["same output"]
    assert not report.violations, str(report)


@pytest.fixture
def died(tmp_path):
    """A job that died behind two checkpoints, in `place`; an undisturbed one would write `expected`."""
    (tmp_path / "reference").mkdir()
    reference = jobs.Stage(tmp_path / "reference", source=tmp_path / "in.jsonl")
    job = reference.job()
    job.open()
    jobs.finish(job)
    (tmp_path / "place").mkdir()
    stage = jobs.Stage(tmp_path / "place", source=tmp_path / "in.jsonl", journal_bytes=0)
    stage.expected = reference.output()
    job = stage.job()
    job.open()
    for _ in range(2):
        jobs.step(job, 1)
        jobs.checkpoint(job)
    jobs.step(job, 2)
    job.abandon()
    return stage


def test_the_sweep_finds_what_is_planted(tmp_path, monkeypatch):
    """Without the checksums every damage goes unnoticed: the sweep must say so, and survive it."""
    corruption.prepare(tmp_path, "memory")
    monkeypatch.setattr(DirectoryStorage, "_verify", lambda *_: None)
    cases = [corruption.Case("cut", "checkpoints/4/task-0-0/rows", at) for at in range(1, 60)]
    assert len(corruption.sweep(tmp_path, "memory", cases).violations) == len(cases)


def files_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p.relative_to(directory)): (p.stat().st_mode, p.read_bytes()) for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("checkpoint", ["1", "3"])
def test_a_link_in_the_place_of_a_checkpoint_leads_nowhere(died, tmp_path, checkpoint):
    """Clearing up leftovers, or old ones, must not remove what a link leads to."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "manifest.json").write_text("mine")
    (outside / "sub" / "file").write_text("mine")
    outside.chmod(0o755)
    before = files_of(outside)
    place = died.state / "checkpoints" / checkpoint
    if place.exists():
        shutil.rmtree(place)
    place.symlink_to(outside)
    job = died.job()
    job.open()
    for _ in range(3):
        jobs.checkpoint(job)
    jobs.finish(job)
    assert died.output() == died.expected
    assert files_of(outside) == before
    assert not place.exists()


def test_a_leftover_link_without_manifest_leads_nowhere(tmp_path):
    StateDirectory(tmp_path / "state", "job").close()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    (tmp_path / "state" / "checkpoints" / "3").symlink_to(outside)
    StateDirectory(tmp_path / "state", "job").close()
    assert (outside / "kept").read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_stands_in_the_place_of_a_manifest_is_told_of_and_not_cleared_away(died, kind, caplog):
    manifest = died.state / "checkpoints" / "2" / "manifest.json"
    if kind == "link":
        manifest.rename(manifest.with_name("moved.json"))
        manifest.symlink_to("moved.json")
    else:
        manifest.unlink()
        manifest.mkdir() if kind == "directory" else os.mkfifo(manifest)
    job = died.job()
    job.open()
    assert "checkpoint 2 is passed over" in caplog.text
    assert (died.state / "checkpoints" / "2" / "task-0-0" / "CURRENT").exists()
    jobs.finish(job)
    assert died.output() == died.expected


def test_an_older_checkpoint_that_cannot_be_read_stops_nobody(died):
    manifest = died.state / "checkpoints" / "1" / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    job = died.job()
    job.open()
    assert job.environment.completed == [1, 2]
    jobs.finish(job)
    assert died.output() == died.expected
    assert published(DirectoryStorage(died.state / "checkpoints")) and not manifest.exists()


def test_damage_that_two_checkpoints_share_is_refused(died):
    """Checkpoints share the files that have not changed: one bad sector may spoil both. Nothing begins anew unasked."""
    (shared,) = [p for p in (died.state / "checkpoints" / "2").rglob("*.sst") if p.stat().st_nlink > 1][:1]
    data = shared.read_bytes()
    shared.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    before = died.output()
    with pytest.raises(StateError, match=rf"{shared.name} is damaged") as caught:
        died.job().open()
    assert caught.value.remedy
    assert died.output() == before
    shared.write_bytes(data)  # "put the file back from a copy"
    job = died.job()
    job.open()
    jobs.finish(job)
    assert died.output() == died.expected


@pytest.mark.parametrize("kind", ["hard link", "pipe", "link"])
def test_a_strange_lock_is_refused_and_left_as_it_is(tmp_path, kind):
    StateDirectory(tmp_path / "state", "job").close()
    lock, mine = tmp_path / "state" / "LOCK", tmp_path / "mine"
    mine.write_text("mine")
    lock.unlink()
    if kind == "pipe":
        os.mkfifo(lock)
    else:
        os.link(mine, lock) if kind == "hard link" else lock.symlink_to(mine)
    with pytest.raises(StateError, match="LOCK") as caught:
        StateDirectory(tmp_path / "state", "job")
    assert caught.value.remedy
    assert mine.read_text() == "mine"


def test_a_state_file_linked_in_from_elsewhere_is_not_touched(died, tmp_path):
    """Its content is right: it is used, but neither its owner nor its mode become streamdsl's."""
    (sst, *_) = sorted((died.state / "checkpoints" / "2").rglob("*.sst"))
    mine = tmp_path / "mine"
    mine.write_bytes(sst.read_bytes())
    mine.chmod(0o644)
    sst.unlink()
    os.link(mine, sst)
    found = find_checkpoint(DirectoryStorage(died.state / "checkpoints"), "trust")
    assert found.id == 2
    job = died.job()
    job.open()
    jobs.checkpoint(job)
    jobs.finish(job)
    assert died.output() == died.expected
    assert mine.stat().st_mode & 0o777 == 0o644
