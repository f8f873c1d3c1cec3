"""Config: how a topology runs. Frozen, checked once, shared by the script, the command line and tests."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

from streamdsl.durations import parse_duration
from streamdsl.errors import ConfigError, TopologyError
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.scalars import plain
from streamdsl.secret import wrapped

__all__ = ["Config", "parse_bytes"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)

#: A broker as librdkafka takes it; a user and a password have no place in it.
_BROKER = re.compile(r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\],]+)(:\d{1,5})?")


def broker_fault(broker: Any) -> tuple[str, str] | None:
    """Return what is wrong with the address of a broker and what to write, or None."""
    if not isinstance(broker, str) or not all(_BROKER.fullmatch(one.strip()) for one in broker.split(",")):
        # Not repeated: whoever writes a user and a password into it shall not find them in a log.
        return "broker is not an address", 'write "host:port", or several with commas'
    for one in broker.split(","):
        port = one.strip().rpartition(":")[2]
        if port.isdigit() and not 1 <= int(port) <= 65_535:
            return f"broker: there is no port {port}", "ports are from 1 to 65535; Kafka's is 9092 as a rule"
    return None


#: More tasks than shards would have nothing to own.
MAX_PARALLELISM = 128


def parse_bytes(value: int | str) -> int:
    """Return a size in bytes from an int or a text such as ``"256MiB"``.

    Raises
    ------
    ConfigError
        The text is not a size.
    """
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None and found[2].lower() in _UNITS:
        return int(Fraction(found[1]) * _UNITS[found[2].lower()])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigError(f"{value!r} is not a size", remedy='use bytes as an int, or "64MiB", "2GiB"')


C = TypeVar("C")


def _names_settings(cls: type[C]) -> type[C]:
    """Have the class say which setting is near one that it does not know."""
    make = cls.__init__
    known = [one.name for one in fields(cls)]  # type: ignore[arg-type]

    @functools.wraps(make)
    def checked(self: C, *values: Any, **settings: Any) -> None:
        if values:
            raise ConfigError("settings are given by name", remedy=f"write Config(parallelism={values[0]!r}), if that is meant")
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError(f"there is no setting {name!r}", remedy=f"{hint}known: {', '.join(known)}")
        make(self, **settings)

    setattr(cls, "__init__", checked)  # noqa: B010
    return cls


@_names_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a topology runs.

    Parameters
    ----------
    parallelism : int
        Tasks of each stage, and threads that run them; 1 to 128.
    checkpoint_interval : duration
        Time between the starts of two checkpoints.
    checkpoint_timeout : duration
        A checkpoint that takes longer has failed.
    checkpoint_failure_timeout : duration
        Checkpoints may fail for so long, and three times in a row at least, before the run ends; 0: the first ends it.
    stop_timeout : duration
        A stop ends within that time. A last checkpoint that would take longer is left out; the next run computes again what came
        after the one before.
    retained_checkpoints : int
        Completed checkpoints that are kept; at least 1.
    state_dir : path, optional
        Where checkpoints live; a run started again with the same directory goes on where it was. None: a fresh
        temporary directory, removed at the end.
    restore_from : path or URL, optional
        A savepoint (`Run.savepoint`) to begin a fresh `state_dir` with.
    checkpoint_store : URL, optional
        An object store (``s3://bucket/job``, what fsspec speaks to) that has each checkpoint before it counts. A `state_dir` that is
        new, or behind, goes on from there.
    state_backend : "rocksdb" | "memory"
        What holds the state beside the working copy.
    state_memory : int or str
        Bytes for keyed state in memory, over all tasks; what has no room there is in the database, timers too.
    restarts : int
        How often a failed run is started again from its last checkpoint, with back-off.
    strict_names : bool
        Insist on `name=` for everything that keeps state.
    keep_state : collection of str
        Operators and sources that were changed, and whose state in the checkpoint is taken for that of the new ones: an
        expression was mended, say, and what was computed before is right. Nothing checks it.
    drop_state : collection of str
        Operators whose state in the checkpoint may be lost, because the topology no longer has them or they have changed. It is
        dropped once: a run that goes on from what such a run has kept keeps it.
    batch_rows : int
        Rows of a batch at most.
    broker : str, optional
        Kafka broker of every `kafka(...)` that names none: ``"host:port"``, several with commas.
    kafka : mapping
        Options of librdkafka for every Kafka client, security among them. What is a secret by its name is wrapped as a
        `Secret`; nothing of the mapping is in the repr.
    accept_duplicates_from : int, optional
        Begin with this checkpoint although another is the one that was committed to Kafka: what was written after it is
        written again. 0: from the beginning. The way out when the committed checkpoint is lost.
    errors : "fail" | "skip" | dead_letter(sink)
        What becomes of bad records where neither a verb, nor its source, nor the topology says so.

    Raises
    ------
    ConfigError
        A value is out of range or of another type.

    Examples
    --------
    >>> config = Config(checkpoint_interval="10s", state_memory="64MiB", state_dir="state", kafka={"sasl.password": "hunter2"})
    >>> config.kafka
    {'sasl.password': Secret(***)}
    >>> config.checkpoint_interval_ms, config.checkpoint_timeout_ms, config.checkpoint_failure_timeout_ms, config.stop_timeout_ms
    (10000, 60000, 60000, 5000)
    >>> config.state_memory_bytes, str(config.state_path), config.restore_path
    (67108864, 'state', None)
    """

    parallelism: int = 1
    checkpoint_interval: str | int | timedelta = "5s"
    checkpoint_timeout: str | int | timedelta = "60s"
    checkpoint_failure_timeout: str | int | timedelta = "1m"
    stop_timeout: str | int | timedelta = "5s"
    retained_checkpoints: int = 2
    state_dir: str | os.PathLike[str] | None = None
    restore_from: str | os.PathLike[str] | None = None
    checkpoint_store: str | None = None
    state_backend: Literal["rocksdb", "memory"] = "rocksdb"
    state_memory: int | str = "256MiB"
    restarts: int = 0
    strict_names: bool = False
    keep_state: Collection[str] = field(default_factory=frozenset)
    drop_state: Collection[str] = field(default_factory=frozenset)
    batch_rows: int = 4096
    broker: str | None = None
    kafka: Mapping[str, Any] = field(default_factory=dict, repr=False)
    accept_duplicates_from: int | None = None
    errors: ErrorPolicy = "fail"

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, plain(getattr(self, one.name)))
        self._between("parallelism", self.parallelism, 1, MAX_PARALLELISM)
        self._between("retained_checkpoints", self.retained_checkpoints, 1, 1000)
        self._between("restarts", self.restarts, 0, 10**6)
        self._between("batch_rows", self.batch_rows, 1, 10**6)
        self._between("checkpoint_interval", self.checkpoint_interval_ms, 1, 7 * 86_400_000)
        self._between("checkpoint_timeout", self.checkpoint_timeout_ms, 1, 7 * 86_400_000)
        self._between("checkpoint_failure_timeout", self.checkpoint_failure_timeout_ms, 0, 7 * 86_400_000)
        self._between("stop_timeout", self.stop_timeout_ms, 100, 7 * 86_400_000)
        self._between("state_memory", self.state_memory_bytes, 1 << 12, 1 << 50)
        if self.state_backend not in ("rocksdb", "memory"):
            raise ConfigError(f"state_backend={self.state_backend!r} is not known", remedy='use "rocksdb" or "memory"')
        for name in ("state_dir", "restore_from"):
            _check_path(name, getattr(self, name))
        if not isinstance(self.strict_names, bool):
            raise ConfigError(f"strict_names={self.strict_names!r} is neither True nor False", remedy="use True or False")
        store = self.checkpoint_store
        if store is not None and not (isinstance(store, str) and re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", store)):
            raise ConfigError(
                f"checkpoint_store={self.checkpoint_store!r} is no URL", remedy='for instance "s3://bucket/job"; a directory is state_dir'
            )
        self._check_names()
        self._check_errors()
        if self.accept_duplicates_from is not None:
            self._between("accept_duplicates_from", self.accept_duplicates_from, 0, 1 << 62)
        object.__setattr__(self, "kafka", _kafka_options(self.kafka))
        self._check_broker()

    @staticmethod
    def _between(name: str, value: object, low: int, high: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{name}={value!r} is out of range", remedy=f"use an int from {low} to {high}")

    def _check_names(self) -> None:
        for field_, names in (("keep_state", self.keep_state), ("drop_state", self.drop_state)):
            if isinstance(names, str):
                raise ConfigError(f"{field_} is a collection of operator names", remedy=f"write [{names!r}]")
            if not isinstance(names, Collection) or not all(isinstance(name, str) and name for name in names):
                raise ConfigError(f"{field_}={names!r} is no collection of operator names", remedy='write ["name"]')

    def _check_errors(self) -> None:
        try:
            policy = checked_policy(self.errors, "Config")
        except TopologyError as error:
            raise ConfigError(error.message, remedy=error.remedy) from None
        if policy is None:
            raise ConfigError("Config: errors=None is unknown", remedy='use "fail", "skip" or dead_letter(sink)')

    def _check_broker(self) -> None:
        if self.broker is None:
            return
        fault = broker_fault(self.broker)
        if fault is not None:
            raise ConfigError(fault[0], remedy=fault[1])
        other = self.kafka.get("bootstrap.servers", self.broker)
        if other != self.broker:
            raise ConfigError(
                f"broker={self.broker!r} and kafka's 'bootstrap.servers' name different brokers", remedy="leave one of them out"
            )

    @property
    def checkpoint_interval_ms(self) -> int:
        """`checkpoint_interval` in ms."""
        return _duration("checkpoint_interval", self.checkpoint_interval)

    @property
    def checkpoint_timeout_ms(self) -> int:
        """`checkpoint_timeout` in ms."""
        return _duration("checkpoint_timeout", self.checkpoint_timeout)

    @property
    def checkpoint_failure_timeout_ms(self) -> int:
        """`checkpoint_failure_timeout` in ms."""
        return _duration("checkpoint_failure_timeout", self.checkpoint_failure_timeout)

    @property
    def stop_timeout_ms(self) -> int:
        """`stop_timeout` in ms."""
        return _duration("stop_timeout", self.stop_timeout)

    @property
    def state_memory_bytes(self) -> int:
        """`state_memory` in bytes."""
        try:
            return parse_bytes(self.state_memory)
        except ConfigError as error:
            raise ConfigError(f"state_memory: {error.message}", remedy=error.remedy) from None

    @property
    def state_path(self) -> Path | None:
        """`state_dir` as a path."""
        return None if self.state_dir is None else Path(self.state_dir)

    @property
    def restore_path(self) -> Path | str | None:
        """`restore_from` as a path; a URL as it is."""
        if self.restore_from is None or "://" in str(self.restore_from):
            return None if self.restore_from is None else str(self.restore_from)
        return Path(self.restore_from)


def _check_path(name: str, value: object) -> None:
    """Refuse what names no directory; an empty name would be the working directory."""
    if value is None:
        return
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise ConfigError(f"{name}={value!r} is not a path", remedy="use a text or a pathlib.Path, or None")
    if not path.strip() or "\0" in path:
        raise ConfigError(f"{name}={value!r} names no directory", remedy="name one, or leave it out; is an environment variable not set?")


def _kafka_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with secrets wrapped; what librdkafka makes of the names and values it says itself."""
    if not isinstance(options, Mapping) or not all(isinstance(name, str) and name for name in options):
        raise ConfigError("kafka is a mapping from names of librdkafka's options to values", remedy='write {"linger.ms": 5}')
    return wrapped(options)


def _duration(name: str, value: str | int | timedelta) -> int:
    try:
        return parse_duration(value)
    except TopologyError as error:
        raise ConfigError(f"{name}: {error.message}", remedy=error.remedy or 'use e.g. "5s"') from None
