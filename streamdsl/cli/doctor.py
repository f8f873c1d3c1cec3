"""``streamdsl doctor``: is everything there that a worker needs?"""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from streamdsl.cli import kafka
from streamdsl.cli.options import connection_options, default_state_dir, settings_of, state_dir_option
from streamdsl.cli.printing import echo
from streamdsl.cli.settings import Settings
from streamdsl.cli.target import load
from streamdsl.dsl.topology import Topology
from streamdsl.errors import StreamError
from streamdsl.schema import Schema

__all__ = ["command"]

#: Below this a checkpoint may soon fail for want of space.
_LEAST_FREE = 1 << 30
_TIMEOUT_S = 5.0

#: Whether it is right, and what was found. None: it is not asked for.
Finding = tuple[bool | None, str]


@click.command("doctor")
@state_dir_option
@connection_options
@click.pass_obj
def command(target: str | None, /, **flags: Any) -> int:
    """Check versions, the state directory, the broker and its topics; with -A those of the topology. Exit code 1: something is wrong."""
    settings = settings_of(flags)
    topology = load(target) if target else None
    wrong = 0
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        lambda: _state(topology, settings),
        lambda: _broker(topology, settings),
    ]
    if topology is not None:
        checks += _of_topology(topology, settings)
    for check in checks:
        for right, text in _found(check):
            wrong += right is False
            echo(f"{'–' if right is None else 'ok' if right else 'NO':3} {text}")
    return 1 if wrong else 0


def _found(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except StreamError as error:
        yield False, str(error)


def _versions() -> Iterator[Finding]:
    yield True, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in ("streamdsl", "pyarrow", "rocksdict", "confluent-kafka"):
        try:
            yield True, f"{package} {version(package)}"
        except PackageNotFoundError:
            if package == "streamdsl":
                yield None, "streamdsl is not installed: it runs from its sources"
            else:
                needed = package != "confluent-kafka"
                yield (
                    False if needed else None,
                    f"{package} is not installed: pip install {package if needed else repr('streamdsl[kafka]')}",
                )


def _of_topology(topology: Topology, settings: Settings) -> list[Callable[[], Iterator[Finding]]]:
    """Return a check of each thing that the topology reads, writes and asks; those in Kafka are the broker's."""
    sinks = {node.name: node for node in topology.plan().sinks}
    checks: list[Callable[[], Iterator[Finding]]] = []
    for name, source in topology.sources().items():
        for part in source.parts():
            checks.append(functools.partial(_end, f"reads {name}", part, lambda part=part: _here(part, topology, settings).probe()))  # type: ignore[misc]
    for name, node in sinks.items():
        rows = node.inputs[0].schema.visible()
        probe = functools.partial(_probed, node.sink, topology, settings, rows, node.keys if node.changes else ())
        checks.append(functools.partial(_end, f"writes {name}", node.sink, probe))
    for name, lookup in topology.lookups().items():
        checks.append(functools.partial(_end, f"asks {name}", lookup, lookup.probe))
    return checks


def _here(end: Any, topology: Topology, settings: Settings) -> Any:
    return end.configured(settings.config, topology.name)


def _probed(sink: Any, topology: Topology, settings: Settings, rows: Schema, keys: Sequence[str]) -> Iterator[str]:
    return _here(sink, topology, settings).probe(rows, keys)  # type: ignore[no-any-return]


def _end(what: str, end: Any, probe: Callable[[], Iterator[str]]) -> Iterator[Finding]:
    missing = [package for package in getattr(end, "packages", ()) if not _installed(package)]
    if missing:
        extra = type(end).__module__.split(".")[2]
        yield False, f"{what}: {', '.join(missing)} is not installed: pip install 'streamdsl[{extra}]'"
        return
    try:
        for text in probe():
            yield True, f"{what}: {text}"
    except StreamError as error:
        yield False, f"{what}: {error}"


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _state(topology: Topology | None, settings: Settings) -> Iterator[Finding]:
    chosen = settings.config.state_path
    if chosen is None and topology is None:
        yield None, "state directory: say --state-dir, or the topology with -A"
        return
    path = chosen or default_state_dir(topology.name if topology else "")
    there = path
    while not there.exists():
        there = there.parent
    if there != path:
        yield os.access(there, os.W_OK | os.X_OK), f"state directory {path} does not exist yet; {there} {_writable(there)}"
    else:
        status = path.stat()
        yield os.access(path, os.W_OK | os.X_OK), f"state directory {path} {_writable(path)}"
        yield status.st_uid == os.geteuid(), f"it belongs to {'you' if status.st_uid == os.geteuid() else f'user {status.st_uid}'}"
        yield (
            status.st_mode & 0o077 == 0,
            f"its mode is {status.st_mode & 0o777:04o}{'' if status.st_mode & 0o077 == 0 else ', others can look into it: chmod 700'}",
        )
        yield None, _in_use(path)
    free = shutil.disk_usage(there).free
    yield free >= _LEAST_FREE, f"{free / (1 << 30):.1f} GiB free on its disk"


def _writable(path: Path) -> str:
    return "can be written" if os.access(path, os.W_OK | os.X_OK) else "cannot be written"


def _in_use(path: Path) -> str:
    """Return whether a worker holds the lock; a shared one of ours would not keep a worker out for longer than this takes."""
    try:
        descriptor = os.open(path / "LOCK", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return "no worker has used it yet"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return "no worker is using it"
    except BlockingIOError:
        return f"process {os.pread(descriptor, 32, 0).decode('ascii', 'replace').strip()} is using it"
    finally:
        os.close(descriptor)


def _broker(topology: Topology | None, settings: Settings) -> Iterator[Finding]:
    config = settings.config
    topics = kafka.topics_of(topology, config) if topology else []
    if not topics:
        if config.broker is None:
            yield None, "broker: none is named" if topology is None else "broker: the topology names no Kafka topic"
            return
        told = kafka.metadata(kafka.admin({"bootstrap.servers": config.broker, **_revealed(settings)}), config.broker, _TIMEOUT_S)
        yield True, _answer(config.broker, told)
    for broker, needed in kafka.brokers(topics).items():
        told = kafka.metadata(kafka.admin(needed[0].options), broker, _TIMEOUT_S)
        yield True, _answer(broker, told)
        for topic in needed:
            known = told.topics.get(topic.name)
            if known is None:
                yield (
                    False,
                    f"topic {topic.name} ({topic.used_as}) is missing (streamdsl -A … topics --create), or this user may not see it",
                )
            else:
                right = topic.partitions in (None, len(known.partitions))
                wanted = "" if right else f", the topology says {topic.partitions}"
                yield right, f"topic {topic.name} ({topic.used_as}): {len(known.partitions)} partitions{wanted}"
        yield from _rights(needed, told)


def _rights(needed: Sequence[kafka.Topic], told: Any) -> Iterator[Finding]:
    """List what the user of the job has to be allowed, and check what the cluster tells of it: topics that exist."""
    rights = kafka.rights_of(needed)
    topics = [right.name for right in rights if right.kind == "topic" and right.name in told.topics]
    allowed = kafka.allowed(kafka.admin(needed[0].options), topics) if topics else {}
    for right in rights:
        has = allowed.get(right.name) if right.kind == "topic" else None
        lacking = [] if has is None else [name for name in right.operations if name not in has and name != "CREATE"]
        what = f"permission: {right}{f' ({right.why})' if right.why else ''}"
        yield (None if has is None else not lacking), what + (f"; {' and '.join(lacking)} is missing" if lacking else "")


def _answer(broker: str, told: Any) -> str:
    return f"broker {broker} answers: {len(told.brokers)} in the cluster, {len(told.topics)} topics"


def _revealed(settings: Settings) -> dict[str, Any]:
    from streamdsl.secret import Secret

    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in settings.config.kafka.items()}
