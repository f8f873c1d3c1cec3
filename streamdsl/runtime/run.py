"""A job with its threads: what `topology.start` returns."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from streamdsl._native.task.worker_loop import WorkerLoop
from streamdsl.errors import StreamError
from streamdsl.runtime.job import Job

log = logging.getLogger("streamdsl")

#: How often the control plane looks at its clock when nothing wakes it.
CONTROL_INTERVAL_S = 0.005
#: Back-off between restarts.
FIRST_RESTART_S, MOST_RESTART_S = 0.5, 30.0
#: While a run is on, Python threads take turns more often than by default (5 ms): a sink that waits for the interpreter is
#: latency that users see.
SWITCH_INTERVAL_S = 0.0005


class Run:
    """A running topology.

    Worker threads step the tasks, one writes state, one controls checkpoints. `wait` returns when the input has ended
    and its last checkpoint has completed; `stop` and `drain` end it earlier.

    Attributes
    ----------
    finished : bool
        The input has ended and everything is committed.
    already_finished : bool
        It had ended in an earlier run with the same state directory; nothing was done.
    """

    def __init__(self, make_job: Callable[[], Job], *, restarts: int = 0, clean_up: Callable[[], None] = lambda: None) -> None:
        self._make_job = make_job
        self._clean_up = clean_up
        self._restarts = restarts
        self._done = threading.Event()
        self._stop_asked: str | None = None
        self._error: BaseException | None = None
        self._job = make_job()
        self._job.open()
        self.already_finished = self._job.finished
        self._control = threading.Thread(target=self._run, name="streamdsl-control", daemon=True)
        self._control.start()

    @property
    def finished(self) -> bool:
        """Whether the input has ended and everything is committed."""
        return self._job.finished

    def stop(self) -> None:
        """Take a checkpoint and leave: windows stay open, a later run goes on from here."""
        self._stop_asked = self._stop_asked or "stop"
        self._job.listener.wake.set()

    def drain(self) -> None:
        """Take what has been read as the end of the input: windows close, everything is committed."""
        self._stop_asked = self._stop_asked or "drain"
        self._job.listener.wake.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended (at most `timeout` seconds) and return whether it has.

        Raises
        ------
        StreamError
            The run failed; what was committed stays.
        """
        if not self._done.wait(timeout):
            return False
        self._control.join()
        if self._error is not None:
            raise self._error
        return True

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the run: tasks, operators, checkpoints, latency (ms), sinks."""
        return self._job.metrics()

    # ------------------------------------------------------------------ the control thread

    def _run(self) -> None:
        pause = FIRST_RESTART_S
        interval = sys.getswitchinterval()
        sys.setswitchinterval(min(interval, SWITCH_INTERVAL_S))
        try:
            while True:
                error = self._run_once()
                if error is None or self._restarts <= 0 or self._stop_asked:
                    self._error = error
                    return
                self._restarts -= 1
                log.warning("the run failed and is started again in %.1f s: %s", pause, error)
                time.sleep(pause)
                pause = min(2 * pause, MOST_RESTART_S)
                self._job = self._make_job()
                self._job.open()
        except StreamError as error:
            self._error = error
        except BaseException as error:  # noqa: BLE001 - the edge of the thread: `wait` raises it where the user is
            self._error = error
        finally:
            sys.setswitchinterval(interval)
            self._clean_up()
            self._done.set()

    def _run_once(self) -> BaseException | None:
        job = self._job
        if job.finished:
            job.close()
            return None
        loops = [WorkerLoop(tasks) for tasks in job.tasks_by_thread()]
        threads = [threading.Thread(target=self._work, args=(job, loop), name=f"streamdsl-worker-{i}") for i, loop in enumerate(loops)]
        writing = threading.Event()
        writer = threading.Thread(target=self._write, args=(job, writing), name="streamdsl-state")
        for thread in [*threads, writer]:
            thread.daemon = True
            thread.start()
        try:
            while not job.ended:
                job.listener.wake.wait(CONTROL_INTERVAL_S)
                if self._stop_asked:
                    job.request_stop(drain=self._stop_asked == "drain")
                job.control_step()
        finally:
            for loop in loops:
                loop.stop()
            for thread in threads:
                thread.join()
            writing.set()
            writer.join()
            job.close()
        return job.error

    @staticmethod
    def _work(job: Job, loop: WorkerLoop) -> None:
        try:
            loop.run()
        except BaseException as error:  # noqa: BLE001 - the worker's edge: whatever it was, the run must end with it
            job.listener.on_failure("", error)

    @staticmethod
    def _write(job: Job, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                if not job.write_step():
                    stop.wait(0.001)
        except BaseException as error:  # noqa: BLE001 - as above
            job.listener.on_failure("", error)
