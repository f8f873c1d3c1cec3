"""The one door from the builder to the runtime: compile a topology and run it."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa

from streamdsl.compiler import compile
from streamdsl.config import Config
from streamdsl.connectors.memory import memory
from streamdsl.runtime.environment import DirectoryEnvironment
from streamdsl.runtime.job import Job
from streamdsl.runtime.run import Run

__all__ = ["Run", "collect", "run", "start"]

_WAIT_S = 0.2


def start(topology: Any, config: Config | None = None, bind: Mapping[str, Any] | None = None) -> Run:
    """Start a topology and return the `Run`.

    Parameters
    ----------
    topology : Topology
    config : Config, optional
    bind : mapping, optional
        Sources and sinks by name, in the place of those of the topology.
    """
    config = config or Config()
    plans = compile(topology, parallelism=config.parallelism, bind=bind, strict_names=config.strict_names)
    temporary = Path(tempfile.mkdtemp(prefix="streamdsl-")) if config.state_path is None else None
    state_dir = config.state_path or temporary
    assert state_dir is not None

    def make_job() -> Job:
        return Job(plans.physical, config, DirectoryEnvironment(state_dir, config.state_backend))

    def clean_up() -> None:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    try:
        return Run(make_job, restarts=config.restarts, clean_up=clean_up)
    except BaseException:
        clean_up()
        raise


def run(topology: Any, config: Config | None = None, bind: Mapping[str, Any] | None = None) -> Run:
    """Run a topology until its input ends; Ctrl-C and SIGTERM stop it with a last checkpoint, a second Ctrl-C at once."""
    started = start(topology, config, bind)
    with _Signals(started):
        while not started.wait(_WAIT_S):
            pass
    return started


class _Signals:
    """Ctrl-C and SIGTERM stop the run while this is entered (in the main thread; elsewhere they are not ours)."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        self.run.stop()

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def collect(stream: Any, config: Config | None = None, bind: Mapping[str, Any] | None = None, limit: int | None = None) -> pa.Table:
    """Run the part of a topology that makes `stream` and return its rows; with `limit`, stop once so many have come."""
    sink = memory("_collect")
    topology = stream.topology.collecting(stream, sink)
    started = start(topology, config or Config(state_backend="memory"), bind)
    with _Signals(started):
        while not started.wait(_WAIT_S if limit is None else 0.01):
            if limit is not None and sink.table().num_rows >= limit:
                started.stop()
    table = sink.table()
    return table if limit is None else table.slice(0, limit)
