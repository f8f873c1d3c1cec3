"""Checkpoints that somebody made on purpose, with right checksums: nothing outside is opened, no code runs, nothing crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamdsl.checkpoint.manifest import checksum
from streamdsl.checkpoint.names import check_file_name, check_store_name, safe_name
from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError
from streamdsl.testing import TopologyTestDriver
from tests.trust import corruption, hostile

ROOT = Path(__file__).resolve().parents[2]
CASES = 1_000


def test_hostile_restores_open_nothing_and_run_nothing(tmp_path):
    """Under an audit hook, in a process of its own: half of the cases are hostile manifests, the others hostile rows and journals."""
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", hostile.__file__, str(tmp_path), str(CASES), "1"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = json.loads(ended.stdout)
    assert said["violations"] == []
    assert set(said["outcomes"]) <= {"restored", "refused"}, said["outcomes"]
    assert sum(said["outcomes"].values()) == CASES + 1
    assert said["outcomes"]["refused"] > CASES / 3


def test_the_hook_sees_what_it_is_to_forbid(tmp_path):
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import pathlib, pickle
from tests.trust import hostile
made = hostile.Restores(pathlib.Path(sys.argv[2])); sys.addaudithook(made.hook); made.watching = True
open("/etc/hostname").close() if pathlib.Path("/etc/hostname").exists() else open("/etc/passwd").close()
pickle.loads(pickle.dumps(pathlib.Path))
import socket; socket.socket().close()
made.watching = False
print("\\n".join(made.violations))
"""
    ended = subprocess.run([sys.executable, "-c", code, str(ROOT), str(tmp_path)], check=True, capture_output=True, text=True)
    assert "opened /etc/" in ended.stdout
    assert "pickle.find_class" in ended.stdout
    assert "socket" in ended.stdout


@pytest.mark.parametrize("kind", ["link", "pipe", "socket", "device", "directory"])
@pytest.mark.parametrize("where", ["manifest.json", "task-0-0/rows", "task-0-0/journal", "task-0-0"])
def test_strange_files_are_refused_by_name(tmp_path, kind, where):
    corruption.prepare(tmp_path, "memory")
    path = tmp_path / "whole" / "state" / "checkpoints" / "4" / where
    if kind == "directory" and where == "task-0-0":
        pytest.skip("it is one")
    moved = tmp_path / "moved"
    path.rename(moved)
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(StateError, match=f"checkpoints/4/{where}") as caught:
        find_checkpoint(DirectoryStorage(tmp_path / "whole" / "state" / "checkpoints"), "trust")
    assert caught.value.remedy


@pytest.mark.parametrize("name", hostile.NAMES)
def test_hostile_names_never_become_paths(name):
    made = safe_name(name)
    assert check_store_name(made) == made and "/" not in made and ".." not in made
    assert made != name or name == "-"
    if name != "manifest.json" and name not in ("-", "CON"):
        with pytest.raises(StateError):
            check_file_name(name)


KEYS = [{"a": "x", "n": 5, "f": True}, {"a": "yy", "n": -1, "f": False}]


@pytest.mark.parametrize("damage", ["shorter", "longer", "tag", "length"])
def test_a_damaged_key_of_several_columns_is_not_read_beyond_its_end(damage):
    from streamdsl import Topology, count, memory, tumbling

    topology = Topology("keys")
    keyed = topology.stream(memory("in", schema={"a": str, "n": int, "f": bool}), watermarks="external").key_by("a", "n", "f")
    keyed.window(tumbling(10)).aggregate(n_rows=count(), name="op").to(memory("out"))
    driver = TopologyTestDriver(topology)
    for row in KEYS:
        driver.send("in", row, timestamp=1)
    checkpoint_id = driver.checkpoint()
    storage = driver._job.environment.storage
    damage_keys(storage, checkpoint_id, damage)
    with pytest.raises(StateError, match=r"stored key|not a window"):
        driver.crash_and_restore()
        for row in KEYS:
            driver.send("in", row, timestamp=2)
        driver.end()


def damage_keys(storage, checkpoint_id, damage):
    """Change every stored key, and make the checksums right again."""
    import struct

    ((store, name),) = storage.contents[checkpoint_id]
    data = bytes(storage.contents[checkpoint_id][store, name])
    at = data.index(b"\n") + 1
    out = bytearray(data[:at])
    while at < len(data):
        kind, key_size, value_size = struct.unpack_from("<III", data, at)
        key, value = data[at + 12 : at + 12 + key_size], data[at + 12 + key_size : at + 12 + key_size + value_size]
        at += 12 + key_size + value_size
        if kind == 3:  # the MARK
            out += data[at - 20 : at]
            continue
        start = key.index(b"\x05")
        key = {
            "shorter": key[:-3],
            "longer": key + b"\0",
            "tag": key[:start] + b"\x02" + key[start + 1 :],
            "length": key[: start + 1] + b"\xff\xff\xff\x7f" + key[start + 5 :],
        }[damage]
        out += struct.pack("<III", kind, len(key), len(value)) + key + value
    storage.contents[checkpoint_id][store, name] = bytes(out)
    body = json.loads(storage.read_manifest(checkpoint_id))["manifest"]
    body["stores"][0]["files"] = [[name, len(out), checksum(bytes(out)).hexdigest(), True]]
    storage._published[checkpoint_id] = corruption.signed(body)
