"""One small real job, stepped by hand: a frame, windows, a processor with state and timers, one JSON-lines file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamdsl import Config, Processor, Topology, col, count, files, lit, rolling, tumbling
from streamdsl._native.event_time.clock import ManualClock
from streamdsl._native.state.writer import BACKLOG_BYTES
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.recovery import StateDirectory
from streamdsl.compiler import compile
from streamdsl.physical.node import PhysicalPlan
from streamdsl.runtime.environment import DirectoryEnvironment
from streamdsl.runtime.job import Job

ROWS = 240
BATCH = 12
SCHEMA = {"key": str, "at": int, "x": float}
OUT = {"kind": str, "key": str, "at": int, "value": float}


class Quiet(Processor):
    """Counts a key's rows, keeps the last three, and says when it has been quiet."""

    output = OUT

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", int)
        self.last = ctx.state.list("last", float)

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        seen = (self.seen.get() or 0) + 1
        self.seen.set(seen)
        self.last.append(row.x)
        ctx.set_timer(ctx.timestamp + 400, name="quiet")
        if seen % 3 == 0:
            yield {"kind": "third", "key": row.key, "at": row.at, "value": sum(self.last.get())}
            self.last.clear()

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield {"kind": "quiet", "key": ctx.key, "at": timer.timestamp, "value": float(self.seen.get() or 0)}


def write_input(path: Path, rows: int = ROWS, seed: int = 5) -> None:
    """Write the rows that the job reads."""
    draw = random.Random(seed)
    now = 1_000
    with path.open("w") as out:
        for _ in range(rows):
            now += draw.choice([0, 5, 40, 90])
            row = {"key": f"k{draw.randrange(6)}", "at": now - draw.randint(0, 20), "x": draw.randrange(100) / 4}
            out.write(json.dumps(row) + "\n")


def topology(directory: Path, name: str = "trust", *, source: Path, extra: bool = False, frame: bool = True) -> Topology:
    """Return the job; `extra`: one more operator with state, `frame`: with the first one."""
    made = Topology(name)
    rows = files(source, SCHEMA, name="in")
    keyed = made.stream(rows, timestamp="at", disorder=20).key_by("key")
    shape = {"key": "key", "at": "at"}
    streams = [
        keyed.window(tumbling(300)).aggregate(value=col("x").sum(), name="sums").select(
            kind=lit("sum"), key=col("key"), at=col("window_end").cast("int64"), value=col("value")
        ),
        keyed.process(Quiet(), name="quiet"),
    ]  # fmt: skip
    if frame:
        framed = keyed.with_columns(n=count().over(rolling(250)), mean=col("x").mean().over(rolling(250)), name="recent")
        streams.append(framed.select(kind=lit("mean"), **{k: col(v) for k, v in shape.items()}, value=col("mean") * col("n")))
    if extra:
        more = keyed.window(rolling(100)).with_columns(n=count(), name="more")
        streams.append(more.select(kind=lit("more"), **{k: col(v) for k, v in shape.items()}, value=col("n").cast("float64")))
    streams[0].merge(*streams[1:]).to(files(directory / "out.jsonl", name="out"))
    return made


class Environment(DirectoryEnvironment):
    """A state directory whose file system a test has made."""

    def __init__(self, path: Path, backend: str, filesystem: FileSystem | None, journal_bytes: int) -> None:
        super().__init__(path, backend)
        self.filesystem, self.journal_bytes = filesystem, journal_bytes

    def _take(self, plan: PhysicalPlan) -> None:
        self.directory = StateDirectory(self.path, plan.name, self.filesystem)
        self.storage = self.directory.storage


class Stage:
    """Where the job runs: a directory with `out.jsonl` and `state`, and `in.jsonl` unless `source` is elsewhere.

    `journal_bytes`: 0 makes a base at every checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        backend: str = "rocksdb",
        *,
        source: Path | None = None,
        plan: PhysicalPlan | None = None,
        journal_bytes: int = BACKLOG_BYTES,
        **settings: Any,
    ) -> None:
        self.directory, self.backend, self.journal_bytes = directory, backend, journal_bytes
        self.state = directory / "state"
        self.settings = {"batch_rows": BATCH, "state_backend": backend, "checkpoint_failure_timeout": "7d", **settings}
        self.clock = ManualClock(0)
        self.source = directory / "in.jsonl" if source is None else source
        self.plan = plan or self.planned()
        if not self.source.exists():
            write_input(self.source)

    def planned(self, name: str = "trust", **shape: bool) -> PhysicalPlan:
        """Return the plan of the job, or of a variant of it."""
        return compile(topology(self.directory, name, source=self.source, **shape), parallelism=1).physical

    def job(self, filesystem: FileSystem | None = None, plan: PhysicalPlan | None = None) -> Job:
        """Return the job, not yet opened."""
        environment = Environment(self.state, self.backend, filesystem, self.journal_bytes)
        return Job(plan or self.plan, Config(**self.settings), environment, clock=self.clock)

    def output(self) -> list[str]:
        """Return the lines of the sink."""
        return (self.directory / "out.jsonl").read_text().splitlines()


def step(job: Job, steps: int) -> None:
    """Let every task do so many pieces of work, and the writers what follows."""
    for _ in range(steps):
        job.step_tasks()
        job.write_step()


def finish(job: Job) -> None:
    """Run to the end of the input and its last checkpoint."""
    for _ in range(100_000):
        progress = job.step_tasks()
        progress |= job.write_step()
        progress |= job.control_step()
        if job.ended:
            break
    if job.error is not None:
        raise job.error
    assert job.finished
    job.close()


def checkpoint(job: Job, most: int = 50) -> int | None:
    """Take a checkpoint with as little other work as possible; None: it failed."""
    for task in job.tasks:
        task.drain_rows = 512  # by the few of the checked build, the input would be at its end before the state is
    failed = job.coordinator.failed
    checkpoint_id = job._trigger(job.clock.monotonic_ms())
    for _ in range(most):
        if job.error is not None:
            raise job.error
        if checkpoint_id is None or checkpoint_id in job.coordinator.completed:
            return checkpoint_id
        if job.coordinator.failed > failed and job.coordinator.may_trigger():
            return None
        job.step_tasks()
        job.write_step()
        job.control_step()
    raise AssertionError("the checkpoint neither completes nor fails")
