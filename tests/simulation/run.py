"""One seed: the real tasks, writers and control plane, stepped one at a time in a drawn order, over a simulated disk."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from streamdsl._native.event_time.clock import ManualClock
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.errors import StateError
from streamdsl.runtime.failures import explained
from streamdsl.runtime.job import Phase
from streamdsl.runtime.sharding import keeps_keys
from tests.simulation import checks
from tests.simulation.awaited import RunningClock, SimulatedLoop
from tests.simulation.checks import Violation
from tests.simulation.disk import Crashed, Directory, SimulatedDisk
from tests.simulation.endpoints import SimulatedSink, SimulatedSource
from tests.simulation.families import plan_with, sinks_of
from tests.simulation.family import SCHEMA
from tests.simulation.observed import STATE, FailingBackend, ObservedJob, SimulatedEnvironment, restores_met, stores_met
from tests.simulation.scenario import ENDS, PATIENT_MS, Start, describe, drawn_scenario, drawn_start

#: A patient start in which more happens goes round in circles: so often for each row, and so often more for each task that it passes.
#: A turn in which nothing happens does not count: the more actors there are, the more of them ask in vain.
STEPS_A_ROW, STEPS_A_ROW_AND_TASK = 200, 10
#: What happens without a row: watermarks, checkpoints, the end. As much as so many rows make.
ROWS_WITHOUT_ANY = 20
IMPATIENT_TURNS = 400
#: How often in a row time may pass, twice as much each time, without anything happening: more than any timeout.
MOST_RESTS = 20


class SeededRun:
    """Runs one seed to its end, or to the first violation.

    Attributes
    ----------
    story : list of str
        What happened, in a few lines.
    trace : list
        Everything that happened, step by step.
    covered : Counter
        What this seed really did.
    steps : int
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.scenario = drawn_scenario(self.draw)
        self.family = self.scenario.family
        self.disk = SimulatedDisk(self.draw)
        self.disk.root.entries["simulated"] = self.disk.root.durable["simulated"] = Directory()
        self.loop = SimulatedLoop(self.draw) if self.family.calls else None
        self.clock = ManualClock(10_000) if self.loop is None else RunningClock(10_000)
        self.sources = {
            name: SimulatedSource(
                name,
                SCHEMA,
                logs,
                self.clock,
                bounded=self.scenario.bounded,
                partitioned_by="key" if self.scenario.partitioned else None,
                fed=seed % 4 == 1,  # not drawn: what other seeds draw stays as it is
            )
            for name, logs in self.scenario.logs.items()
        }
        self.sinks = {name: SimulatedSink(name) for name in sinks_of(self.scenario.kind, self.scenario.variant)}
        self.history = checks.History()
        self.story: list[str] = [self.family.name]
        self.trace: list[Any] = [self.family.name]
        self.covered: Counter[str] = Counter(self.family.features)
        self.covered["idle splits"] += self.scenario.idles
        self.steps = 0
        self.starts = 0
        self._since: list[int] = []  # checkpoints completed in this start
        self._before: Manifest | None = None
        self._failed_at = 0  # calls of the disk that had failed when the last checkpoint completed
        self._first_faults = 0
        self._parallelism = 0
        self._unread = False  # a start that failed had met something that it could not read

    # What the coordinator decides ----------------------------------------------------------------------------------

    def completed(self, manifest: Manifest) -> None:
        self.covered["checkpoints completed"] += 1
        self.trace.append(f"checkpoint {manifest.checkpoint_id}")
        self.history.completed(manifest)
        checks.check_rising_shards(self._before, manifest)
        if not self.family.external:
            checks.check_split_watermarks(manifest, self.scenario.logs)
        if self._since and self._before is not None:
            self.covered.update(stores_met(self._before, manifest, self._start, self.disk.failed - self._failed_at))
        self._failed_at = self.disk.failed
        self._before = manifest
        self._since.append(manifest.checkpoint_id)

    def failed(self, checkpoint_id: int, reason: str) -> None:
        checks.check_given_up(self.disk, STATE / "checkpoints" / str(checkpoint_id) / "manifest.json")
        self.covered["checkpoints timed out" if "it took longer" in reason else "checkpoints failed"] += 1
        self.trace.append(f"failed {checkpoint_id}")

    # All starts ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Raise `Violation` if something is wrong."""
        with contextlib.nullcontext() if self.loop is None else self.loop.instead():
            self._run()

    def _run(self) -> None:
        number = 0
        while True:
            start = drawn_start(self.draw, self.scenario, number)
            number += 1
            self.story.append(describe(start))
            self.trace.append(self.story[-1])
            if self._incarnation(start):
                return
            if number > 60:
                raise Violation("progress", "the run was started 60 times and has not come to its end")

    def _incarnation(self, start: Start) -> bool:
        """Start once; return whether the run has come to its end."""
        self.starts += 1
        self._start = start
        job: ObservedJob | None = None
        try:
            job = self._started(start)
            if job is None:
                return False
            if not job.ended:
                self._drive(job, start)
            if job.error is not None:
                self._excuse(job.error, start)
                self.covered["runs failed"] += 1
                self._say("the run failed")
                self._let_go(job)
                return False
            if not job.ended:
                return self._crash(job, start, start.end if start.end in ENDS and start.end != "stop" else "crash")
            job.close()
            if job.error is not None:
                raise Violation("errors", f"closing failed: {job.error!r}")
            self._after_clean_end(job)
            return job.finished
        except Crashed:
            return self._crash(job, start, start.end)

    def _started(self, start: Start) -> ObservedJob | None:
        disk, environment = self.disk, SimulatedEnvironment(self.disk, start)
        disk.calm()
        disk.errors = {disk.calls + call: wrong for call, wrong in start.faults.items()}
        disk.bad_reads, disk.bad_appends = start.bad_reads, start.bad_appends
        disk.full = range(disk.calls + start.full[0], disk.calls + start.full[1])
        parallelism = start.config.parallelism
        ends = {**self.sources, **self.sinks}
        plan = plan_with(self.scenario.kind, self.scenario.variant, parallelism, self.scenario.shards, ends)
        for source in self.sources.values():
            source.opened = {}
        job = ObservedJob(self, plan, start.config, environment, clock=self.clock, seed=start.seed, channel_batches=start.channel_batches)
        self._first_faults = disk.failed
        self._since = []
        try:
            job.open()
        except Exception as error:  # noqa: BLE001 - what may not come out of a start, `_excuse` says
            self._excuse(error, start)
            self.covered["starts failed"] += 1
            # It may have set aside what it could not read, and then failed.
            self._unread |= disk.unread
            self._say("the start failed")
            self._let_go(job)
            return None
        self._opened(job, environment, start)
        return job

    def _opened(self, job: ObservedJob, environment: SimulatedEnvironment, start: Start) -> None:
        restored = environment.restored
        newest = self.history.newest
        self.history.restored(restored, excused=self._unread or self.disk.unread)
        self._unread = False
        self._before = restored
        if restored is not None:
            self.covered["restores"] += 1
            self.covered.update(restores_met(restored))
            self.covered["rescales"] += self._parallelism != start.config.parallelism
            self.covered["exchanges elided at a restore"] += any(map(keeps_keys, job.plan.stages))
            self.covered["fallbacks"] += restored.checkpoint_id < newest
        self._parallelism = start.config.parallelism
        self.trace.append(f"restored {0 if restored is None else restored.checkpoint_id}")
        if job.ended:
            return
        checks.check_positions(restored, {**self.sources, **self.sinks})
        checks.check_shard_watermarks(restored, job)
        for task in job.tasks:
            task.drain_rows = task.closing_rows = start.drain_rows
        if start.write_fails:
            for writer in environment.writers:
                writer.backend = FailingBackend(writer.backend, self.draw, start.write_fails, self._count)

    def _count(self, what: str) -> None:
        self.covered[what] += 1

    def _say(self, what: str) -> None:
        self.story.append(what)
        self.trace.append(what)

    def _excuse(self, error: BaseException, start: Start) -> None:
        """Only what the disk did, or too many failed checkpoints, may end a run."""
        if isinstance(error, StateError) and (self.disk.failed > self._first_faults or start.config.checkpoint_failure_timeout_ms < 2):
            return
        raise Violation("errors", f"the run failed: {type(error).__name__}: {error}") from error

    # How a start ends --------------------------------------------------------------------------------------------------

    def _crash(self, job: ObservedJob | None, start: Start, how: str) -> bool:
        self.covered["crashes"] += 1
        self.covered["crashes in a call"] += self.disk.dead
        if how.startswith("power cut"):
            self.covered["power cuts"] += 1
            self.disk.power_cut(start.cut)
            for sink in self.sinks.values():
                sink.power_cut(self.draw)
        self._say(f"{how}{f' ({start.cut})' if how.startswith('power') else ''}")
        if job is not None:
            self._let_go(job)
        return False

    def _let_go(self, job: ObservedJob) -> None:
        self.covered["storage errors"] += self.disk.failed - self._first_faults
        self.disk.dead = True  # a process that is gone touches nothing
        if self.loop is not None:
            self.loop.forget()
        try:
            job.abandon()
        except Crashed:
            pass
        finally:
            self.disk.dead = False

    def _after_clean_end(self, job: ObservedJob) -> None:
        self.covered["storage errors"] += self.disk.failed - self._first_faults
        for task in job.tasks:
            self.covered["blocked steps"] += task.metrics()["blocked"]
            self.covered["starved steps"] += task.metrics()["no_room"]
            if task.store is not None:
                figures = task.store.figures()
                self.covered["rows evicted"] += figures["evicted"]
                self.covered["cold rows read"] += figures["reads"]
        self.covered["read together"] = sum(source.read_together for source in self.sources.values())
        if job.tasks:
            checks.check_conservation(job)
        if job.tasks and len(self._since) >= 2 and self.disk.failed == self._first_faults:
            checks.check_no_orphans(self.disk, STATE / "checkpoints", self.history.complete, job.coordinator.completed)
            checks.check_histories(self.disk, job.environment.live)
        if not job.finished:
            return
        # A checkpoint taken while it drained knows that the input has ended: a later start leaves it at that.
        inputs = self._taken() if "drain" in self.story else self.scenario.inputs
        checks.check_results(self.family, inputs, self.sinks)
        if self.family.accounts is not None and "late" in self.sinks:
            self.covered["late by chance"] += self.sinks["late"].length
        if self.family.counts is not None:
            figures = self.family.counts(inputs)
            for name, value in figures.items():
                self.covered[name] += value
            if self.starts == 1 and job.tasks:
                checks.check_figures(job, figures)

    def _taken(self) -> dict[str, Any]:
        """Return the rows that had been taken when the input was declared to have ended."""
        assert self._before is not None
        taken = {}
        for name, logs in self.scenario.logs.items():
            numbers = set()
            for split, log in logs.items():
                position = self._before.sources[name][split]["position"]
                numbers.update(log.at[: 0 if position is None else position[2]])
            taken[name] = [row for row in self.scenario.inputs[name] if row.n in numbers]
        return taken

    # Steps -----------------------------------------------------------------------------------------------------------

    def _drive(self, job: ObservedJob, start: Start) -> None:
        """Step until the job has ended or the start is to end."""
        actors = _Actors(self, job, start)
        goal, after = start.after
        patient = start.config.checkpoint_timeout_ms == PATIENT_MS
        turns = None if patient else IMPATIENT_TURNS
        if start.end:
            actors.go(turns, lambda: len(self._since) >= goal)
            actors.go(after)
            if job.ended or self._interrupt(job, start.end, start.crash_call):
                return
        actors.go(turns)

    def _interrupt(self, job: ObservedJob, end: str, crash_call: int) -> bool:
        """Do what ends the start; return whether it is over at once."""
        if end in ("stop", "drain"):
            self.covered[f"{end}s"] += 1
            self._say(end)
            job.request_stop(drain=end == "drain")
            return False
        if end.endswith("in a call"):
            self.disk.crash_at = self.disk.calls + crash_call
            return False
        return True


class _Actors:
    """Tasks, writers and control of one start. Who has nothing to do is not asked again before one that it hears from has moved."""

    def __init__(self, run: SeededRun, job: ObservedJob, start: Start) -> None:
        self.run, self.job, self.start = run, job, start
        self.tasks, self.writers = job.tasks, job.environment.writers
        self.watermarks = checks.Watermarks(job, run.scenario.logs, idles=run.scenario.idles, external=run.family.external)
        weights = start.task_weights
        n = len(self.tasks)
        self.slots = [i for i in range(n) for _ in range(2 * weights[i % len(weights)])]
        self.slots += [n + i for i in range(len(self.writers)) for _ in range(start.writer_weight)]
        self.slots += [-1] * start.control_weight
        self.hears = self._hearing()
        rows = ROWS_WITHOUT_ANY + sum(map(len, run.scenario.inputs.values()))
        self.most = rows * (STEPS_A_ROW + STEPS_A_ROW_AND_TASK * n)

    def _hearing(self) -> list[int]:
        """Return for each actor, as bits, for whom there may be something to do once it has moved: itself, neighbours, its writer."""
        n = len(self.tasks)
        hears: list[set[int]] = [{i} for i in range(n + len(self.writers))]
        of_stage: dict[int, list[int]] = {}
        for i, task in enumerate(self.tasks):
            of_stage.setdefault(int(task.id.split(".")[0]), []).append(i)
        for stage in self.job.plan.stages:
            near = [edge.stage for edge in stage.edges] + [stage.id] * keeps_keys(stage)  # those go by one another's time
            for other in near:
                for a in of_stage[stage.id]:
                    for b in of_stage[other]:
                        hears[a].add(b)
                        hears[b].add(a)
        writers = {writer.name: n + i for i, writer in enumerate(self.writers)}
        for i, task in enumerate(self.tasks):
            if task.store is not None:
                hears[i].add(writers[task.store.name])
                hears[writers[task.store.name]].add(i)
        return [sum(1 << other for other in own) for own in hears]

    def go(self, turns: int | None, enough: Callable[[], bool] | None = None) -> None:
        """Step one actor after another: so many turns, until the job has ended, or until `enough` (asked after control) says so."""
        run, job, slots, hears = self.run, self.job, self.slots, self.hears
        trace, random_, n, m = run.trace, run.draw.random, len(self.tasks), len(slots)
        after, clock, tick = self.watermarks.after, run.clock, self.start.tick_ms
        steps = [*[task.step_once for task in self.tasks], *[writer.step for writer in self.writers]]
        everybody = (1 << len(steps)) - 1
        awake = everybody  # one bit for each actor: most turns only ask whether anybody is
        rests = taken = 0
        last = len(trace) + self.most  # each step in which something happens leaves an entry
        i = -1
        try:
            for _ in itertools.count() if turns is None else range(turns):
                i = slots[int(random_() * m)]
                if i < 0:
                    clock.ms += tick
                    progress = job.control_step()
                    if run.loop is not None:
                        progress = run.loop.step() or progress
                    if job.phase is Phase.ENDED or (enough is not None and enough()):
                        break
                    heard = everybody
                elif not awake >> i & 1:
                    if awake:
                        continue
                    progress = self.rest(rests)
                    rests = 0 if progress else rests + 1
                    awake = everybody
                    if job.phase is Phase.ENDED:
                        break
                    if progress:
                        trace.append("rest")
                    continue
                else:
                    progress = steps[i]()
                    heard = hears[i]  # itself too
                    if not progress:
                        awake &= ~(1 << i)
                taken += 1
                if progress:
                    if 0 <= i < n:
                        after(i)
                        if self.tasks[i].closing:
                            run.covered["steps with windows left to close"] += 1
                    awake |= heard
                    rests = 0
                    trace.append(i)
                    if len(trace) > last:
                        raise Violation("progress", f"the run goes round in circles: {self.most} steps")
        except Exception as error:
            if isinstance(error, Violation) or not 0 <= i < n:
                raise
            found = explained(error, [self.tasks[i]], job.plan)
            raise Violation("errors", f"task {self.tasks[i].id} failed: {type(found).__name__}: {found}") from error
        finally:
            run.steps += taken

    def rest(self, rests: int) -> bool:
        """Nobody has anything to do: let time pass. Doing so in vain for longer than anything may take is a deadlock."""
        if rests > MOST_RESTS:
            waiting = [f"{task.id}{' (ended)' if task.ended else ''}" for task in self.tasks]
            raise Violation("deadlock", f"nobody has anything to do and the run has not ended; tasks {', '.join(waiting)}")
        self.run.clock.ms += 1 << rests
        ended = self.run.loop is not None and self.run.loop.step()
        return bool(self.job.control_step()) or ended
