"""``streamdsl -A … run``: runs a topology whose input ends, from beginning to end."""

from __future__ import annotations

from typing import Any

import click

from streamdsl.cli.options import connection_options, running_options, settings_of
from streamdsl.cli.target import load
from streamdsl.cli.worker import guarded, run_worker, start_logging
from streamdsl.dsl.topology import Topology
from streamdsl.errors import ConfigError

__all__ = ["command"]


@click.command("run")
@running_options
@connection_options
@click.pass_obj
def command(target: str | None, /, **flags: Any) -> int:
    """Run a topology whose input ends, and say what came of it. State is kept only where --state-dir says.

    With a state directory, a run that was stopped goes on where it was. Input without an end is for `worker`.
    """
    settings = settings_of(flags)
    start_logging(settings.loglevel, settings.log_format, plain=settings.plain)
    topology = load(target)
    _check_bounded(topology)
    return guarded(lambda: run_worker(topology, settings))


def _check_bounded(topology: Topology) -> None:
    endless = [f"{name!r}" for name, source in topology.sources().items() if not source.bounded]
    if endless:
        raise ConfigError(
            f"run: the input of {', '.join(endless)} has no end",
            remedy='use `worker`, or give it an end, such as kafka(..., until="latest")',
        )
