"""Restores hostile checkpoints, with right checksums, under an audit hook; run in a process of its own by `test_hostile.py`.

``python hostile.py DIRECTORY CASES SEED`` prints one JSON object: cases, outcomes, violations.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import random
import shutil
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from streamdsl.checkpoint.manifest import checksum  # noqa: E402
from streamdsl.errors import ConfigError, ConnectorError, StateError  # noqa: E402
from tests.trust import jobs  # noqa: E402
from tests.trust.corruption import signed  # noqa: E402

FORBIDDEN = (
    "pickle.",
    "marshal.",
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "ctypes.",
    "import",
    "exec",
    "compile",
)
NAMES = [
    "..", ".", "", "/etc/passwd", "../../outside/secret", "../outside", "a/b", "a\\b", "x\0y", "\0", ".hidden", "-", "CON", "ä", "x" * 5000,
    "rows/../rows", "./rows", "rows/", "~", "$HOME", "%2e%2e", "task-0-0/rows", "manifest.json", "\u202erows", "rows\n", " rows", "file:///etc/passwd",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**300, 1e308, -0.0, 0.5, "", "x", "\0", "../../outside", "9" * 4000, [], {},  # noqa: E501
    [[]], [None], {"": {}}, {"a": {"b": {}}}, {"__class__": "os.system"}, "cos\nsystem\n(S'true'\ntR.", [1] * 1000, {"length": -1}, {"position": "x", "ended": 1},  # noqa: E501
]  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything inside."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inner:
        yield from leaves(below, (*path, name))


def changed(body: Any, path: tuple[Any, ...], value: Any, how: str) -> Any:
    """Return the body with one thing in it replaced, removed, or named otherwise."""
    made = copy.deepcopy(body)
    inside = made
    for step in path[:-1]:
        inside = inside[step]
    if how == "replace":
        inside[path[-1]] = value
    elif how == "remove" or not isinstance(inside, dict):
        del inside[path[-1]]
    else:
        inside[str(value)] = inside.pop(path[-1])
    return made


def hostile_texts(body: Any) -> Iterator[bytes]:
    """Yield manifests that no program wrote."""
    yield signed(body).replace(b'"finished":false', b'"finished":false,"finished":true')
    yield b"[" * 100_000
    yield b'{"blake2b":"","manifest":' + b'{"a":' * 50_000
    yield signed({**body, "deep": json.loads("[" * 500 + "]" * 500)})
    yield signed({**body, "sources": {str(i): {} for i in range(1_000_000)}})
    yield signed({**body, "stores": [{**body["stores"][0], "files": [["rows", 1, "0" * 64]] * 1_000_000}]})
    yield signed({**body, "stores": [body["stores"][0]] * 1000})
    yield signed({**body, "shards": 65_536, "shard_watermarks": {"x": {str(i): 0 for i in range(65_536)}}})
    yield b'{"blake2b":"' + b"0" * 64 + b'","manifest":' + b"9" * 1_000_000 + b"}\n"
    yield from (b"", b"\0" * 4096, b"null\n", b"\xff\xfe{\0}\0", b"NaN", b"{}", b"\x80\x04cos\nsystem\n.", b"\xef\xbb\xbf" + signed(body))


def manifests(body: Any, n: int, seed: int) -> Iterator[bytes]:
    """Yield `n` hostile manifests."""
    made = 0
    for text in hostile_texts(body):
        made += 1
        yield text
    for name in NAMES:
        yield signed(changed(body, ("stores", 0, "files", 0, 0), name, "replace"))
        yield signed(changed(body, ("stores", 0, "name"), name, "replace"))
        made += 2
    draw = random.Random(seed)
    paths = [path for path in leaves(body) if path]
    while made < n:
        made += 1
        how = draw.choice(["replace", "replace", "replace", "remove", "rename"])
        yield signed(changed(body, draw.choice(paths), draw.choice(VALUES), how))


def rows_of(data: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield state files whose frame is right and whose rows are not."""
    magic, at, rows = data[: data.index(b"\n") + 1], data.index(b"\n") + 1, []
    while at < len(data):
        key, value = struct.unpack_from("<II", data, at)
        rows.append((data[at + 8 : at + 8 + key], data[at + 8 + key : at + 8 + key + value]))
        at += 8 + key + value
    draw = random.Random(seed)
    for _ in range(n):
        made = [list(row) for row in rows]
        for _ in range(draw.choice([1, 1, 1, 5, 50])):
            row = draw.choice(made)
            part = draw.randrange(2)
            row[part] = mutated(row[part], draw)
        yield magic + b"".join(struct.pack("<II", len(key), len(value)) + key + value for key, value in made)


def journals_of(data: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield journals of the same rows: with rows that are not, with a frame that is not, with sizes beyond everything."""
    draw = random.Random(seed)
    for rows in rows_of(data, n, seed):
        at, entries = rows.index(b"\n") + 1, []
        while at < len(rows):
            key, value = struct.unpack_from("<II", rows, at)
            entries.append(struct.pack("<III", draw.choice([1] * 50 + [2]), key, value) + rows[at + 8 : at + 8 + key + value])
            at += 8 + key + value
        if draw.random() < 0.5:
            place = draw.randrange(len(entries))
            frame = [draw.choice([0, 1, 2, 3, 4, 2**31, 2**32 - 1]) for _ in range(3)]
            entries[place] = struct.pack("<III", *frame) + entries[place][12:]
        entries.append(struct.pack("<IIIq", 3, 0, 8, draw.choice([1] * 20 + [0, 2, -1])))
        journal = b"streamdsl journal 1\n" + b"".join(entries)
        yield journal if draw.random() < 0.8 else mutated(journal, draw)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Return other bytes."""
    kind = draw.randrange(6)
    at = draw.randrange(len(data)) if data else 0
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data + draw.randbytes(draw.randrange(1, 40))
    if kind == 2:
        return draw.randbytes(draw.randrange(200))
    if kind == 3:
        return data[:at] + struct.pack("<q", draw.choice([-1, 2**31, 2**62, -(2**63), 255])) + data[at + 8 :]
    if kind == 4:
        return data[:at] + data[at + 1 :]
    return data[:at] + bytes([draw.choice([0, 1, 127, 128, 255])]) + data[at + 1 :]


class Restores:
    """Restores one hostile checkpoint after the other."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.place = directory / "place"
        self.outcomes: Counter[str] = Counter()
        self.violations: list[str] = []
        self.watching = False
        stage = jobs.Stage(self.prepared(), "memory", source=directory / "in.jsonl", journal_bytes=0)
        job = stage.job()
        job.open()
        jobs.step(job, 2)
        jobs.checkpoint(job)
        job.abandon()
        shutil.copytree(stage.directory, directory / "whole")
        self.manifest = directory / "whole" / "state" / "checkpoints" / "1" / "manifest.json"
        self.rows = self.manifest.parent / "task-0-0" / "rows"
        self.plan = stage.plan

    def prepared(self) -> pathlib.Path:
        self.place.mkdir(parents=True, exist_ok=True)
        return self.place

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event == "open":
            path = arguments[0]
            text = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
            inside = text.startswith((str(self.place) + "/", str(self.directory / "in.jsonl"))) and ".." not in text
            if text and not inside and (("/" in text) or text == ".."):
                self.violations.append(f"opened {text}")
        elif event.startswith(FORBIDDEN):
            self.violations.append(f"{event} {arguments!r:.200}")

    def restore(self, manifest: bytes, rows: bytes | None = None, *, name: str = "rows", go_on: bool = False) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self.directory / "whole", self.place)
        (self.place / "state" / "checkpoints" / "1" / "manifest.json").write_bytes(manifest)
        if rows is not None:
            (self.place / "state" / "checkpoints" / "1" / "task-0-0" / name).write_bytes(rows)
        stage = jobs.Stage(self.place, "memory", source=self.directory / "in.jsonl", plan=self.plan)
        job = stage.job()
        self.watching = True
        try:
            job.open()
            outcome = "restored"
            if go_on:
                jobs.step(job, 3)
        except (StateError, ConnectorError, ConfigError) as error:
            outcome = "refused" if error.remedy else f"no remedy: {error}"
        except Exception as error:  # noqa: BLE001 - what a hostile file must not lead to
            outcome = f"{type(error).__name__}: {error}"
        finally:
            self.watching = False
        job.abandon()
        self.outcomes[outcome[:200]] += 1

    def run(self, n: int, seed: int) -> None:
        body = json.loads(self.manifest.read_bytes())["manifest"]
        data = self.rows.read_bytes()
        self.restore(signed(body), go_on=True)  # imports what a restore imports
        sys.addaudithook(self.hook)
        for manifest in manifests(body, n // 2, seed):
            self.restore(manifest)
        for rows in rows_of(data, n // 4, seed):
            entry = ["rows", len(rows), checksum(rows).hexdigest(), False]
            self.restore(signed(changed(body, ("stores", 0, "files", 0), entry, "replace")), rows, go_on=True)
        for journal in journals_of(data, n - n // 2 - n // 4, seed):
            entry = ["journal", len(journal), checksum(journal).hexdigest(), True]
            manifest = signed(changed(body, ("stores", 0, "files", 0), entry, "replace"))
            self.restore(manifest, journal, name="journal", go_on=True)


def main() -> int:
    directory, cases, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    made = Restores(directory)
    made.run(cases, seed)
    print(json.dumps({"outcomes": made.outcomes, "violations": made.violations[:50]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
