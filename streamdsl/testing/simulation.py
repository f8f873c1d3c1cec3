"""Simulation: a topology under a seeded scheduler, with crashes. One thread, every choice drawn from the seed."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from streamdsl._native.event_time.clock import ManualClock
from streamdsl.compiler import compile
from streamdsl.config import Config
from streamdsl.dsl.topology import Topology
from streamdsl.errors import InternalError
from streamdsl.logical.plan import LogicalPlan
from streamdsl.runtime.environment import MemoryEnvironment
from streamdsl.runtime.failures import explained
from streamdsl.runtime.job import Job
from streamdsl.testing.data import Data, SourceRows, TopologyLike, built, source_rows
from streamdsl.testing.endpoints import DriverSink, DriverSource, Entry
from streamdsl.testing.promises import Judgements, judge

__all__ = ["Results", "Simulation", "judged", "reference"]

_log = logging.getLogger("streamdsl")

#: (event time in ms, row) of every sink, in the order in which they were written.
Results = dict[str, list[tuple[int, dict[str, Any]]]]

#: A run that takes more steps is stuck: so many, and so many more for each row.
MOST_STEPS, STEPS_A_ROW = 200_000, 2_000


class Simulation:
    """One run of a topology in which everything that is left to chance is drawn from a seed.

    The seed draws the splits of each source, the cuts of their rows into batches, the parallelism, which task is stepped
    next, when checkpoints begin, and where the job crashes; after a crash it goes on from its last checkpoint, at another
    parallelism. Tasks, state and checkpoints are the real ones, in memory. The same seed gives the same run, step by step.

    Rows are dealt out to splits so that the topology's promises hold: where an operator looks at the order of arrival, rows
    of one key go to one split; a source with late rows has one split where lateness counts.

    Parameters
    ----------
    topology : Topology or callable
        A topology, or a function without arguments that builds it.
    data : mapping
        For each source all its rows, in their order. A source without ``timestamp=`` gives them the times 0, 1, 2, … ms.
    seed : int
    crashes : int
        How often it crashes at most; a run may end before.

    Attributes
    ----------
    restores : int
        How often it was started again after a crash.
    resumed : list of int
        The checkpoints that it went on from.
    story : list of str
        What happened, in a few lines.

    Examples
    --------
    >>> from streamdsl import Topology, count, memory
    >>> topology = Topology("visits")
    >>> visits = topology.stream(memory("visits", schema={"user": str, "at": int}), timestamp="at")
    >>> visits.key_by("user").aggregate(n=count()).to(memory("counts"), name="counts")
    >>> rows = [{"user": user, "at": at} for at, user in enumerate("abacab")]
    >>> simulation = Simulation(topology, {"visits": rows}, seed=7)
    >>> last = {row["user"]: row["n"] for _, row in simulation.run()["counts"]}
    >>> sorted(last.items())
    [('a', 3), ('b', 2), ('c', 1)]
    >>> simulation.trace == Simulation(topology, {"visits": rows}, seed=7).trace
    True
    """

    def __init__(self, topology: TopologyLike, data: Data, seed: int, *, crashes: int = 2) -> None:
        self.topology, self.seed, self.crashes = built(topology), seed, crashes
        self.restores = 0
        self.resumed: list[int] = []
        self.story: list[str] = []
        self._random = random.Random(seed)
        plan = _plan(self.topology)
        rows = source_rows(plan, data)
        judgements = judge(plan, rows)
        self._environment = MemoryEnvironment()
        self._clock = ManualClock(_start_ms(rows))
        self._trace = _Trace()
        self._sources = {name: self._dealt(source, judgements) for name, source in rows.items()}
        self._sinks = {name: DriverSink(name) for name in self.topology.sinks()}
        self._most_steps = MOST_STEPS + STEPS_A_ROW * sum(source.batch.num_rows for source in rows.values())
        self._results: Results | None = None

    def __repr__(self) -> str:
        return f"Simulation of {self.topology.name!r}, seed {self.seed}"

    @property
    def trace(self) -> str:
        """Everything that was drawn and what it led to, as text: two runs are the same if their traces are.

        Each task's step (`+`: it did something), each step of the state writers (`w`) and of the control plane (`c`), each
        checkpoint, crash and restore, and each row that reached a sink.
        """
        self.run()
        return str(self._trace)

    def run(self) -> Results:
        """Run to the end and return (event time, row) of every sink, in the order in which they were written.

        Raises
        ------
        StreamError
            What the run itself raises: a user's function has failed, a record is bad.
        InternalError
            The run does not come to its end.
        """
        if self._results is None:
            _log.addFilter(_silence)
            try:
                while not self._incarnation(crash=self.restores < self.crashes):
                    self.restores += 1
            except Exception as error:
                error.add_note(f"in {self!r}: {'; '.join(self.story)}")
                raise
            finally:
                _log.removeFilter(_silence)
            self._results = {name: list(sink.rows) for name, sink in self._sinks.items()}
        return self._results

    # Before the first step ---------------------------------------------------------------------------------------

    def _dealt(self, source: SourceRows, judgements: Judgements) -> DriverSource:
        """Deal the rows out to the logs of a few splits, and cut each log into batches."""
        name = source.node.name
        splits = 1 if name in judgements.alone else self._random.randint(1, 3)
        driver = source.driver(splits)
        sizes = []
        for split, rows in enumerate(source.dealt(judgements.together.get(name, ()), splits, self._random)):
            entries = driver.logs[str(split)].entries
            while rows:
                batch, rows = self._cut(rows)
                entries.append(source.entry(batch))
                sizes.append(len(batch))
                if source.node.external_watermarks and (times := [t for row in rows if (t := source.times[row]) is not None]):
                    entries.append(Entry(watermark=min(times) - 1))
            entries.append(Entry(end=True))
            sizes.append(0)
        self._trace.event(f"source {name}: {splits} splits, batches of {' '.join(map(str, sizes))}")
        self.story.append(f"{name} in {splits} split{'s' * (splits > 1)}")
        return driver

    def _cut(self, rows: list[int]) -> tuple[list[int], list[int]]:
        size = self._random.choice([1, 1, 2, 3, 5, 8, 20, 50, 50, len(rows)])
        return rows[:size], rows[size:]

    # One incarnation ---------------------------------------------------------------------------------------------

    def _incarnation(self, *, crash: bool) -> bool:
        """Run until the end, or until it crashes; return whether it was the end."""
        job = self._started()
        last, awaited = self._most_steps, None
        if crash and self._random.random() < 0.3:
            last = self._random.randint(1, self._random.choice([20, 200, 2_000]))
        elif crash:
            awaited = self._latest(job) + self._random.choice([1, 1, 1, 2, 4])
        step = 0
        while not job.ended and step < last:
            self._step(job)
            step += 1
            if awaited is not None and self._latest(job) >= awaited:
                # What came behind a checkpoint must be undone: some of it has to happen first.
                awaited, last = None, step + self._random.choice([0, 3, 30])
        if not job.ended:
            if step == self._most_steps:
                raise InternalError(f"the job does not end within {step} steps", remedy="please report it, with the topology and the seed")
            self._trace.event("crash")
            self.story.append("crash")
            job.abandon()
            return False
        if job.error is not None:
            raise job.error
        self._trace.event("end")
        job.close()
        return True

    def _started(self) -> Job:
        parallelism = self._random.randint(1, 4)
        config = Config(
            parallelism=parallelism,
            state_backend="memory",
            checkpoint_interval=self._random.choice([1, 1, 5, 30]),
            batch_rows=self._random.choice([1, 2, 5, 40, 4096]),
        )
        plans = compile(self.topology, parallelism=parallelism, bind={**self._sources, **self._sinks})
        job = Job(plans.physical, config, self._environment, clock=self._clock, seed=self._random.getrandbits(30))
        job.open()
        restored = max(self._environment.completed, default=None)
        self.resumed += [] if restored is None else [restored]
        begun = f"parallelism {parallelism}" + ("" if restored is None else f" from checkpoint {restored}")
        self._trace.begin(f"{begun}, interval {config.checkpoint_interval}, batches of {config.batch_rows}", self._sinks)
        self.story.append(begun)
        return job

    @staticmethod
    def _latest(job: Job) -> int:
        return max(job.coordinator.completed, default=0) if job.tasks else 0

    def _step(self, job: Job) -> None:
        self._clock.ms += self._random.randint(0, 2)
        choice = self._random.random()
        if choice < 0.7:
            task = self._random.choice(job.tasks)
            try:
                progress = task.step_once()
            except Exception as error:
                found = explained(error, [task], job.plan)
                if found is error:
                    raise
                raise found from error
            self._trace.step(task.id, progress)
        elif choice < 0.85:
            self._trace.step("w", job.write_step())
        else:
            self._trace.step("c", job.control_step())
            self._trace.checkpoint(self._latest(job))
        self._trace.rows(self._sinks)


def reference(topology: TopologyLike, data: Data) -> Results:
    """Return what comes out at parallelism 1, with one split and one batch a source, without a crash; see `Simulation`.

    Examples
    --------
    >>> from streamdsl import Topology, col, memory
    >>> topology = Topology("doubling")
    >>> topology.stream(memory("numbers", schema={"n": int})).select(twice=col("n") * 2).to(memory("doubled"))
    >>> reference(topology, {"numbers": [{"n": 1}, {"n": 21}]})
    {'doubled': [(0, {'twice': 2}), (1, {'twice': 42})]}
    """
    made = built(topology)
    rows = source_rows(_plan(made), data)
    sources = {}
    for name, source in rows.items():
        sources[name] = source.driver(1)
        everything = [source.entry(range(source.batch.num_rows))] if source.batch.num_rows else []
        sources[name].logs["0"].entries[:] = [*everything, Entry(end=True)]
    sinks = {name: DriverSink(name) for name in made.sinks()}
    most = max((source.batch.num_rows for source in rows.values()), default=0)
    config = Config(state_backend="memory", batch_rows=min(max(most, 1), 10**6))
    job = Job(compile(made, bind={**sources, **sinks}).physical, config, MemoryEnvironment(), clock=ManualClock(_start_ms(rows)))
    job.open()
    job.run_until_quiet()
    job.close()
    return {name: list(sink.rows) for name, sink in sinks.items()}


def judged(topology: Topology, data: Data) -> Judgements:
    """Return what the sinks of a topology deserve over these rows."""
    plan = _plan(topology)
    return judge(plan, source_rows(plan, data))


def _plan(topology: Topology) -> LogicalPlan:
    # What counts is what runs: the optimiser gathers the operators of a keyed stream into one chain.
    return compile(topology).optimised


def _start_ms(rows: Mapping[str, SourceRows]) -> int:
    """Return where the clock begins: at 0, or where no row is ahead of it if a source minds that."""
    if all(source.node.most_ahead_ms is None for source in rows.values()):
        return 0
    return max((time for source in rows.values() for time in source.times if time is not None), default=0)


def _silence(record: logging.LogRecord) -> bool:
    """Let nothing but errors through: what a run warns of, each of a hundred would say again."""
    return record.levelno >= logging.ERROR


class _Trace:
    """What happened, line by line. Steps share a line until something more than a step happens."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._steps: list[str] = []
        self._written: dict[str, int] = {}
        self._checkpoint = 0

    def step(self, who: str, progress: bool) -> None:
        self._steps.append(f"{who}{'+' if progress else ''}")

    def event(self, text: str) -> None:
        if self._steps:
            self._lines.append(" ".join(self._steps))
            self._steps = []
        self._lines.append(text)

    def begin(self, text: str, sinks: Mapping[str, DriverSink]) -> None:
        self.event(text)
        # What no checkpoint covered is gone from the sinks.
        self._written = {name: len(sink.rows) for name, sink in sinks.items()}

    def checkpoint(self, latest: int) -> None:
        if latest > self._checkpoint:
            self._checkpoint = latest
            self.event(f"checkpoint {latest}")

    def rows(self, sinks: Mapping[str, DriverSink]) -> None:
        for name, sink in sinks.items():
            known = self._written[name]
            if len(sink.rows) > known:
                for time, row in sink.rows[known:]:
                    self.event(f"{name} {time} {row}")
                self._written[name] = len(sink.rows)

    def __str__(self) -> str:
        return "\n".join([*self._lines, " ".join(self._steps)]) + "\n"
