"""The contract of the backends: both pass it. Then what is RocksDB's alone."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.state.backend import open_backend
from streamdsl._native.state.rocksdb import RocksDBBackend
from streamdsl.checkpoint.manifest import StoreEntry
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError

BACKENDS = ("memory", "rocksdb")


@pytest.fixture(params=BACKENDS)
def kind(request):
    return request.param


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return DirectoryStorage(tmp_path / "checkpoints")


def checkpoint(backend, storage, checkpoint_id, kind):
    storage.begin(checkpoint_id)
    target = storage.target(checkpoint_id, "store")
    backend.checkpoint(target)
    entry = StoreEntry("store", kind, (), {}, target.seal())
    target.close()
    return entry


def reopen(storage, checkpoint_id, entry, path):
    return open_backend(entry.backend, path, storage.files(checkpoint_id, entry))


def test_puts_gets_deletes(kind, tmp_path):
    backend = open_backend(kind, tmp_path / "live")
    backend.apply([(b"a", b"1"), (b"b", b""), (b"c", b"3")])
    backend.apply([(b"a", b"2"), (b"c", None), (b"never", None)])
    assert backend.get_many([b"c", b"a", b"b", b"a"]) == [None, b"2", b"", b"2"]
    assert list(backend.scan(b"")) == [(b"a", b"2"), (b"b", b"")]
    backend.close()


def test_scans_by_prefix_in_order(kind, tmp_path):
    backend = open_backend(kind, tmp_path / "live")
    keys = [b"\x00\x01", b"\x00\x01a", b"\x00\x02", b"\x00\xff", b"\x00\xff\xff", b"\x01", b"\xff", b"\xff\xff", b"\xff\xff\x01"]
    backend.apply([(key, key) for key in keys])
    for prefix in (b"", b"\x00", b"\x00\x01", b"\x00\xff", b"\x01", b"\xff", b"\xff\xff", b"\x02"):
        assert list(backend.scan(prefix)) == [(key, key) for key in keys if key.startswith(prefix)]
    backend.close()


def test_a_checkpoint_holds_what_was_applied_before_it(kind, tmp_path, storage):
    backend = open_backend(kind, tmp_path / "live")
    backend.apply([(b"a", b"1"), (b"b", b"1")])
    first = checkpoint(backend, storage, 1, kind)
    backend.apply([(b"a", b"2"), (b"b", None)])
    second = checkpoint(backend, storage, 2, kind)
    backend.close()
    for checkpoint_id, entry, rows in ((1, first, [(b"a", b"1"), (b"b", b"1")]), (2, second, [(b"a", b"2")])):
        restored = reopen(storage, checkpoint_id, entry, tmp_path / f"restored{checkpoint_id}")
        assert list(restored.scan(b"")) == rows
        restored.close()


def test_what_goes_on_from_a_checkpoint_does_not_change_it(kind, tmp_path, storage):
    backend = open_backend(kind, tmp_path / "live")
    backend.apply([(b"%04d" % i, b"x" * 100) for i in range(2000)])
    entry = checkpoint(backend, storage, 1, kind)
    backend.close()
    continued = reopen(storage, 1, entry, tmp_path / "live2")
    continued.apply([(b"%04d" % i, None) for i in range(2000)])
    checkpoint(continued, storage, 2, kind)
    continued.close()
    again = reopen(storage, 1, entry, tmp_path / "live3")  # verifies every checksum
    assert len(list(again.scan(b""))) == 2000
    again.close()


def test_an_empty_backend_has_a_checkpoint_too(kind, tmp_path, storage):
    backend = open_backend(kind, tmp_path / "live")
    entry = checkpoint(backend, storage, 1, kind)
    backend.close()
    restored = reopen(storage, 1, entry, tmp_path / "live2")
    assert list(restored.scan(b"")) == []
    restored.close()


def test_what_was_not_in_a_checkpoint_is_gone(kind, tmp_path, storage):
    backend = open_backend(kind, tmp_path / "live")
    backend.apply([(b"a", b"1")])
    entry = checkpoint(backend, storage, 1, kind)
    backend.apply([(b"b", b"1")])
    backend.close()
    restored = reopen(storage, 1, entry, tmp_path / "live2")
    assert list(restored.scan(b"")) == [(b"a", b"1")]
    restored.close()


def test_closing_twice_is_fine(kind, tmp_path):
    backend = open_backend(kind, tmp_path / "live")
    backend.apply([(b"a", b"1")])
    backend.close()
    backend.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.binary(max_size=6), st.none() | st.binary(max_size=20), max_size=8), max_size=6))
def test_both_agree_with_a_dict(tmp_path_factory, runs):
    path = tmp_path_factory.mktemp("agree")
    backends = [open_backend(kind, path / kind) for kind in BACKENDS]
    model: dict[bytes, bytes] = {}
    for run in runs:
        for key, value in run.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        for backend in backends:
            backend.apply(sorted(run.items()))
    for backend in backends:
        assert list(backend.scan(b"")) == sorted(model.items())
        assert backend.get_many(list(model)) == list(model.values())
        backend.close()


def test_an_unknown_backend_is_refused(tmp_path):
    with pytest.raises(StateError, match="not known"):
        open_backend("sqlite", tmp_path / "live")


# RocksDB's alone.


def test_a_directory_that_exists_is_not_opened(tmp_path):
    (tmp_path / "live").mkdir()
    with pytest.raises(StateError, match="exists"):
        RocksDBBackend(tmp_path / "live")


def test_a_closed_database_says_so(tmp_path):
    backend = RocksDBBackend(tmp_path / "live")
    backend.close()
    with pytest.raises(StateError, match="is closed"):
        backend.apply([(b"a", b"1")])


def test_only_raw_mode_is_accepted(tmp_path, storage):
    rocksdict = pytest.importorskip("rocksdict")
    storage.begin(1)
    target = storage.target(1, "store")
    foreign = rocksdict.Rdict(str(tmp_path / "foreign"))  # its default mode may unpickle what it reads
    foreign["a"] = {"pickled": True}
    foreign.flush()
    rocksdict.Checkpoint(foreign).create_checkpoint(str(target.path))
    foreign.close()
    entry = StoreEntry("store", "rocksdb", (), {}, target.seal())
    with pytest.raises(StateError, match="raw mode"):
        reopen(storage, 1, entry, tmp_path / "live")


def test_no_stored_value_is_ever_unpickled(tmp_path, storage):
    seen: list[str] = []
    armed = [True]

    def hook(event, _):
        if armed[0] and event in ("pickle.find_class", "exec", "subprocess.Popen"):
            seen.append(event)

    backend = RocksDBBackend(tmp_path / "live")
    hostile = b"\x06cposix\nsystem\n(S'true'\ntR."  # 6: the binding's own tag of a pickled value
    backend.apply([(b"%d" % tag, bytes([tag]) + hostile[1:]) for tag in range(10)] + [(b"x", hostile)])
    entry = checkpoint(backend, storage, 1, "rocksdb")
    sys.addaudithook(hook)
    backend.close()
    restored = reopen(storage, 1, entry, tmp_path / "live2")
    assert restored.get_many([b"x"]) == [hostile]
    assert len(list(restored.scan(b""))) == 11
    restored.close()
    armed[0] = False
    assert seen == []


def test_files_are_closed_to_others(tmp_path, storage):
    before = os.umask(0)
    try:
        backend = RocksDBBackend(tmp_path / "live")
        backend.apply([(b"a", b"1")])
        checkpoint(backend, storage, 1, "rocksdb")
        backend.close()
    finally:
        os.umask(before)
    for top in (tmp_path / "live", storage.root / "1"):
        for folder, _, files in os.walk(top):
            assert os.stat(folder).st_mode & 0o077 == 0, folder
            for name in files:
                assert os.stat(os.path.join(folder, name)).st_mode & 0o077 == 0, name


def test_a_damaged_block_is_an_error_not_an_end(tmp_path, storage):
    backend = RocksDBBackend(tmp_path / "live")
    for start in range(0, 20_000, 1000):
        backend.apply([(b"%08d" % i, os.urandom(40)) for i in range(start, start + 1000)])
    checkpoint(backend, storage, 1, "rocksdb")
    backend.close()
    place = storage.root / "1" / "store"
    [sst] = place.glob("*.sst")
    data = bytearray(sst.read_bytes())
    data[len(data) // 2] ^= 1
    sst.write_bytes(data)

    class Unverified:
        def place(self, directory):
            storage.place(1, "store", sorted(os.listdir(place)), directory)

    damaged = RocksDBBackend(tmp_path / "live2", Unverified())
    with pytest.raises(StateError, match="cannot be read"):
        list(damaged.scan(b""))
    damaged.close()


def test_an_old_rocksdb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("streamdsl._native.state.rocksdb.OLDEST", (99, 0))
    with pytest.raises(StateError, match=r"install a rocksdict with RocksDB 99.0"):
        RocksDBBackend(tmp_path / "live")
