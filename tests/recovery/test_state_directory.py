"""The state directory: whose it is, who may use it, what a start finds and clears away."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import FORMAT, Manifest, StoreEntry
from streamdsl.checkpoint.recovery import StateDirectory, find_checkpoint
from streamdsl.checkpoint.storage import DirectoryStorage, MemoryStorage
from streamdsl.errors import StateError


def publish(storage, checkpoint_id, job="job", content=b"some rows of state"):
    storage.begin(checkpoint_id)
    target = storage.target(checkpoint_id, "1-0")
    target.write_file("rows", [content])
    entry = StoreEntry("1-0", "memory", (0,), {"tables": []}, target.seal())
    target.close()
    storage.publish(checkpoint_id, Manifest(job=job, checkpoint_id=checkpoint_id, finished=False, shards=1, stores=(entry,)).encode())


@pytest.fixture(params=["memory", "directory"])
def storage(request, tmp_path):
    if request.param == "memory":
        return MemoryStorage()
    (tmp_path / "checkpoints").mkdir()
    return DirectoryStorage(tmp_path / "checkpoints")


# The contract of both storages.


def test_what_was_published_is_found(storage):
    assert find_checkpoint(storage, "job") is None
    publish(storage, 1)
    publish(storage, 2, content=b"newer")
    found = find_checkpoint(storage, "job")
    assert found.id == 2
    assert b"".join(found.files(found.manifest.stores[0]).read("rows")) == b"newer"
    assert find_checkpoint(storage, "job", checkpoint_id=1).id == 1
    assert found.digest == Manifest.decode(storage.read_manifest(2), "m").digest


def test_what_was_not_published_does_not_exist(storage):
    publish(storage, 1)
    storage.begin(2)
    target = storage.target(2, "1-0")
    target.write_file("rows", [b"x"])
    target.seal()
    assert find_checkpoint(storage, "job").id == 1
    assert storage.ids() == [1, 2]
    with pytest.raises(StateError, match="checkpoint 2 does not exist") as caught:
        find_checkpoint(storage, "job", checkpoint_id=2)
    assert "complete checkpoints: 1" in str(caught.value)


def test_an_id_is_used_once(storage):
    storage.begin(1)
    with pytest.raises((StateError, OSError)):
        storage.begin(1)


def test_a_discarded_checkpoint_takes_no_more_files(storage):
    storage.begin(1)
    target = storage.target(1, "1-0")
    target.write_file("rows", [b"x"])
    storage.discard(1)
    target.close()
    assert storage.target(1, "1-0") is None
    assert storage.ids() == [1]
    assert storage.read_manifest(1) is None


def test_another_job_is_refused_even_when_falling_back(storage):
    publish(storage, 1)
    with pytest.raises(StateError, match="belongs to the job 'job', not to 'other'"):
        find_checkpoint(storage, "other", fall_back=True)


def test_a_newer_format_is_refused_even_when_falling_back(storage, monkeypatch):
    publish(storage, 1)
    monkeypatch.setattr("streamdsl.checkpoint.manifest.FORMAT", FORMAT + 1)
    publish(storage, 2)
    monkeypatch.undo()
    with pytest.raises(StateError, match=f"format {FORMAT + 1}, this streamdsl knows {FORMAT}"):
        find_checkpoint(storage, "job", fall_back=True)


def test_a_file_that_the_manifest_does_not_name_cannot_be_read(storage):
    publish(storage, 1)
    found = find_checkpoint(storage, "job")
    with pytest.raises(StateError, match="has no file"):
        found.files(found.manifest.stores[0]).read("other")


# Damage.


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    storage = DirectoryStorage(tmp_path / "checkpoints")
    publish(storage, 1, content=b"the older rows")
    publish(storage, 2)
    return storage


def damage(path, kind):
    data = path.read_bytes()
    if kind == "flip":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif kind == "truncate":
        path.write_bytes(data[:-1])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "longer":
        path.write_bytes(data + b"x")
    elif kind == "gone":
        path.unlink()
    elif kind == "link":
        path.rename(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real"))
    elif kind == "directory":
        path.unlink()
        path.mkdir()
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["flip", "truncate", "empty", "longer", "gone", "link", "directory", "pipe"])
def test_a_damaged_file_is_named_before_it_is_used(directory, kind):
    damage(directory.root / "2" / "1-0" / "rows", kind)
    with pytest.raises(StateError, match="2/1-0/rows") as caught:
        find_checkpoint(directory, "job")
    assert "restore from another checkpoint" in str(caught.value)


@pytest.mark.parametrize("kind", ["flip", "truncate", "empty", "longer", "link", "directory", "pipe"])
def test_a_damaged_manifest_is_refused(directory, kind):
    damage(directory.root / "2" / "manifest.json", kind)
    with pytest.raises(StateError, match=r"2/manifest.json"):
        find_checkpoint(directory, "job")


@pytest.mark.parametrize("name", ["manifest.json", "1-0/rows"])
def test_an_older_checkpoint_takes_its_place_only_on_demand(directory, name, caplog):
    damage(directory.root / "2" / name, "flip")
    assert find_checkpoint(directory, "job", fall_back=True).id == 1
    assert "checkpoint 2 is passed over" in caplog.text


def test_every_byte_of_a_state_file_counts(directory):
    path = directory.root / "2" / "1-0" / "rows"
    data = path.read_bytes()
    for i in range(len(data)):
        for value in (data[i] ^ 1, 0, 255):
            path.write_bytes(data[:i] + bytes([value]) + data[i + 1 :])
            with pytest.raises(StateError, match="2/1-0/rows is damaged"):
                find_checkpoint(directory, "job")
    path.write_bytes(data)
    assert find_checkpoint(directory, "job").id == 2


def test_a_checkpoint_in_the_place_of_another_is_refused(directory):
    shutil.rmtree(directory.root / "2")
    shutil.copytree(directory.root / "1", directory.root / "2")
    with pytest.raises(StateError, match="it is the manifest of checkpoint 1"):
        find_checkpoint(directory, "job")


def test_a_linked_store_directory_is_refused(directory):
    shutil.move(directory.root / "2" / "1-0", directory.root / "elsewhere")
    (directory.root / "2" / "1-0").symlink_to(directory.root / "elsewhere")
    with pytest.raises(StateError, match="cannot be read"):
        find_checkpoint(directory, "job")


# The directory.


def test_it_is_made_and_found_again(tmp_path):
    first = StateDirectory(tmp_path / "state", "job")
    assert first.incarnation == 1
    publish(first.storage, 1)
    first.close()
    second = StateDirectory(tmp_path / "state", "job")
    assert second.incarnation == 2
    assert find_checkpoint(second.storage, "job").id == 1
    assert first.live("1.0") != second.live("1.0")
    second.close()
    second.close()


def test_everything_is_closed_to_others(tmp_path):
    before = os.umask(0)
    try:
        state = StateDirectory(tmp_path / "state", "job")
        publish(state.storage, 1)
        state.close()
    finally:
        os.umask(before)
    for folder, _, files in os.walk(tmp_path / "state"):
        assert os.stat(folder).st_mode & 0o777 == 0o700, folder
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600, name


HOLDER = """
import sys
from streamdsl.checkpoint.recovery import StateDirectory
state = StateDirectory(sys.argv[1], "job")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StateError, match=f"in use by process {holder.pid}"):
            StateDirectory(tmp_path / "state", "job")
        holder.kill()
        holder.wait()
    StateDirectory(tmp_path / "state", "job").close()  # a dead process holds nothing


def test_the_same_process_is_refused_too(tmp_path):
    first = StateDirectory(tmp_path / "state", "job")
    with pytest.raises(StateError, match=f"in use by process {os.getpid()}"):
        StateDirectory(tmp_path / "state", "job")
    first.close()


def test_another_job_is_refused(tmp_path):
    StateDirectory(tmp_path / "state", "job").close()
    with pytest.raises(StateError, match="belongs to the job 'job', not to 'other'"):
        StateDirectory(tmp_path / "state", "other")
    StateDirectory(tmp_path / "state", "job").close()  # the refusal let go of the lock


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "job": "job", "incarnation": -1}', "[" * 100_000])
def test_a_damaged_job_file_is_named(tmp_path, content):
    StateDirectory(tmp_path / "state", "job").close()
    (tmp_path / "state" / "job.json").write_text(content)
    with pytest.raises(StateError, match=r"job.json is damaged"):
        StateDirectory(tmp_path / "state", "job")


def test_a_newer_format_is_refused(tmp_path):
    StateDirectory(tmp_path / "state", "job").close()
    (tmp_path / "state" / "job.json").write_text(json.dumps({"format": 9, "job": "job", "incarnation": 1}))
    with pytest.raises(StateError, match="has format 9"):
        StateDirectory(tmp_path / "state", "job")


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir(mode=0o755)
    (tmp_path / "photos" / "cat.jpg").write_text("x")
    with pytest.raises(StateError, match="not empty and not a state directory"):
        StateDirectory(tmp_path / "photos", "job")
    assert sorted(os.listdir(tmp_path / "photos")) == ["cat.jpg"]
    assert (tmp_path / "photos").stat().st_mode & 0o777 == 0o755


def test_an_open_parent_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StateError, match="could exchange the state directory"):
        StateDirectory(tmp_path / "open" / "state", "job")
    (tmp_path / "open").chmod(0o1777)
    StateDirectory(tmp_path / "open" / "state", "job").close()


@pytest.mark.parametrize("path", ["file", "file/state", "missing/state"])
def test_a_directory_that_cannot_be_made_is_a_state_error(tmp_path, path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError):
        StateDirectory(tmp_path / path, "job")


class ReadOnly(FileSystem):
    def write_new(self, path, chunks):
        raise OSError(errno.EACCES, "Permission denied", str(path))


def test_a_directory_that_cannot_be_written_is_a_state_error(tmp_path):
    with pytest.raises(StateError, match="cannot be used: Permission denied") as caught:
        StateDirectory(tmp_path / "state", "job", ReadOnly())
    assert "state_dir" in str(caught.value)
    StateDirectory(tmp_path / "state", "job").close()


def test_a_start_clears_away_what_a_crash_left(tmp_path):
    state = StateDirectory(tmp_path / "state", "job")
    state.storage.begin(1)
    publish(state.storage, 2)
    state.storage.begin(3)
    target = state.storage.target(3, "1-0")
    target.write_file("rows", [b"half"])
    state.live("1.0").mkdir()
    (state.live("1.0") / "000001.sst").write_bytes(b"x")
    state.close()
    again = StateDirectory(tmp_path / "state", "job")
    assert os.listdir(tmp_path / "state" / "live") == ["2"]
    assert again.storage.ids() == [2, 3]  # 3 is empty, and stays as a trace: its number has been used
    assert os.listdir(tmp_path / "state" / "checkpoints" / "3") == []
    again.close()


def test_a_restart_within_the_process_is_a_new_incarnation(tmp_path):
    state = StateDirectory(tmp_path / "state", "job")
    first = state.live("1.0")
    first.mkdir()
    publish(state.storage, 1)
    state.storage.begin(2)
    state.renew()
    assert state.incarnation == 2
    assert not first.exists()
    state.live("1.0").mkdir()
    assert state.storage.ids() == [1, 2]
    assert state.storage.target(2, "1-0") is None
    state.close()


# Durability: the order of calls.


class Recording(FileSystem):
    def __init__(self):
        self.calls = []

    def write_new(self, path, chunks):
        super().write_new(path, chunks)
        self.calls.append(("write and sync", path.name))

    def sync_file(self, path):
        super().sync_file(path)
        self.calls.append(("sync", path.name))

    def sync_directory(self, path):
        super().sync_directory(path)
        self.calls.append(("sync directory", path.name))

    def rename(self, source, target):
        super().rename(source, target)
        self.calls.append(("rename", target.name))


def test_files_are_synced_before_what_names_them(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    filesystem = Recording()
    publish(DirectoryStorage(tmp_path / "checkpoints", filesystem), 1)
    assert filesystem.calls == [
        ("sync directory", "checkpoints"),
        ("write and sync", "rows"),
        ("sync", "rows"),
        ("sync directory", "1-0"),
        ("write and sync", "manifest.json.tmp"),
        ("sync directory", "1"),
        ("rename", "manifest.json"),
        ("sync directory", "1"),
    ]


class FailsAt(FileSystem):
    """Every call that changes something counts; the k-th one fails, and all after it, as on a full disk."""

    def __init__(self, k):
        self.left = k

    def __getattribute__(self, name):
        counted = ("make_directory", "write_new", "sync_file", "sync_directory", "rename")
        if name in counted:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return super().__getattribute__(name)


@pytest.mark.parametrize("k", range(8))
def test_a_checkpoint_that_fails_anywhere_leaves_the_one_before(tmp_path, k):
    (tmp_path / "checkpoints").mkdir()
    publish(DirectoryStorage(tmp_path / "checkpoints"), 1)
    failing = DirectoryStorage(tmp_path / "checkpoints", FailsAt(k))
    with pytest.raises(OSError, match="No space"):
        publish(failing, 2)
    storage = DirectoryStorage(tmp_path / "checkpoints")
    if 2 in storage.ids():
        storage.discard(2)
    assert find_checkpoint(storage, "job").id == 1
    publish(storage, 3)
    assert find_checkpoint(storage, "job").id == 3


def test_files_written_once_are_hashed_once(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    filesystem = Recording()
    storage = DirectoryStorage(tmp_path / "checkpoints", filesystem)
    (tmp_path / "000001.sst").write_bytes(b"rows")
    entries = []
    for checkpoint_id in (1, 2):
        storage.begin(checkpoint_id)
        target = storage.target(checkpoint_id, "1-0")
        target.path.mkdir()
        os.link(tmp_path / "000001.sst", target.path / "000001.sst")
        (target.path / "CURRENT").write_bytes(b"%d" % checkpoint_id)
        entries.append(target.seal())
        target.close()
    assert entries[0][0] == entries[1][0]
    assert entries[0][1] != entries[1][1]
    assert [name for call, name in filesystem.calls if call == "sync"] == ["000001.sst", "CURRENT", "CURRENT"]


class Syncing(FileSystem):
    """Notes which directories are synced; fails to sync those that are named."""

    def __init__(self, *fails):
        self.fails, self.synced = list(fails), []

    def sync_directory(self, path):
        if path in self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self.synced.append(path)
        super().sync_directory(path)


def test_a_start_that_failed_leaves_no_directory_whose_name_is_never_synced(tmp_path):
    """The first one makes the directory and dies; the second one finds it, and a power cut must not take it away later."""
    with pytest.raises(StateError):
        StateDirectory(tmp_path / "state", "job", Syncing(tmp_path))
    for synced in (True, False):
        filesystem = Syncing()
        StateDirectory(tmp_path / "state", "job", filesystem).close()
        assert (tmp_path in filesystem.synced) is synced


def test_a_checkpoint_that_a_start_finds_is_durable_from_there_on(tmp_path):
    """Who published it died before its name was synced; what is made known from it on must not lose its ground in a power cut."""
    place = tmp_path / "state" / "checkpoints" / "1"
    filesystem = Syncing()
    state = StateDirectory(tmp_path / "state", "job", filesystem)

    def die(source, target):
        FileSystem.rename(filesystem, source, target)
        filesystem.fails.append(place)

    filesystem.rename = die
    with pytest.raises(OSError, match="Input/output"):
        publish(state.storage, 1)
    state.close()
    filesystem = Syncing()
    state = StateDirectory(tmp_path / "state", "job", filesystem)
    assert find_checkpoint(state.storage, "job").id == 1
    assert place in filesystem.synced
    state.close()
