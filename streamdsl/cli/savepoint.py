"""``streamdsl savepoint``: a copy of the state of a running worker, which nothing removes."""

from __future__ import annotations

from pathlib import Path

import click

from streamdsl.checkpoint.objects import is_url
from streamdsl.cli.door import ask
from streamdsl.cli.printing import echo
from streamdsl.cli.state_place import of_state_dir, state_dir_of_job

__all__ = ["command"]


@click.command("savepoint")
@state_dir_of_job
@click.option("--timeout", type=float, default=600.0, metavar="S", show_default=True, help="How long to wait for it.")
@click.argument("directory")
@click.pass_obj
def command(target: str | None, state_dir: str | None, timeout: float, directory: str) -> None:
    """Have the running worker write a savepoint into the new DIRECTORY (or URL); it goes on.

    `worker --restore-from DIRECTORY` begins with it.
    """
    root, job = of_state_dir(target, state_dir)
    # The worker's working directory may be another.
    said = ask(root, "savepoint", timeout_s=timeout, path=directory if is_url(directory) else str(Path(directory).absolute()))
    echo(f"{job}: savepoint {said['path']}")
