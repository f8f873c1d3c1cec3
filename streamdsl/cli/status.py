"""``streamdsl status``: how the worker of a job is, or what it has left."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from streamdsl.checkpoint.recovery import published
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.cli.door import ask, owner_of
from streamdsl.cli.log import rows_in
from streamdsl.cli.printing import echo, one_line
from streamdsl.cli.state_place import of_state_dir, state_dir_of_job

__all__ = ["command", "status_of"]


@click.command("status")
@state_dir_of_job
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--timeout", type=float, default=10.0, metavar="S", show_default=True, help="How long to wait for the answer.")
@click.pass_obj
def command(target: str | None, state_dir: str | None, as_json: bool, timeout: float) -> int:
    """Show how the worker of a job is. Exit code 1: none runs; what its state directory holds is shown then."""
    root, job = of_state_dir(target, state_dir)
    if owner_of(root) is None:
        said = {"job": job, "running": False, **_left(root)}
    else:
        said = {"job": job, "running": True, **ask(root, "status", timeout_s=timeout)}
    if as_json:
        echo(json.dumps(said))
    else:
        for name, value in said.items():
            echo(one_line(f"{name.replace('_', ' '):<18}{_shown(value)}"))
    return 0 if said["running"] else 1


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else str(value)


def _left(root: Path) -> dict[str, Any]:
    storage = DirectoryStorage(root / "checkpoints")
    ids = published(storage) if (root / "checkpoints").is_dir() else []
    if not ids:
        return {"last_checkpoint": None}
    taken = Path(storage.where(ids[-1], "manifest.json")).stat().st_mtime
    at = datetime.datetime.fromtimestamp(taken, datetime.UTC).isoformat(timespec="seconds")
    return {"last_checkpoint": ids[-1], "taken_at": at}


def status_of(figures: Mapping[str, Any], started: float) -> dict[str, Any]:
    """Return what a worker says of itself; `started` is when it did, by the monotonic clock."""
    lags = [lag for task in figures["tasks"] for lag in task.get("lag", {}).values() if lag is not None]
    checkpoints, latency = figures["checkpoints"], figures["latency_ms"]
    return {
        "process": os.getpid(),
        "phase": figures["phase"],
        "seconds": round(time.monotonic() - started, 1),
        "records_in": rows_in(figures),
        "records_out": sum(figures["sinks"].values()),
        "late": sum(operator.get("late", 0) for operator in figures["operators"].values()),
        "rejected": sum(task.get("rejected", 0) for task in figures["tasks"]),
        "lag": sum(lags) if lags else None,
        "latency_p99_ms": latency["p99"],
        "state_keys": figures["state"]["keys"],
        "state_bytes": figures["state"]["bytes"],
        "last_checkpoint": checkpoints["last_id"],
        "checkpoint_ms": checkpoints["last_duration_ms"],
        "checkpoints_failed": checkpoints["failed"],
    }
