"""Where a job of Flink begins that goes on from a worker: the offsets of its last checkpoint."""

from __future__ import annotations

from pathlib import Path

from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.cli.state_place import of_state_dir
from streamdsl.dsl.topology import Topology
from streamdsl.errors import ConfigError, StateError

__all__ = ["offsets_of"]


def offsets_of(topology: Topology, state_dir: Path) -> dict[str, dict[int, int]]:
    """Return the next offsets of each source of a topic, by partition, as the newest checkpoint of a state directory has them.

    Raises
    ------
    StateError
        There is no such checkpoint, or it stands in the middle of a record.
    """
    root, job = of_state_dir(None, str(state_dir))
    if job != topology.name:
        raise ConfigError(f"{root} is the state directory of {job!r}, not of {topology.name!r}", remedy="name the job's own directory")
    checkpoint = find_checkpoint(DirectoryStorage(root / "checkpoints"), job)
    if checkpoint is None:
        raise StateError(f"{root} holds no complete checkpoint", remedy="let the worker stop by itself: SIGTERM takes a last one")
    found: dict[str, dict[int, int]] = {}
    for source, splits in checkpoint.manifest.sources.items():
        for split, state in splits.items():
            position = state.get("position") if isinstance(state, dict) else None
            offset = position.get("offset") if isinstance(position, dict) else None
            if not isinstance(position, dict) or "topic" not in position or not isinstance(offset, int):
                continue  # no topic, or nothing has been read of it
            if position.get("skip"):
                raise StateError(
                    f"{source}: partition {split} stands in the middle of the record at offset {offset}",
                    remedy="let the worker go on for a while, and stop it again",
                )
            found.setdefault(source, {})[int(split.rpartition("/")[2])] = offset
    return found
