"""What a worker says of itself before it begins."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from streamdsl.cli.settings import Settings
from streamdsl.connectors.kafka import Kafka
from streamdsl.dsl.topology import Topology
from streamdsl.secret import redacted

__all__ = ["banner"]


def banner(topology: Topology, settings: Settings, version: str, metrics: str | None, page: str | None = None) -> str:
    """Return the lines: what runs, from where to where, where its state is, and what it guarantees.

    Parameters
    ----------
    topology : Topology
    settings : Settings
        With the state directory that is used.
    version : str
    metrics : str | None
        Address of the metrics, if they are served.
    page : str | None
        Address of the live page, if it is served.
    """
    config = settings.config
    place = config.state_dir or "a temporary directory"
    lines = [
        ("runs as", _who()),
        ("modules", f"streamdsl {version}, {_modules(topology, settings)}"),
        ("topology", topology.name),
        *[("reads", f"{name}: {_end(source, settings)}") for name, source in topology.sources().items()],
        *[("writes", f"{name}: {_end(sink, settings)}, {guarantee(sink)}") for name, sink in topology.sinks().items()],
        ("state", f"{place} ({config.state_backend}, {config.state_memory} in memory)"),
        ("checkpoints", f"every {config.checkpoint_interval}"),
        ("parallelism", str(config.parallelism)),
        *([("kafka", _options(config.kafka))] if config.kafka else []),
        *([("metrics", f"{metrics}/metrics, {metrics}/health")] if metrics else []),
        *([("page", page)] if page else []),
        ("stop", f"Ctrl-C or SIGTERM: {'windows close' if settings.drain else 'a last checkpoint'}; twice: at once"),
    ]
    shown = [
        f"  {label if label != before else '':12}{text}" for (label, text), (before, _) in zip(lines, [("", ""), *lines], strict=False)
    ]
    return "\n".join([f"streamdsl {version}", *shown])


def _end(end: Any, settings: Settings) -> str:
    if isinstance(end, Kafka):
        return f"Kafka topic {end.topic} at {end.client_options(settings.config)['bootstrap.servers']}"
    return f"{type(end).__name__} {end.name}"


def guarantee(sink: Any) -> str:
    """Return what a sink promises after a crash."""
    promised = getattr(sink, "delivery", None)
    return "as it promises itself" if promised is None else str(promised).replace("_", " ")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}, process {os.getpid()}, Python {platform.python_version()}"


def _modules(topology: Topology, settings: Settings) -> str:
    """Return the packages that the topology's work is done by, with their versions."""
    ends = (*topology.sources().values(), *topology.sinks().values())
    rocksdb = ("rocksdict",) if settings.config.state_backend == "rocksdb" else ()
    packages = dict.fromkeys(("pyarrow", *rocksdb, *(package for end in ends for package in getattr(end, "packages", ()))))
    return ", ".join(_versioned(package) for package in packages)


def _versioned(package: str) -> str:
    try:
        return f"{package} {version_of(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(redacted(options).items()))
