"""``streamdsl drain``: a running worker closes its windows, commits everything and ends."""

from __future__ import annotations

import click

from streamdsl.cli.door import ask
from streamdsl.cli.printing import echo
from streamdsl.cli.state_place import of_state_dir, state_dir_of_job

__all__ = ["command"]


@click.command("drain")
@state_dir_of_job
@click.option("--timeout", type=float, default=600.0, metavar="S", show_default=True, help="How long to wait for its end.")
@click.pass_obj
def command(target: str | None, state_dir: str | None, timeout: float) -> None:
    """Have the running worker take what it has read as the end of its input: windows close, all is committed, the job has finished."""
    root, job = of_state_dir(target, state_dir)
    echo(f"{job}: {ask(root, 'drain', timeout_s=timeout)['said']}")
