"""The manifest: what was written comes back, and nothing else is believed."""

from __future__ import annotations

import json
import random

import pytest

from streamdsl.checkpoint.manifest import FileEntry, Manifest, StoreEntry, blake2b
from streamdsl.checkpoint.names import check_file_name, check_store_name, safe_name
from streamdsl.errors import StateError

FILES = (FileEntry("000009.sst", 10, "0" * 64), FileEntry("CURRENT", 0, "f" * 64))


def a_manifest(**changes):
    values = {
        "job": "fraud-detection",
        "checkpoint_id": 7,
        "finished": False,
        "shards": 128,
        "sources": {"transactions": {"p0": {"position": [1, "ä"], "watermark": -5}}},
        "operators": {"alerts": {"1.0": {"length": 10**15}}},
        "shard_watermarks": {"lookup": {"0": -(2**63), "127": 2**63 - 1}},
        "arrivals": 12,
        "behind": {"merge": {"2.0": {"watermark": -5, "inputs": [["source", 1, 2]], "timely": ["other"]}}},
        "stores": (StoreEntry("1-0", "rocksdb", (0, 5), {"tables": []}, FILES),),
        **changes,
    }
    return Manifest(**values)


def signed(body):
    """A file whose checksum is right, whatever its body says."""
    encoded = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return b'{"blake2b":"' + blake2b(encoded).hexdigest().encode() + b'","manifest":' + encoded + b"}\n"


def body():
    return json.loads(a_manifest().encode())["manifest"]


def test_what_was_written_comes_back():
    assert Manifest.decode(a_manifest().encode(), "m") == a_manifest()


def test_the_digest_names_the_content():
    assert a_manifest().digest == blake2b(a_manifest().encode()).hexdigest()
    assert a_manifest().digest != a_manifest(finished=True).digest


def test_every_byte_counts():
    data = a_manifest().encode()
    rng = random.Random(1)
    for i in range(len(data)):
        for value in {data[i] ^ (1 << rng.randrange(8)), 0, 255} - {data[i]}:
            with pytest.raises(StateError, match=r"damaged|format"):
                Manifest.decode(data[:i] + bytes([value]) + data[i + 1 :], "m")


def test_every_length_counts():
    data = a_manifest().encode()
    for length in range(len(data)):
        with pytest.raises(StateError, match="m is damaged"):
            Manifest.decode(data[:length], "m")
    with pytest.raises(StateError, match="checksum"):
        Manifest.decode(data + b"\n", "m")


def test_a_newer_format_is_named():
    with pytest.raises(StateError, match="format 8, this streamdsl knows 7"):
        Manifest.decode(signed({**body(), "format": 8, "anything": "new"}), "m")


@pytest.mark.parametrize(
    ("older", "why"),
    [
        (1, "has no journals"),
        (2, "has BLAKE2b checksums of its files"),
        (3, "does not say what its state means"),
        (4, "has no arrival numbers"),
        (5, "does not say which inputs were behind"),
        (6, "does not say how tables are read without their topology"),
    ],
)
def test_an_older_format_is_named_with_the_way_out(older, why):
    with pytest.raises(StateError, match=f"m has format {older}, which {why}") as caught:
        Manifest.decode(signed({**body(), "format": older}), "m")
    assert "another state directory" in caught.value.remedy
    assert caught.value.context["final"]  # nothing older takes its place


def test_a_store_has_one_journal_at_most():
    changed = body()
    for file in changed["stores"][0]["files"]:
        file[3] = True
    with pytest.raises(StateError, match="has two journals"):
        Manifest.decode(signed(changed), "m")


HOSTILE_NAMES = [
    "", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", "a..b", ".hidden", "a.", "x" * 101, "ä", "a b", "a\n", "CON:",
    "a\\b", None, 5, ["a"],
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_hostile_file_names_are_refused(name):
    changed = body()
    changed["stores"][0]["files"][0][0] = name
    with pytest.raises(StateError, match=r"damaged: .*is not the name of a state file"):
        Manifest.decode(signed(changed), "m")
    with pytest.raises(StateError):
        check_file_name(name)


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "UPPER", "a.b", "x" * 81], ids=repr)
def test_hostile_store_names_are_refused(name):
    changed = body()
    changed["stores"][0]["name"] = name
    with pytest.raises(StateError, match=r"damaged: .*is not the name of a store"):
        Manifest.decode(signed(changed), "m")


def change(path, value):
    changed = body()
    target = changed
    for step in path[:-1]:
        target = target[step]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return changed


FILE = ["stores", 0, "files", 0]
CHANGES = [
    (["behind", "merge", "2.0"], 5), (["behind", "merge", "2.0", "watermark"], 2**63), (["behind", "merge", "2.0", "timely"], [1]),
    (["behind", "merge", "2.0", "inputs", 0], ["source", True, 2]), (["behind", "merge", "2.0", "inputs", 0], ["source"]),
    (["format"], 0), (["format"], "1"), (["format"], True), (["format"], KeyError), (["job"], 5), (["job"], KeyError),
    (["checkpoint_id"], 0), (["checkpoint_id"], -1), (["checkpoint_id"], True), (["checkpoint_id"], 2**63), (["checkpoint_id"], 1.0),
    (["finished"], 1), (["shards"], 0), (["shards"], 65_537), (["sources"], []), (["sources"], {"a": 1}), (["operators"], None),
    (["shard_watermarks"], {"a": {"128": 1}}), (["shard_watermarks"], {"a": {"-1": 1}}), (["shard_watermarks"], {"a": {"²": 1}}),
    (["shard_watermarks"], {"a": {"1": 2**63}}), (["shard_watermarks"], {"a": {"1": 1.5}}),
    (["arrivals"], -1), (["arrivals"], True), (["arrivals"], 2**63), (["arrivals"], KeyError),
    (["stores"], {}), (["stores"], [5]), (["stores", 0, "shards"], [128]), (["stores", 0, "shards"], ["1"]),
    (["stores", 0, "shards"], None),
    (["stores", 0, "description"], []), (["stores", 0, "backend"], None), (["stores", 0, "files"], {}), (FILE, "CURRENT"),
    (FILE, ["CURRENT", 1]), ([*FILE, 1], -1), ([*FILE, 1], "1"), ([*FILE, 1], 2**53), ([*FILE, 2], "0" * 63), ([*FILE, 2], "G" * 64),
    ([*FILE, 0], "CURRENT"), ([*FILE, 3], 1), ([*FILE, 3], None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=repr)
def test_a_right_checksum_is_not_enough(path, value):
    with pytest.raises(StateError, match="m is damaged"):
        Manifest.decode(signed(change(path, value)), "m")


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b'{"manifest":5}', b'{"manifest":{"a":NaN}}', b'{"manifest":{"a":1,"a":2}}', b"\xff", b"[" * 100_000,
     b'{"manifest":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":' * 10_000, b'{"manifest":{"n":' + b"9" * 10_000 + b"}}"],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(StateError, match="m is damaged"):
        Manifest.decode(data, "m")


def test_two_stores_of_one_name_are_refused():
    changed = body()
    changed["stores"] *= 2
    with pytest.raises(StateError, match="two stores have one name"):
        Manifest.decode(signed(changed), "m")


def test_limits(monkeypatch):
    data = a_manifest().encode()
    monkeypatch.setattr("streamdsl.checkpoint.manifest.MAX_FILES", 1)
    with pytest.raises(StateError, match="more than 1 files"):
        Manifest.decode(data, "m")
    monkeypatch.setattr("streamdsl.checkpoint.manifest.MAX_BYTES", 10)
    with pytest.raises(StateError, match="10 is the most"):
        Manifest.decode(data, "m")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}], ids=str)
def test_only_json_goes_in(value):
    with pytest.raises(StateError, match="not JSON"):
        a_manifest(operators={"a": {"0": value}}).encode()


def test_brackets_in_texts_are_not_depth():
    manifest = a_manifest(operators={"a": {"0": "[{" * 500 + '"\\'}})
    assert Manifest.decode(manifest.encode(), "m") == manifest


@pytest.mark.parametrize("name", ["2.0", "a/b", "../..", "Ärger", "x" * 500, "", "UPPER", "a\0"])
def test_any_name_becomes_a_safe_one(name):
    safe = safe_name(name)
    assert check_store_name(safe) == safe
    assert safe_name(name + "x") != safe


def test_harmless_names_stay():
    assert safe_name("window_1-a") == "window_1-a"
