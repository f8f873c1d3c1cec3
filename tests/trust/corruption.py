"""Damages a real checkpoint in every way there is, one at a time, and sees what a start makes of it.

``python tests/trust/corruption.py`` (`make corrupt`). Every byte of every file becomes three other values, every file is cut
at every length, removed, lengthened, exchanged, linked, duplicated. Each case must be noticed and named, with a way out,
before a record is processed; or the run that goes on must write exactly what an undisturbed one does. Without permission
to fall back a damaged checkpoint is refused; with it the older one is taken.

The cases run in a process of their own: if it dies, the case it died in is a violation and the sweep goes on behind it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from streamdsl.checkpoint.manifest import FORMAT, blake2b  # noqa: E402
from streamdsl.checkpoint.recovery import find_checkpoint  # noqa: E402
from streamdsl.checkpoint.storage import DirectoryStorage  # noqa: E402
from streamdsl.errors import StateError  # noqa: E402
from tests.trust import jobs  # noqa: E402

NEWEST, OLDER = "4", "3"
#: Of the noticed cases one in so many also goes through a whole run, which falls back and must end with the same output.
PROOF_EVERY = 2_000


@dataclass
class Report:
    """What a sweep has done and found."""

    cases: int = 0
    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        head = f"{self.cases} cases ({counts}), {self.runs} whole runs; {len(self.violations)} violations"
        return "\n".join([head, *self.violations[:50]])


@dataclass(frozen=True)
class Case:
    """One damage: `kind` of it, to `path` (below the state directory), at `at` with `value`."""

    kind: str
    path: str
    at: int = 0
    value: int = 0
    other: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.path} {self.at} {self.value} {self.other}".rstrip()


def signed(body: object) -> bytes:
    """Return a manifest whose checksum is right, whatever it says."""
    encoded = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return b'{"blake2b":"' + blake2b(encoded).hexdigest().encode() + b'","manifest":' + encoded + b"}\n"


#: The third checkpoint is a new base, the fourth has a journal behind it.
JOURNAL_BYTES = 3_700


def prepare(directory: pathlib.Path, backend: str, journal_bytes: int = JOURNAL_BYTES) -> None:
    """Make `whole` (a job that died behind its fourth checkpoint), `stranger` (another job's), and `expected.txt`."""
    for name in ("reference", "whole", "stranger"):
        (directory / name).mkdir()
    reference = jobs.Stage(directory / "reference", backend, source=directory / "in.jsonl")
    job = reference.job()
    job.open()
    jobs.finish(job)
    (directory / "expected.txt").write_text("\n".join(reference.output()))
    for name in ("whole", "stranger"):
        stage = jobs.Stage(directory / name, backend, source=directory / "in.jsonl", journal_bytes=journal_bytes)
        job = stage.job(plan=None if name == "whole" else stage.planned(name))
        job.open()
        for _ in range(4):
            jobs.step(job, 1)
            jobs.checkpoint(job)
        jobs.step(job, 2)
        job.abandon()


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a tree; hard links become files of their own."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("live"))


def cases_of(state: pathlib.Path) -> Iterator[Case]:
    """Yield all cases."""
    newest = sorted(str(path.relative_to(state)) for path in (state / "checkpoints" / NEWEST).rglob("*") if path.is_file())
    for path in [*newest, "job.json", "LOCK"]:
        data = (state / path).read_bytes()
        draw = random.Random(path)
        for at, byte in enumerate(data):
            values = {0, 255} - {byte}
            while len(values) < 3:
                values.add(byte ^ (1 << draw.randrange(8)))
            for value in sorted(values):
                yield Case("byte", path, at, value)
        for length in range(len(data)):
            yield Case("cut", path, length)
        for kind in ("remove", "lengthen", "link", "directory", "pipe", "duplicate"):
            yield Case(kind, path)
    for i, path in enumerate(newest):
        for other in newest[i + 1 :]:
            if (state / path).read_bytes() != (state / other).read_bytes():
                yield Case("swap", path, other=other)
        before = path.replace(f"/{NEWEST}/", f"/{OLDER}/")
        if (state / before).exists() and (state / path).read_bytes() != (state / before).read_bytes():
            yield Case("previous", path, other=before)
    for kind in ("foreign", "foreign-manifest", "newer", "older", "again", "renamed", "gone", "stores-gone", "stores-previous"):
        yield Case(kind, f"checkpoints/{NEWEST}")
    for name in ("7", "07", "x", "9" * 30, "-1"):
        for kind in ("stray-file", "stray-link", "stray-directory"):
            yield Case(kind, f"checkpoints/{name}")


class Sweep:
    """Applies cases to a copy of `whole` and judges what comes of it."""

    def __init__(self, directory: pathlib.Path, backend: str) -> None:
        self.directory, self.backend = directory, backend
        self.expected = (directory / "expected.txt").read_text().split("\n")
        self.base = directory / "whole"
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="work-", dir=directory))
        copy(self.base, self.work / "a")
        self.state = self.work / "a" / "state"
        self.report = Report()

    def judge(self, case: Case, *, prove: bool) -> str:
        """Return "noticed", "harmless", or what is wrong."""
        quick = case.kind in ("byte", "cut") and case.path.startswith("checkpoints/")
        if not quick:
            return self.whole_run(case)
        path = self.state / case.path
        data = path.read_bytes()
        damaged = data[: case.at] + bytes([case.value]) + data[case.at + 1 :] if case.kind == "byte" else data[: case.at]
        path.write_bytes(damaged)
        try:
            found = self.looked_at(case)
        finally:
            path.write_bytes(data)
        return self.whole_run(case) if found == "noticed" and prove else found

    def looked_at(self, case: Case) -> str:
        storage = DirectoryStorage(self.state / "checkpoints")
        try:
            find_checkpoint(storage, "trust")
        except StateError as error:
            if not names(error, case):
                return f"the error does not name the file or a remedy: {error}"
        else:
            return "not noticed"
        older = find_checkpoint(storage, "trust", fall_back=True)
        return "noticed" if older is not None and older.id == int(OLDER) else "the older checkpoint is not taken"

    def whole_run(self, case: Case) -> str:
        """Run the job on the damaged state."""
        self.report.runs += 1
        place = self.work / "run"
        shutil.rmtree(place, ignore_errors=True)
        copy(self.base, place)
        outside = self.work / "outside"
        shutil.rmtree(outside, ignore_errors=True)
        (outside / "kept").mkdir(parents=True)
        (outside / "manifest.json").write_text("kept")
        apply(case, place / "state", self.directory / "stranger" / "state", outside)
        before = (place / "out.jsonl").read_bytes()
        stage = jobs.Stage(place, self.backend, source=self.directory / "in.jsonl")
        job = stage.job()
        try:
            job.open()
        except StateError as error:
            if (place / "out.jsonl").read_bytes() != before:
                return f"refused, but the output was touched: {error}"
            outcome = "refused" if names(error, case) else f"the error does not name the file or a remedy: {error}"
        else:
            jobs.finish(job)
            outcome = "same output" if stage.output() == self.expected else "wrong output"
        if not (outside / "kept").exists() or (outside / "manifest.json").read_text() != "kept":
            return "something outside of the state directory was changed"
        return outcome


def names(error: StateError, case: Case) -> bool:
    """Whether the error names a file of the case, and a way out."""
    text = str(error)
    places = [case.path, case.other] if case.other else [case.path]
    # What stands beside a damaged file may be noticed first: its checkpoint is named in any case.
    if case.kind in ("foreign", "foreign-manifest", "newer", "older", "again", "stores-gone", "stores-previous"):
        places = [case.path]
    return bool(error.remedy) and any(place in text for place in places)


def apply(case: Case, state: pathlib.Path, stranger: pathlib.Path, outside: pathlib.Path) -> None:
    """Do the damage."""
    path = state / case.path
    data = path.read_bytes() if path.is_file() else b""
    if case.kind == "byte":
        path.write_bytes(data[: case.at] + bytes([case.value]) + data[case.at + 1 :])
    elif case.kind == "cut":
        path.write_bytes(data[: case.at])
    elif case.kind == "lengthen":
        path.write_bytes(data + b"\n")
    elif case.kind in ("remove", "directory", "pipe", "link"):
        path.unlink()
        if case.kind == "directory":
            path.mkdir()
        elif case.kind == "pipe":
            os.mkfifo(path)
        elif case.kind == "link":
            (outside / "target").write_bytes(data)
            path.symlink_to(outside / "target")
    elif case.kind == "duplicate":
        path.with_name("000099.sst").write_bytes(data)
        path.with_name(path.name + ".copy").write_bytes(data)
    elif case.kind == "swap":
        other = state / case.other
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif case.kind == "previous":
        path.write_bytes((state / case.other).read_bytes())
    elif case.kind.startswith("stray"):
        stray(case.kind, path, outside)
    else:
        exchange(case.kind, path, stranger)


def stray(kind: str, path: pathlib.Path, outside: pathlib.Path) -> None:
    """Put something beside the checkpoints."""
    if kind == "stray-file":
        path.write_text("stray")
    elif kind == "stray-link":
        path.symlink_to(outside)
    else:
        (path / "task-0-0").mkdir(parents=True)
        (path / "task-0-0" / "CURRENT").write_text("stray")


def exchange(kind: str, path: pathlib.Path, stranger: pathlib.Path) -> None:
    """Put something in the place of a whole checkpoint."""
    manifest = path / "manifest.json"
    if kind == "foreign":
        shutil.rmtree(path)
        copy(stranger / "checkpoints" / NEWEST, path)
    elif kind == "foreign-manifest":
        shutil.copy(stranger / "checkpoints" / NEWEST / "manifest.json", manifest)
    elif kind in ("newer", "older"):
        body = json.loads(manifest.read_bytes())["manifest"]
        manifest.write_bytes(signed({**body, "format": FORMAT + 1 if kind == "newer" else 1}))
    elif kind == "again":
        copy(path, path.with_name("5"))
    elif kind == "renamed":
        path.rename(path.with_name("9"))
    elif kind == "gone":
        shutil.rmtree(path)
    else:
        for store in [entry for entry in path.iterdir() if entry.is_dir()]:
            shutil.rmtree(store)
            if kind == "stores-previous":
                copy(path.with_name(OLDER) / store.name, store)


def sample(state: pathlib.Path, n: int, seed: int) -> list[Case]:
    """Return some cases: of every kind and file, and of the bytes so many."""
    draw = random.Random(seed)
    every = list(cases_of(state))
    many = [case for case in every if case.kind in ("byte", "cut") and case.path.startswith("checkpoints/")]
    job_file = [case for case in every if case.kind in ("byte", "cut") and not case.path.startswith("checkpoints/")]
    rest = [case for case in every if case.kind not in ("byte", "cut")]
    return (
        draw.sample(many, min(n, len(many)))
        + draw.sample(job_file, min(n // 100, len(job_file)))
        + draw.sample(rest, min(n // 40, len(rest)))
    )


def sweep(directory: pathlib.Path, backend: str, cases: list[Case], first: int = 0, note: pathlib.Path | None = None) -> Report:
    """Judge the cases from the `first` on; `note` is kept at the case under way."""
    made = Sweep(directory, backend)
    report = made.report
    mark = os.open(note, os.O_WRONLY | os.O_CREAT, 0o600) if note else -1
    for i in range(first, len(cases)):
        if mark >= 0:
            os.pwrite(mark, f"{i:12}".encode(), 0)
        report.cases += 1
        try:
            outcome = made.judge(cases[i], prove=i % PROOF_EVERY == 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not what a user should see
            outcome = f"{type(error).__name__}: {error}"
        if outcome in ("noticed", "refused", "same output"):
            report.outcomes[outcome] += 1
        else:
            report.violations.append(f"{cases[i]}: {outcome}")
    shutil.rmtree(made.work)
    return report


def isolated(directory: pathlib.Path, backend: str, n: int | None, seed: int) -> Report:
    """Sweep in a process of its own, as often as it takes to get behind all cases."""
    total, first = Report(), 0
    note, result = directory / "note", directory / "result.json"
    while True:
        result.unlink(missing_ok=True)
        arguments = [sys.executable, __file__, "--worker", str(directory), "--backend", backend, "--first", str(first), "--seed", str(seed)]
        ended = subprocess.run(arguments + ([] if n is None else ["--cases", str(n)]), cwd=ROOT, check=False, capture_output=True)
        if result.exists():
            said = json.loads(result.read_text())
            total.cases += said["cases"]
            total.runs += said["runs"]
            total.outcomes.update(said["outcomes"])
            total.violations += said["violations"]
            return total
        at = int(note.read_text()) if note.exists() else -1
        if at < first:
            raise RuntimeError(f"the sweep does not begin: {ended.stderr.decode()[-2000:]}")
        total.cases += at + 1 - first
        total.violations.append(f"case {at}: the interpreter died ({ended.returncode}): {ended.stderr.decode()[-500:]}")
        first = at + 1


def work(directory: pathlib.Path, backend: str, n: int | None, seed: int, first: int) -> None:
    """The other process."""
    state = directory / "whole" / "state"
    cases = list(cases_of(state)) if n is None else sample(state, n, seed)
    report = sweep(directory, backend, cases, first, directory / "note")
    facts = {"cases": report.cases, "runs": report.runs, "outcomes": report.outcomes, "violations": report.violations}
    (directory / "result.json").write_text(json.dumps(facts))


def campaign(directory: pathlib.Path, backend: str = "rocksdb", n: int | None = None, seed: int = 0) -> Report:
    """Prepare and sweep; `n`: only a sample of so many."""
    prepare(directory, backend)
    return isolated(directory, backend, n, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="rocksdb", choices=["rocksdb", "memory"])
    parser.add_argument("--cases", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", default=None)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    if asked.worker:
        work(pathlib.Path(asked.worker), asked.backend, asked.cases, asked.seed, asked.first)
        return 0
    room = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="corrupt-", dir=room)))
        report = campaign(directory, asked.backend, asked.cases, asked.seed)
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
