"""Which state directory a command means."""

from __future__ import annotations

import json
from pathlib import Path

import click

from streamdsl.cli.options import default_state_dir
from streamdsl.cli.target import load
from streamdsl.errors import ConfigError, StateError

__all__ = ["of_state_dir", "state_dir_of_job"]

state_dir_of_job = click.option(
    "--state-dir", metavar="DIR", envvar="STREAMDSL_STATE_DIR", help="The state directory [default: that of the job that -A names]."
)


def of_state_dir(target: str | None, state_dir: str | None) -> tuple[Path, str]:
    """Return the state directory and whose it is."""
    if state_dir is None and target is None:
        raise ConfigError("which state directory?", remedy="say --state-dir DIR, or name the topology with -A")
    root = Path(state_dir) if state_dir is not None else default_state_dir(load(target).name)
    try:
        known = json.loads((root / "job.json").read_text())
        return root, str(known["job"])
    except FileNotFoundError:
        raise StateError(
            f"{root} is not a state directory: it has no job.json", remedy="name the one that the worker's banner names"
        ) from None
    except OSError as error:
        raise StateError(f"{root} cannot be read: {error.strerror or error}", remedy="be the user that the worker runs as") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{root / 'job.json'} is damaged: {error}", remedy="put the file back from a copy") from error
