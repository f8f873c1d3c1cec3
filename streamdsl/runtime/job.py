"""One incarnation of a topology: its tasks, its checkpoints, what it restored. No threads: others step it."""

from __future__ import annotations

import enum
import logging
import random
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.includes.faults import fault, planted
from streamdsl._native.task.task import Task
from streamdsl.checkpoint.coordinator import LEAST_FAILURES, Coordinator, Settings
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.meanings import check_meanings, watermarks
from streamdsl.checkpoint.savepoint import CheckpointRequest
from streamdsl.config import Config
from streamdsl.errors import InternalError, StateError, StreamError
from streamdsl.physical.node import PhysicalPlan
from streamdsl.physical.views import views
from streamdsl.runtime import metrics
from streamdsl.runtime.commit import CommitPoint, transactional_sinks
from streamdsl.runtime.deploy import CHANNEL_BATCHES, Deployment, Environment, deploy, lookups
from streamdsl.runtime.environment import JobEnvironment
from streamdsl.runtime.failures import explained
from streamdsl.runtime.listener import Listener
from streamdsl.runtime.new_input import has_new_input
from streamdsl.runtime.restoring import as_damage, changed_meanings, say_where
from streamdsl.runtime.sharding import with_shards

log = logging.getLogger("streamdsl")

#: A run that is quiet has nothing left to do; one that is not after so many steps is stuck in a loop.
QUIET_LIMIT = 10_000_000
#: How often the control plane looks at its clock when nothing wakes it: while something is due soon, or at a stop, and else.
CONTROL_INTERVAL_S, LONGEST_PAUSE_S = 0.005, 0.05


class Phase(enum.Enum):
    """Where a job is."""

    RUNNING = "running"
    STOPPING = "stopping"  # a last checkpoint is on its way; windows stay open
    FINISHING = "finishing"  # all input has ended; the checkpoint that says so is on its way
    ENDED = "ended"


class Job:
    """Runs `plan` from where the last checkpoint in `environment` left it.

    `open` restores and deploys; then `step_tasks`, `write_step` and `control_step` are called, in any order and from up to
    three sides (workers, state writer, control), until `ended`.
    """

    def __init__(
        self,
        plan: PhysicalPlan,
        config: Config,
        environment: JobEnvironment,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        channel_batches: int = CHANNEL_BATCHES,
        worker: str = "",
        again: bool = False,
    ) -> None:
        self.plan, self.config, self.environment = plan, config, environment
        self.clock = clock or Clock()
        self.listener = Listener()
        self.phase = Phase.RUNNING
        self.finished = False
        self.error: BaseException | None = None
        self.checkpoints = metrics.CheckpointFigures()
        self.start = metrics.StartFigures()
        self._seed = seed
        self._channel_batches = channel_batches
        self._random = None if seed is None else random.Random(seed)
        self.commit_point = CommitPoint(plan, config, worker, again=again) if transactional_sinks(plan) else None
        #: Where a commit waits: a thread of its own where there are threads, else here and now.
        self.defer: Callable[[Callable[[], None]], None] = lambda work: work()
        self._to_commit: Manifest | None = None
        self._deployment: Deployment | None = None
        self._ended_tasks: set[str] = set()
        self._final_id: int | None = None
        self._triggered_at = 0
        self._wanted: list[CheckpointRequest] = []  # that wait for a checkpoint to begin
        self._under_way: list[CheckpointRequest] = []  # that wait for the one under way

    # ------------------------------------------------------------------ beginning and end

    def open(self) -> None:
        """Take the state directory, restore the last checkpoint and deploy.

        Raises
        ------
        StateError
            The directory cannot be used, or the checkpoint does not fit the topology.
        ConnectorError
            A source or sink cannot be opened.
        """
        with self.start.starting():
            self._open()

    def _open(self) -> None:
        try:
            restored = self._open_environment()
            if restored is not None and restored.finished and not has_new_input(self.plan, restored):
                self.finished = True
                self.phase = Phase.ENDED
                return
            changed = changed_meanings(self.plan, self.config, restored)
            self.plan = with_shards(self.plan, restored)
            environment = Environment(
                config=self.config,
                clock=self.clock,
                listener=self.listener,
                new_store=self.environment.new_store,
                transaction=None if self.commit_point is None else self.commit_point.transaction,
                seed=self._seed,
                channel_batches=self._channel_batches,
                sources={name: splits for name, splits in restored.sources.items() if name not in changed} if restored else {},
                operators=restored.operators if restored else {},
                behind=restored.behind if restored else {},
                shard_watermarks=watermarks(restored, lookups(self.plan)) if restored else {},
                arrivals=restored.arrivals if restored else 0,
            )
            with as_damage(restored), self.start.restoring(None if restored is None else restored.checkpoint_id):
                self._deployment = deploy(self.plan, environment)
                self._load(restored)
                fault("FP28")
            self.coordinator = Coordinator(
                self.plan.name,
                self.plan.shards,
                [task.id for task in self.tasks],
                self.environment.owners(self._deployment),
                self.environment.storage,
                self._settings(),
                # It must not hold the job, which holds it: an ended job would be left to the garbage collector.
                weakref.proxy(self),
                completed=self.environment.completed,
                meanings=self._deployment.meanings(self.plan),
                dropped=self.config.drop_state,
                views=views(self.plan),
            )
            # Last of all: what cannot be opened so far has touched no output.
            if self.commit_point is not None:
                self.commit_point.take_over()
                fault("FP29")
                self.commit_point.begin(self._restored)
            self._deployment.open_sinks()
            say_where(self.plan.name, restored)
        except BaseException as error:
            self.error = error
            self.close()
            raise

    def _open_environment(self) -> Manifest | None:
        """Find the checkpoint to go on from: the newest, or the one that the last transaction has committed."""
        if self.commit_point is None:
            restored = self.environment.open(self.plan)
        else:
            # The directory is locked first, and nobody is fenced yet: a start that is refused must not stop the worker that runs.
            restored = self.environment.open(self.plan, self._choose)
            self.commit_point.check(restored)
        self._restored = restored
        return None if restored is None else restored.manifest

    def _choose(self, published: Sequence[int]) -> int:
        assert self.commit_point is not None
        self.commit_point.look()
        return self.commit_point.choose(published)

    def _settings(self) -> Settings:
        config = self.config
        return Settings(
            interval_ms=config.checkpoint_interval_ms,
            timeout_ms=config.checkpoint_timeout_ms,
            failure_timeout_ms=config.checkpoint_failure_timeout_ms,
            # Until a transaction has committed a checkpoint, the one before it is what a restart needs.
            retained=config.retained_checkpoints if self.commit_point is None else max(2, config.retained_checkpoints),
        )

    def _load(self, restored: Manifest | None) -> None:
        assert self._deployment is not None
        drop_state: Collection[str] = self.config.drop_state
        changed: frozenset[str] = frozenset()
        if restored is not None:
            changed = check_meanings(restored, self._deployment.meanings(self.plan), drop_state, self.config.keep_state)
        self.environment.load(self._deployment, restored, drop_state, self.listener, self.config.state_memory_bytes, changed)
        for chain in self._deployment.chains:
            for operator in chain.operators:
                operator.restored()

    def close(self, *, commit: bool = True) -> None:
        """Let everything go: writers, readers, databases, the state directory. What fails on the way becomes the job's error.

        Without `commit`, or when the job has failed, sinks are not told of a checkpoint that has just completed: the next start tells them.
        """
        letting_go: list[Callable[[], None]] = []
        if commit and self.error is None and self._deployment is not None:
            letting_go += [self.coordinator.abort, *[task.commit_now for task in self.tasks]]
        letting_go += [task.close for task in self.tasks]
        if self.commit_point is not None:
            letting_go.append(self.commit_point.transaction.close)
        letting_go.append(self._close_environment)
        self.phase = Phase.ENDED
        for let_go in letting_go:
            try:
                let_go()
            except Exception as error:  # noqa: BLE001 - whatever it was, the rest must be let go all the same
                self.error = self.error or explained(error, self.tasks, self.plan)

    def _close_environment(self) -> None:
        self.environment.close(failed=self.error is not None)

    def abandon(self) -> None:
        """Let go as a crash would: nothing is committed, flushed or told."""
        self.phase = Phase.ENDED
        for task in self.tasks:
            task.abandon()
        self.environment.close()

    # ------------------------------------------------------------------ work

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks."""
        return () if self._deployment is None else self._deployment.tasks

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more: finished, stopped or failed."""
        return self.phase is Phase.ENDED

    def tasks_by_thread(self) -> list[list[Task]]:
        """Return the tasks of each worker thread: those of one index together, so that a key's way stays in one thread."""
        threads: list[list[Task]] = [[] for _ in range(self.plan.parallelism)]
        for task in self.tasks:
            threads[int(task.id.split(".")[1]) % self.plan.parallelism].append(task)
        return [tasks for tasks in threads if tasks]

    def write_step(self) -> bool:
        """Move state from the write streams into the databases; return whether there was any."""
        progress = False
        for writer in self.environment.writers:
            progress |= writer.step()
        return progress

    @property
    def evicts(self) -> bool:
        """Whether state has been larger than its memory: tasks may wait for their writers then."""
        return any(writer.asked for writer in self.environment.writers)

    def control_step(self) -> bool:
        """Take in what was reported, begin a checkpoint if one is due, notice the end."""
        progress = False
        for event in self.listener.events():
            progress = True
            self._on_event(event)
            if self.ended:
                return True
        now = self.clock.monotonic_ms()
        self.coordinator.check_timeout(now)
        if self.phase is Phase.RUNNING and len(self._ended_tasks) == len(self.tasks):
            self.phase = Phase.FINISHING
            fault("FP30")
            if planted("tail-not-committed"):
                self._end(None)
                return True
        if self.phase in (Phase.STOPPING, Phase.FINISHING):
            if self._final_id is None and self._may_trigger() and self.coordinator.may_retry(now):
                self._final_id = self._trigger(now, finished=self.phase is Phase.FINISHING)
                progress = True
        elif self.phase is Phase.RUNNING and self._may_trigger() and (self.coordinator.due(now) or self._wanted):
            progress |= self._trigger(now) is not None
        return progress

    def pause_s(self) -> float:
        """Return how long the control plane may wait for a report before `control_step` has something to do."""
        if self.phase is not Phase.RUNNING:
            return CONTROL_INTERVAL_S
        due_s = self.coordinator.due_in_ms(self.clock.monotonic_ms()) / 1000
        return min(max(due_s, CONTROL_INTERVAL_S), LONGEST_PAUSE_S)

    def _may_trigger(self) -> bool:
        """Whether a checkpoint can begin: one at a time, until it is committed."""
        return self.coordinator.may_trigger() and (self.commit_point is None or self.commit_point.pending is None)

    def request_stop(self, *, drain: bool = False) -> None:
        """Stop with a last checkpoint; with `drain`, close the windows and finish first."""
        if self._deployment is None or self.phase is not Phase.RUNNING:
            return
        for source in self._deployment.sources:
            if drain:
                source.drain()
            else:
                source.pause()
        if not drain:
            self.phase = Phase.STOPPING

    def _trigger(self, now: int, *, finished: bool = False) -> int | None:
        checkpoint_id = self.coordinator.trigger(now, finished=finished)
        if checkpoint_id is not None:
            assert self._deployment is not None
            self._triggered_at = now
            self._under_way, self._wanted = self._wanted, []
            for source in self._deployment.sources:
                source.request_checkpoint(checkpoint_id)
        return checkpoint_id

    def _on_event(self, event: tuple[Any, ...]) -> None:
        now = self.clock.monotonic_ms()
        kind, *facts = event
        if kind == "snapshot":
            task, checkpoint_id, part = facts
            self.coordinator.acknowledge(now, task, checkpoint_id, part)
        elif kind == "snapshot_failed":
            task, checkpoint_id, error = facts
            self.coordinator.fail(now, checkpoint_id, f"the snapshot of task {task} failed: {error}", task=task)
            if isinstance(error, StreamError) and error.context.get("lasting") and self.error is None:
                self._end(error)  # a right that was taken away, say: the next checkpoint would fail too
        elif kind == "store_written":
            store, checkpoint_id, files = facts
            self.coordinator.store_written(now, store, checkpoint_id, files)
        elif kind == "store_failed":
            store, checkpoint_id, error = facts
            self.coordinator.fail(now, checkpoint_id, f"the state of {store} could not be written: {error}")
            self._check_database(error)
        elif kind == "committed":
            self._on_committed(*facts)
        elif kind == "wanted":
            self._wanted.append(facts[0])
        elif kind == "end":
            self._ended_tasks.add(facts[0])
        elif kind == "failure":
            self._end(facts[1])
        else:
            raise InternalError(f"unknown event {kind!r}")

    def _check_database(self, error: BaseException) -> None:
        """End a job whose database takes no more writes: it is opened anew by the next one (see `Run`)."""
        broken = isinstance(error, StreamError) and error.context.get("reopen")
        if broken and self.coordinator.failures_in_a_row >= LEAST_FAILURES and self.error is None:
            self._end(error)

    def take_late_failures(self) -> None:
        """Take in what failed between the job's end and its threads' end: the commit of the last checkpoint, for one."""
        for event in self.listener.events():
            if event[0] == "failure":
                self._end(event[2])

    def _end(self, error: BaseException | None) -> None:
        self.error = self.error or error
        self.phase = Phase.ENDED
        self._refuse_wanted("the run has ended")

    def _refuse_wanted(self, reason: str) -> None:
        for request in self._under_way + self._wanted:
            request.refuse(reason)
        self._under_way, self._wanted = [], []

    # ------------------------------------------------------------------ what the coordinator decided

    def on_complete(self, manifest: Manifest) -> None:
        """The checkpoint is published: with a transaction that makes it count once it commits; else it counts now."""
        for request in self._under_way:
            request.answer(self.environment.storage, manifest)
        self._under_way = []
        if self.commit_point is None:
            self._committed(manifest)
            return
        fault("FP13")
        self._to_commit = manifest
        self.commit_point.start(manifest, self.defer, self.listener.on_committed)

    def _on_committed(self, checkpoint_id: int, error: BaseException | None) -> None:
        manifest = self._to_commit
        assert self.commit_point is not None and manifest is not None and manifest.checkpoint_id == checkpoint_id
        self._to_commit = self.commit_point.pending = None
        if error is None:
            self._committed(manifest)
        else:
            # It may have been committed all the same: the marker says so to whoever starts next.
            self._end(error)

    def _committed(self, manifest: Manifest) -> None:
        """The checkpoint counts: sinks hear of it; the last one ends the job."""
        took_ms = self.clock.monotonic_ms() - self._triggered_at
        self.checkpoints.complete(manifest.checkpoint_id, took_ms, sum(file.size for store in manifest.stores for file in store.files))
        log.debug("%s: checkpoint %d took %d ms", self.plan.name, manifest.checkpoint_id, took_ms)
        for task in self.tasks:
            task.commit(manifest.checkpoint_id)
        if manifest.finished:
            fault("FP32")
            self.finished = True
        if self.phase in (Phase.STOPPING, Phase.FINISHING) and manifest.checkpoint_id == self._final_id:
            self._end(None)

    def on_failed(self, checkpoint_id: int, reason: str, fatal: bool) -> None:
        """The checkpoint has failed; a fatal one ends the job."""
        self.checkpoints.fail(checkpoint_id, self.clock.monotonic_ms() - self._triggered_at, reason)
        log.warning("checkpoint %d failed: %s", checkpoint_id, reason)
        self._refuse_wanted(f"checkpoint {checkpoint_id} failed: {reason}")
        if self.commit_point is not None:
            self.commit_point.transaction.release(checkpoint_id)
        if checkpoint_id == self._final_id:
            self._final_id = None  # try again
        if fatal:
            self._end(
                StateError(
                    f"checkpoint {checkpoint_id} failed, the {self._failures()}: {reason}",
                    remedy="what was committed is safe; mend the cause and start again with the same state directory. "
                    "Config(checkpoint_failure_timeout=...) says how long failures are tolerated",
                )
            )

    def _failures(self) -> str:
        since = self.coordinator.failing_since
        lasting = 0 if since is None else self.clock.monotonic_ms() - since
        return f"last of {self.coordinator.failures_in_a_row} in a row within {lasting / 1000:.1f} s"

    # ------------------------------------------------------------------ one thread for everything

    def step_tasks(self) -> bool:
        """Step every task once, in order or, with a seed, in an order that the seed decides."""
        order = list(self.tasks)
        if self._random is not None:
            self._random.shuffle(order)
        progress = False
        for task in order:
            progress |= self._step(task)
        return progress

    def _step(self, task: Task) -> bool:
        try:
            return bool(task.step_once())
        except Exception as error:
            found = explained(error, [task], self.plan)
            if found is error:
                raise
            raise found from error

    def run_until_quiet(self, *, checkpoints: bool = False) -> None:
        """Step everything until nothing moves; an error of a task is raised. With `checkpoints`, begin those that are due."""
        for _ in range(QUIET_LIMIT):
            progress = self.step_tasks()
            progress |= self.write_step()
            for event in self.listener.events():
                progress = True
                self._on_event(event)
            if checkpoints:
                progress |= self.control_step()
            if self.error is not None:
                raise self.error
            if not progress:
                return
        raise InternalError("the job does not come to rest")

    def checkpoint_now(self) -> int:
        """Take a checkpoint, stepping everything until it has completed, and return its id."""
        failures = self.coordinator.failed
        checkpoint_id = self._trigger(self.clock.monotonic_ms())
        self.run_until_quiet()
        if checkpoint_id is None or checkpoint_id not in self.coordinator.completed:
            raise StateError("the checkpoint failed" if self.coordinator.failed > failures else "the checkpoint did not complete")
        return checkpoint_id

    # ------------------------------------------------------------------ looking in

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the job (see `runtime.metrics`)."""
        return metrics.of_job(self)

    def _full_name(self, operator: str) -> str:
        """Return the name of the one state that `operator` means: its own, a table's, or that of the operator made of verbs."""
        keeping = {native.name for chain in self._chains for native in chain.operators if hasattr(native, "state")}
        inside = [] if operator in keeping else [name for name in keeping if name == f"table.{operator}" or name.startswith(f"{operator}.")]
        return inside[0] if len(inside) == 1 else operator

    @property
    def _chains(self) -> tuple[Any, ...]:
        return () if self._deployment is None else self._deployment.chains

    def state(self, operator: str) -> dict[Any, Any]:
        """Return {key: value} of an operator's keyed state."""
        found: dict[Any, Any] = {}
        operator = self._full_name(operator)
        for task in self.tasks:
            native = task.operator(operator)
            if native is not None and hasattr(native, "state"):
                assert task.store is not None
                task.store.warm_up()
                found.update(native.state())
        if not any(task.operator(operator) is not None for task in self.tasks):
            names = sorted({name for task in self.tasks for name in task.metrics()["operators"]})
            raise StreamError(f"no operator {operator!r}", remedy=f"there are: {', '.join(names)}")
        return found
