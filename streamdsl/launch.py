"""The one door from the builder to the runtime: compile a topology and run it."""

from __future__ import annotations

import functools
import logging
import os
import resource
import shutil
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa

from streamdsl.checkpoint.recovery import published
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.compiler import Plans, compile, forms
from streamdsl.config import Config
from streamdsl.connectors.memory import memory
from streamdsl.errors import ConfigError, StateError
from streamdsl.physical.node import with_connectors
from streamdsl.runtime.environment import DirectoryEnvironment
from streamdsl.runtime.job import Job
from streamdsl.runtime.places import check_places
from streamdsl.runtime.run import Run

__all__ = ["Run", "Signals", "collect", "run", "start"]

log = logging.getLogger("streamdsl")

_WAIT_S = 0.2
#: Address space for the stacks and arenas of the threads of native libraries, which a job takes beside its memory.
_ROOM_BYTES = 1 << 30


def start(
    topology: Any,
    config: Config | None = None,
    bind: Mapping[str, Any] | None = None,
    *,
    on_open: Callable[[Sequence[Any]], None] = lambda operators: None,
) -> Run:
    """Start a topology and return the `Run`.

    Parameters
    ----------
    topology : Topology
    config : Config, optional
    bind : mapping, optional
        Sources and sinks by name, in the place of those of the topology.
    on_open : callable
        Sees the operators of each start before a record goes through them.
    """
    config = _checked(config)
    _warn_of_limit()
    plans = compile(topology, parallelism=config.parallelism, bind=bind, strict_names=config.strict_names, errors=config.errors)
    plan = with_connectors(plans.physical, lambda connector: connector.configured(config, topology.name))
    check_places(plan, config.state_path)
    temporary = Path(tempfile.mkdtemp(prefix="streamdsl-")) if config.state_path is None else None
    state_dir = config.state_path or temporary
    assert state_dir is not None
    if config.restore_path is not None:
        _check_fresh(state_dir)

    worker = f"{os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex[:12]}"

    def make_job(again: bool) -> Job:
        environment = DirectoryEnvironment(
            state_dir, config.state_backend, config.restore_path, config.checkpoint_store, config.retained_checkpoints
        )
        return Job(plan, config, environment, worker=worker, again=again)

    def clean_up() -> None:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    try:
        return Run(
            make_job,
            restarts=config.restarts,
            stop_timeout_s=config.stop_timeout_ms / 1000,
            failure_timeout_s=config.checkpoint_failure_timeout_ms / 1000,
            clean_up=clean_up,
            open_ui=functools.partial(_open_ui, plans, config),
            on_open=on_open,
        )
    except BaseException:
        clean_up()
        raise


def _open_ui(plans: Plans, config: Config, run: Run, **options: Any) -> Any:
    from streamdsl.ui import serve_ui

    return serve_ui(run, forms(plans), config, **options)


def _warn_of_limit() -> None:
    """Say once a start that native libraries end the process where they get no memory: none of them tells it then."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return
    left = limit - int(statm.read_text().split()[0]) * resource.getpagesize()
    if left < _ROOM_BYTES:
        log.warning(
            "this process may take %d MiB more of address space (ulimit -v): Arrow, RocksDB and Kafka's client abort it where they get "
            "none. Allow it %d MiB more, or limit the resident memory instead (a cgroup); what was committed stays",
            left >> 20,
            _ROOM_BYTES >> 20,
        )


def _checked(config: Config | None) -> Config:
    if config is None:
        return Config()
    if not isinstance(config, Config):
        hint = f"run(Config(parallelism={config!r}))" if isinstance(config, int) else "run(Config(parallelism=2))"
        raise ConfigError(f"{config!r} is not a Config", remedy=f"settings go into one: write {hint}")
    return config


def _check_fresh(state_dir: Path) -> None:
    """A savepoint beside checkpoints: which of them is meant nobody can know. (A restart within the run goes on from its own.)"""
    if (state_dir / "checkpoints").is_dir() and published(DirectoryStorage(state_dir / "checkpoints")):
        raise StateError(
            f"the state directory {state_dir} has checkpoints already, and restore_from names a savepoint",
            remedy="leave restore_from out to go on from them, or name a fresh directory: Config(state_dir=...)",
        )


def run(topology: Any, config: Config | None = None, bind: Mapping[str, Any] | None = None) -> Run:
    """Run a topology until its input ends; Ctrl-C and SIGTERM stop it with a last checkpoint, a second Ctrl-C at once."""
    with Signals() as signals:
        started = signals.run = start(topology, config, bind)
        signals.follow(_WAIT_S)
    return started


class Signals:
    """Ctrl-C and SIGTERM stop the run while this is entered (in the main thread; elsewhere they are not ours).

    The first one asks for a last checkpoint, or with `drain` for the end of the input; the second, of either kind, and any
    before there is a run, leave at once.
    """

    def __init__(self, *, drain: bool = False) -> None:
        self.run: Run | None = None
        self.drain = drain
        self.asked = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.run is None or self.asked:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.ask(drain=self.drain)

    def ask(self, *, drain: bool) -> None:
        """Ask for the end, as the first signal does."""
        assert self.run is not None
        self.asked, self.drain = True, drain
        if drain:
            self.run.drain()
        else:
            self.run.stop()

    def follow(self, interval: float, done: Callable[[], bool] = lambda: False) -> None:
        """Wait until the run has ended; stop it once it is `done`."""
        assert self.run is not None
        while not self.run.wait(interval):
            if done():
                self.run.stop()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Give the signals back. A run that is left by an exception, whoever raised it, is abandoned."""
        try:
            if kind is not None and self.run is not None:
                self.run.abandon()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def collect(stream: Any, config: Config | None = None, bind: Mapping[str, Any] | None = None, limit: int | None = None) -> pa.Table:
    """Run the part of a topology that makes `stream` and return its rows; with `limit`, stop once so many have come."""
    sink = memory("_collect")
    topology = stream.topology.collecting(stream, sink)
    with Signals() as signals:
        signals.run = start(topology, Config(state_backend="memory") if config is None else config, bind)
        signals.follow(_WAIT_S if limit is None else 0.01, lambda: limit is not None and sink.table().num_rows >= limit)
        if signals.asked:
            raise KeyboardInterrupt  # a part of the rows would look like all of them
    table = sink.table()
    return table if limit is None else table.slice(0, limit)
