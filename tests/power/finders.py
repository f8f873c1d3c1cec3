"""Who looks for a planted bug: the simulator, a power cut, kills of the real process, a named test.

Each answers how far it got until the bug showed: a number of seeds, disk states, kills; None if it did not show within the bound.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamdsl._native.includes.faults import planted as is_planted
from streamdsl.errors import StateError
from tests.power.bank import Planted
from tests.power.simulated import VARIABLE, planted, run_seed
from tests.trust import test_lost_writes
from tests.trust.filesystems import Chooser, Disk, RecordingFileSystem

__all__ = ["find", "quiet"]

ROOT = Path(__file__).resolve().parents[2]
#: A run under a planted bug may hang: so long, and it counts as found.
LONGEST_S = 300.0


def find(bug: Planted) -> int | None:
    """Look for a planted bug within its bound."""
    return _by(bug.finder)(bug.finder, bug.bound, bug.name)


def quiet(finder: str, bound: int) -> bool:
    """Whether a finder finds nothing where nothing is planted."""
    return _by(finder)(finder, bound, None) is None


def _by(finder: str) -> Any:
    return {"simulator": _simulator, "power cut": _power_cut, "kills": _kills}.get(finder, _test)


def _simulator(finder: str, bound: int, bug: str | None) -> int | None:
    for seed in range(bound):
        outcome = run_seed(seed, bug)
        if outcome.violation is not None:
            assert bug is not None, str(outcome)
            return seed + 1
    return None


class _Watched(RecordingFileSystem):
    """Writes down that a new file was synced only if it was: the recorder takes the file system's word for it."""

    def write_new(self, path: Path, chunks: Any) -> None:
        super().write_new(path, chunks)
        if is_planted("manifest-not-synced"):
            self.log.pop()


def _power_cut(finder: str, bound: int, bug: str | None) -> int | None:
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        for number, (story, prefix, disk) in enumerate(_disks(place, bound, bug), 1):
            try:
                test_lost_writes.check(story, prefix, disk)
            except (AssertionError, StateError, OSError):
                if bug is None:
                    raise
                return number
            shutil.rmtree(disk)
        return None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _disks(place: Path, bound: int, bug: str | None) -> Iterator[tuple[Any, int, Path]]:
    """Make the disks that a power cut may leave, one after another: two states of each moment, then two more, …"""
    recorded, made = test_lost_writes.RecordingFileSystem, 0
    test_lost_writes.RecordingFileSystem = _Watched  # type: ignore[misc]
    try:
        (place / "life").mkdir()
        with planted(bug):
            story = test_lost_writes.record(place / "life", "restarted", "both")
    finally:
        test_lost_writes.RecordingFileSystem = recorded  # type: ignore[misc]
    for turn in range(bound):
        disk = Disk()
        for prefix, entry in enumerate(story.filesystem.log, 1):
            disk.apply(entry)
            for chooser in (Chooser("mixed", prefix * 31 + turn), Chooser("none" if turn == 0 else "torn", prefix + turn)):
                if made == bound:
                    return
                made += 1
                left = place / "disk"
                left.mkdir()
                disk.write_to(left, chooser)
                yield story, prefix, left


def _kills(finder: str, bound: int, bug: str | None) -> int | None:
    sys.path.insert(0, str(ROOT / "tests" / "crash"))
    import campaign

    directory = Path(tempfile.mkdtemp(prefix="power-"))
    try:
        with planted(bug):
            report = campaign.campaign(bound, 1, directory, transactions=12_000, rate=2_500, until_violation=True)
        if bug is None:
            assert not report.violations, str(report)
        return report.kills if report.violations else None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _test(finder: str, bound: int, bug: str | None) -> int | None:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if bug is not None:
        environment[VARIABLE] = bug
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", finder]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        return 1
    if done.returncode not in (0, 1) and not done.returncode < 0:
        # Nothing was run: that is not a test that fails.
        raise RuntimeError(f"{finder}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return None if done.returncode == 0 else 1
