"""A job with its threads: what `topology.start` returns."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from html import escape
from pathlib import Path
from typing import Any

from streamdsl._native.task.task import Task
from streamdsl._native.task.worker_loop import WorkerLoop
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.objects import is_url
from streamdsl.checkpoint.savepoint import CheckpointRequest, SavepointRequest
from streamdsl.errors import StateError, StreamError
from streamdsl.physical.node import PhysicalPlan
from streamdsl.runtime.failures import explained
from streamdsl.runtime.job import Job
from streamdsl.runtime.listener import Wake
from streamdsl.runtime.restarts import Restarts
from streamdsl.runtime.state_reading import StateReading
from streamdsl.runtime.state_table import StateTable
from streamdsl.runtime.state_writer import write_state

log = logging.getLogger("streamdsl")

#: Who waits looks again so often, in case the word was lost on the way.
WAIT_AGAIN_S = 1.0
#: How long a run that is abandoned is waited for.
LEAVE_S = 2.0
#: So much of the time that a stop may take is for letting go, at most half of it; the last checkpoint has the rest.
LETTING_GO_S = 1.0
#: And so much of it is for the end of the process, at most a quarter: an interpreter takes its time to end.
ENDING_S = 0.5
#: How often a caller that waits for a savepoint looks whether there is still a run to make it.
SAVEPOINT_POLL_S = 0.01
#: How long a task is waited for that is asked for rows.
ANSWER_S = 10.0
_ABANDON = "abandon"
#: How often a start may find that another worker has committed meanwhile.
MOST_OPENINGS = 5
#: While a run is on, Python threads take turns more often than by default (5 ms): a sink that waits for the interpreter is
#: latency that users see.
SWITCH_INTERVAL_S = 0.0005


class Run:
    """A running topology.

    Worker threads step the tasks, one writes state, one controls checkpoints. `wait` returns when the input has ended
    and its last checkpoint has completed; `stop` and `drain` end it earlier. ``with topology.start(...) as run:`` stops it at the end
    of the block, and abandons it when the block is left by an exception.

    Parameters
    ----------
    make_job : callable
        Makes a job to open. Is told whether the run has begun before: what was asked for its first start has been done then.
    on_open : callable
        Sees the operators of each start before a record goes through them.

    Attributes
    ----------
    finished : bool
        The input has ended and everything is committed.
    already_finished : bool
        It had ended in an earlier run with the same state directory; nothing was done.

    Examples
    --------
    >>> import tempfile
    >>> directory = tempfile.TemporaryDirectory()
    >>> topology = Topology("ticks")
    >>> topology.every("10ms").key_by().count(name="counts").to(memory("out"))
    >>> run = topology.start(Config(state_dir=directory.name + "/state"))
    >>> run.wait(0.01), run.finished  # ticks do not end
    (False, False)
    >>> run.tables(), run.table("counts").schema.names
    (('counts',), ['count'])
    >>> path = run.savepoint(directory.name + "/before-the-upgrade")
    >>> run.drain()  # as if the input ended here
    >>> run.wait(), run.finished
    (True, True)
    >>> run.metrics()["job"], len(run.operators()) > 0
    ('ticks', True)
    >>> run = topology.start(Config(restore_from=path, stop_timeout="1m"))
    >>> run.stop()  # a later run with this state directory goes on
    >>> run.wait(), run.finished, run.left_behind
    (True, False, False)
    >>> run = topology.start()
    >>> run.abandon(timeout=60)
    True
    >>> directory.cleanup()
    """

    def __init__(
        self,
        make_job: Callable[[bool], Job],
        *,
        restarts: int = 0,
        stop_timeout_s: float = 5.0,
        failure_timeout_s: float = 60.0,
        clean_up: Callable[[], None] = lambda: None,
        open_ui: Callable[..., Any] | None = None,
        on_open: Callable[[Sequence[Any]], None] = lambda operators: None,
    ) -> None:
        self._make_job = make_job
        self._clean_up = clean_up
        self._open_ui = open_ui or _no_page
        self._on_open = on_open
        self._restarts = Restarts(restarts, failure_timeout_s)
        self._stop_timeout_s = stop_timeout_s
        # Of a stop that was asked for: when it goes without the last checkpoint, and when it is over, whatever hangs.
        self._late_at = math.inf
        self._leave_by: float | None = None
        self._said_late = False
        self._done = threading.Event()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop_asked: str | None = None
        self._asked = Wake()
        self._error: BaseException | None = None
        self._committing: list[threading.Thread] = []
        self._figures_at_end: dict[str, Any] = {}  # those of state, before it was freed
        self._loops: list[tuple[WorkerLoop, list[Task]]] = []  # that step the tasks now
        self._reading = StateReading(lambda: self._job, self._asked_of, lambda: self._answered(CheckpointRequest()))
        self._job = self._opened()
        self.already_finished = self._job.finished
        self._control = threading.Thread(target=self._run, name="streamdsl-control", daemon=True)
        try:
            # Threads that still run while the interpreter is taken down would find it gone.
            atexit.register(self._leave)
            self._control.start()
        except BaseException:  # a signal handler may raise at any point, and nobody would get to see the run
            self._give_up()
            raise

    def _give_up(self) -> None:
        atexit.unregister(self._leave)
        if self._control.ident is not None:
            self.abandon()
        else:
            with contextlib.suppress(Exception):  # the first error is the one to tell of
                self._job.close(commit=False)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Stop with a last checkpoint and wait; when left by an exception, abandon the run."""
        if kind is not None:
            self.abandon()
        else:
            self.stop()
            self.wait()

    def _opened(self) -> Job:
        """Return a job that is open; begin again where another worker has committed meanwhile, as it may once before it is fenced."""
        for left in reversed(range(MOST_OPENINGS)):
            job = self._make_job(False)  # one that did not begin is as new
            try:
                job.open()
            except StreamError as error:
                if not error.context.get("moved") or not left:
                    raise
            else:
                break
        self._on_open(_operators(job))
        return job

    @property
    def finished(self) -> bool:
        """Whether the input has ended and everything is committed."""
        return self._job.finished

    @property
    def left_behind(self) -> bool:
        """Whether the run is over for those who waited, while one of its threads still hangs in a call of somebody else.

        Such a thread does nothing more once it comes back; until then it holds the state directory.
        """
        return self._said_late and not self._done.is_set()

    def stop(self) -> None:
        """Take a checkpoint and leave: windows stay open, a later run goes on from here.

        `wait` returns within `Config(stop_timeout=)`, whatever hangs: a broker, a sink, a function. Where the checkpoint was not there
        in time, the later run computes again what came after the one before.
        """
        if self._leave_by is None:
            within = self._stop_timeout_s
            self._late_at = time.monotonic() + within - min(LETTING_GO_S, within / 2)
            self._leave_by = time.monotonic() + within - min(ENDING_S, within / 4)
        self._ask("stop")

    def drain(self) -> None:
        """Take what has been read as the end of the input: windows close, everything is committed."""
        self._ask("drain")

    def abandon(self, timeout: float = LEAVE_S) -> bool:
        """Leave at once, without a last checkpoint: what is committed stays, the next run reads the rest again.

        Waits for the threads to end, `timeout` seconds at most, and returns whether they have.
        """
        self._stop_asked = _ABANDON
        self._ask(_ABANDON)
        return self._wait(timeout)

    def _leave(self) -> None:
        """Abandon at the interpreter's exit. Whoever asks for the end once more must not cut this short: the threads would die of it."""
        try:
            _ignore_signals()
        except BaseException:  # noqa: BLE001 - what the handler of a signal that was on its way has raised
            _ignore_signals()
        self.abandon(0 if self.left_behind else LEAVE_S)

    def _wait(self, timeout: float | None) -> bool:
        """Wait for the end. A signal handler may raise in here: a `threading.Event` does not bear that, a queue does (see `Wake`)."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._done.is_set():
            left = min([WAIT_AGAIN_S, *[by - time.monotonic() for by in (until, self._leave_by) if by is not None]])
            if self._leave_by is not None and time.monotonic() >= self._leave_by:
                self._leave_without("it has not ended")
                return True
            try:
                self._ended.get(timeout=max(left, 0))
                self._ended.put(None)  # others may be waiting
            except queue.Empty:
                if until is not None and time.monotonic() >= until:
                    return self._done.is_set()
        self._control.join()
        return True

    def _ask(self, what: str) -> None:
        self._stop_asked = self._stop_asked or what
        self._asked.set()
        self._job.listener.wake.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended (at most `timeout` seconds) and return whether it has.

        Raises
        ------
        StreamError
            The run failed; what was committed stays.
        """
        if not self._wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def savepoint(self, path: str | os.PathLike[str]) -> str:
        """Take a checkpoint, copy it into the new directory `path` (or below a URL), and return where it is. The run goes on.

        Nothing removes a savepoint. `Config(restore_from=path)` begins with it.

        Raises
        ------
        StateError
            The checkpoint failed, the run has ended, or the directory exists or cannot be written.
        """
        request = SavepointRequest(str(path) if is_url(path) else Path(path).absolute())
        self._answered(request)
        return str(request.path)

    def _answered(self, request: CheckpointRequest) -> Manifest:
        job = self._job
        job.listener.on_wanted(request)
        while not request.done.is_set():
            if self._done.is_set() or job is not self._job:
                request.refuse("the run has ended" if self._done.is_set() else "the run was started again")
            else:
                time.sleep(SAVEPOINT_POLL_S)  # not `done.wait`, see `_wait`
        if request.error is not None:
            raise request.error
        assert request.manifest is not None
        return request.manifest

    def table(self, name: str, *, live: bool = False) -> StateTable:
        """Return the keyed state of an operator as a table, to be looked into. The run goes on meanwhile.

        Parameters
        ----------
        name : str
            Of the operator: the ``name=`` of `aggregate`, `process` and the like, the source's of `Topology.table`.
        live : bool
            Whether rows are read as they are now, each for itself, from the tasks. Otherwise all are as of the last checkpoint;
            where there is none yet, one is taken. `StateTable.as_of` says which.

        Raises
        ------
        StreamError
            No operator of that name keeps rows.
        StateError
            They cannot be read: the run has ended (`live`), or its state directory is gone.
        """
        return self._reading.table(name, live=live)

    def tables(self) -> tuple[str, ...]:
        """Return the names that `table` takes."""
        return self._reading.names()

    def _asked_of(self, task: Task, question: Callable[[], Any]) -> Any:
        """Call a function in the thread of a task, between two steps, and return what it returned."""
        answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def answer() -> None:
            try:
                answers.put((True, question()))
            except Exception as error:  # noqa: BLE001 - it is the asker's
                answers.put((False, error))

        loop = next((loop for loop, tasks in self._loops if task in tasks), None)
        if loop is not None:
            loop.ask(answer)
        until = time.monotonic() + ANSWER_S
        while loop is not None and time.monotonic() < until and any(loop is other for other, _ in self._loops):
            try:
                good, found = answers.get(timeout=SAVEPOINT_POLL_S)
            except queue.Empty:
                continue
            if good:
                return found
            raise found
        busy = loop is not None and any(loop is other for other, _ in self._loops)
        raise StateError(
            f"task {task.id} does not answer: {'a step of it takes long' if busy else 'the run has ended'}",
            remedy="read the table as of a checkpoint: live=False",
        )

    def _repr_html_(self) -> str:
        """Show how the run is, in a notebook."""
        figures = self.metrics()
        read = sum(sum(task.get("splits", {}).values()) for task in figures["tasks"])
        shown = {
            "phase": "finished" if self.finished else figures["phase"],
            "records in": f"{read:,}",
            "records out": f"{sum(figures['sinks'].values()):,}",
            "late": sum(operator.get("late", 0) for operator in figures["operators"].values()),
            "state": f"{figures['state']['keys']:,} keys, {figures['state']['bytes']:,} bytes",
            "latency p99": f"{figures['latency_ms']['p99']} ms",
            "checkpoints": f"{figures['checkpoints']['completed']}, {figures['checkpoints']['failed']} failed",
        }
        rows = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in shown.items())
        return f"<table><caption>{escape(figures['job'])}</caption><tbody>{rows}</tbody></table>"

    @property
    def plan(self) -> PhysicalPlan:
        """What runs.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.stream(memory("rows", rows=[{"x": 5}])).to(memory("out"))
        >>> [stage.parallelism for stage in topology.run(Config(parallelism=2)).plan.stages]
        [2, 1]
        """
        return self._job.plan

    def operators(self) -> list[Any]:
        """Return the operators of all tasks that run now, to be looked at."""
        return _operators(self._job)

    def ui(self, *, port: int = 0, host: str = "127.0.0.1", allowed_hosts: Collection[str] = (), rows: bool = True) -> Any:
        """Serve the live page of this run, and return its server: `address` is where it is, `close()` ends it.

        Parameters
        ----------
        port : int
            0: any free one.
        host : str
            Address to listen at; everybody who can reach it can read the page.
        allowed_hosts : collection of str
            Public names under which browsers reach it.
        rows : bool
            Whether the last rows of sinks, and tables, are shown.

        Raises
        ------
        ConfigError
            It cannot listen there, or ``streamdsl[ui]`` is not installed.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.every("1s").to(memory("ticks"))
        >>> with topology.start(Config(stop_timeout="1m")) as run, run.ui() as page:
        ...     print(page.address.rpartition(":")[0])
        http://127.0.0.1
        """
        return self._open_ui(self, port=port, host=host, allowed_hosts=allowed_hosts, rows=rows)

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the run: tasks, operators, counters, checkpoints, latency (ms), sinks."""
        return {**self._job.metrics(), **self._figures_at_end}

    # ------------------------------------------------------------------ the control thread

    def _run(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(min(interval, SWITCH_INTERVAL_S))
        try:
            self._error = self._run_with_restarts()
        except BaseException as error:  # noqa: BLE001 - the edge of the thread: `wait` raises it where the user is
            self._error = error
        finally:
            sys.setswitchinterval(interval)
            self._reading.close()
            try:
                self._clean_up()
            finally:
                if self._said_late and self._error is not None:
                    log.warning("the run that was left without its last checkpoint has ended with an error: %s", self._error)
                self._done.set()
                self._ended.put(None)
                atexit.unregister(self._leave)

    def _run_with_restarts(self) -> BaseException | None:
        error = self._run_once()
        while error is not None and not self._stop_asked and self._restarts.allows(error, completed=bool(self._job.checkpoints.completed)):
            pause = self._restarts.pause_s()
            log.warning("the run failed and is started again in %.1f s: %s", pause, error)
            self._asked.wait(pause)
            if self._stop_asked:
                break
            error = self._run_again()
        return error

    def _run_again(self) -> BaseException | None:
        self._job = self._make_job(True)
        try:
            self._job.open()
        except Exception as error:  # noqa: BLE001 - whatever it was, it may be gone at the next start
            return error
        self._on_open(_operators(self._job))
        return self._run_once()

    def _run_once(self) -> BaseException | None:
        job = self._job
        self._figures_at_end = {}
        if job.finished:
            job.close()
            return job.error
        job.defer = self._commit
        parts = job.tasks_by_thread()
        loops = [WorkerLoop(tasks, alone=len(parts) == 1) for tasks in parts]
        self._loops = list(zip(loops, parts, strict=True))
        threads = [
            threading.Thread(target=self._work, args=(job, loop, tasks), name=f"streamdsl-worker-{i}", daemon=True)
            for i, (loop, tasks) in enumerate(zip(loops, parts, strict=True))
        ]
        written = threading.Event()
        writer = threading.Thread(target=write_state, args=(job, written), name="streamdsl-state", daemon=True)
        try:
            for thread in (*threads, writer):
                thread.start()
            while not job.ended and self._stop_asked != _ABANDON:
                job.listener.wake.wait(job.pause_s())
                if time.monotonic() >= self._late_at:
                    self._leave_without("its last checkpoint has not completed")
                    break
                if self._stop_asked in ("stop", "drain"):
                    job.request_stop(drain=self._stop_asked == "drain")
                job.control_step()
        except Exception as error:  # noqa: BLE001 - the edge of the control plane: the threads must end with it
            job.error = job.error or explained(error, (), job.plan)
        finally:
            for loop in loops:
                loop.stop()
            _join(threads)
            self._loops = []
            written.set()
            _join([writer])
            figures = job.metrics()
            self._figures_at_end = {name: figures[name] for name in ("tasks", "operators", "counters", "state")}
            if self._stop_asked != _ABANDON:
                _join(self._committing)
            job.take_late_failures()
            job.close(commit=self._stop_asked != _ABANDON)
        return job.error

    def _leave_without(self, why: str) -> None:
        """Abandon a run that was asked to stop and does not, and say so, once."""
        self._stop_asked = _ABANDON
        if not self._said_late:
            self._said_late = True
            last = self._job.checkpoints.last_id
            log.warning(
                "the run was asked to stop, and %s within %g s (stop_timeout): it leaves without. "
                "The next run computes again what came after %s",
                why,
                self._stop_timeout_s,
                "its start" if last is None else f"checkpoint {last}",
            )

    def _commit(self, work: Callable[[], None]) -> None:
        """Commit in a thread of its own: it may wait for long, and the control plane must not."""
        self._committing = [threading.Thread(target=work, name="streamdsl-commit", daemon=True)]
        self._committing[0].start()

    @staticmethod
    def _work(job: Job, loop: WorkerLoop, tasks: Sequence[Task]) -> None:
        try:
            loop.run()
        except BaseException as error:  # noqa: BLE001 - the worker's edge: whatever it was, the run must end with it
            # Here, where these tasks stand still and no others are asked: two threads may fail at the same time.
            job.listener.on_failure("", explained(error, tasks, job.plan))


def _operators(job: Job) -> list[Any]:
    return [operator for task in job.tasks for operator in task.operators_of_chain()]


def _no_page(*arguments: Any, **options: Any) -> Any:
    raise StateError("this run has no page", remedy="start it with topology.start")


def _ignore_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident is not None:  # it has been started
            thread.join()
