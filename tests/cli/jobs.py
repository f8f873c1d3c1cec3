"""A job that runs until it is stopped, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Counts in windows of ten records. ROWS records at RATE a second: hours, unless a test says otherwise.
JOB = """
    from pathlib import Path
    from streamdsl import Topology, files, tumbling

    here = Path(__file__).parent
    topology = other = Topology("counting")
    read = files(here / "in.csv", schema={"k": str, "v": int, "at": int}, rate=float((here / "rate").read_text()))
    keyed = topology.stream(read, timestamp="at", name="in").key_by("k")
    keyed.window(tumbling("1s")).count().to(files(here / "out.jsonl"), name="out")
    number = 42
"""


def write_job(place: Path, *, rows: int = 100_000, rate: float = 200) -> Path:
    """Write the job into `place` and return its file."""
    (place / "in.csv").write_text("k,v,at\n" + "".join(f"k{i % 3},{i},{100 * i}\n" for i in range(rows)))
    (place / "rate").write_text(str(rate))
    job = place / "counting.py"
    job.write_text(textwrap.dedent(JOB))
    return job


def environment(place: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: nothing of ours from outside, state in `place`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMDSL_")}
    return {**kept, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(place / "state-home"), **(more or {})}


def command(
    *arguments: object, place: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamdsl", *map(str, arguments)],
        cwd=cwd or place,
        env=environment(place, env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Worker:
    """A worker that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []

    def until(self, text: str) -> str:
        """Wait for a line of standard error that has `text` in it and return it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}: {''.join(self.said)}")

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and all it said."""
        _, rest = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.said) + rest


@contextmanager
def worker(*arguments: object, place: Path, env: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """Start ``streamdsl … worker …`` in `place`; it is killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "streamdsl", *map(str, arguments)],
        cwd=place,
        env=environment(place, env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()
