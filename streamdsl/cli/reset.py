"""``streamdsl reset``: forget the state of a job."""

from __future__ import annotations

import fcntl
import os
import shutil

import click

from streamdsl.cli.printing import echo
from streamdsl.cli.state_place import of_state_dir, state_dir_of_job
from streamdsl.errors import StateError

__all__ = ["command"]


@click.command("reset")
@state_dir_of_job
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(target: str | None, state_dir: str | None, yes: bool) -> int:
    """Remove the state directory of a job: all its checkpoints. The next run begins anew. What it has written elsewhere stays.

    A job with an exactly-once Kafka sink has its last checkpoint on record there: give it another topology name as well.
    """
    root, job = of_state_dir(target, state_dir)
    if not yes and not click.confirm(f"Remove {root}, all state of {job}? It cannot be brought back", default=False):
        echo("nothing was removed")
        return 1
    lock = os.open(root / "LOCK", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateError(f"a worker runs in {root}", remedy="streamdsl stop ends it") from None
    else:
        # Last of all what says whose it is: a reset that is interrupted can be done again.
        for name in sorted(os.listdir(root), key=lambda name: name in ("job.json", "LOCK")):
            path = root / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        root.rmdir()
    finally:
        os.close(lock)
    echo(f"{job}: {root} is removed")
    return 0
