"""``streamdsl stop``: a running worker takes a last checkpoint and leaves."""

from __future__ import annotations

import click

from streamdsl.cli.door import ask
from streamdsl.cli.printing import echo
from streamdsl.cli.state_place import of_state_dir, state_dir_of_job

__all__ = ["command"]


@click.command("stop")
@state_dir_of_job
@click.option("--timeout", type=float, default=60.0, metavar="S", show_default=True, help="How long to wait for its end.")
@click.pass_obj
def command(target: str | None, state_dir: str | None, timeout: float) -> None:
    """Have the running worker take a last checkpoint and leave, and wait for that. Windows stay open; the next worker goes on."""
    root, job = of_state_dir(target, state_dir)
    echo(f"{job}: {ask(root, 'stop', timeout_s=timeout)['said']}")
