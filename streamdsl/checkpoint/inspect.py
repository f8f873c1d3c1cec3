"""Looking into a completed checkpoint without running the job."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from streamdsl._native.state.restore import open_restored
from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError

__all__ = ["count_keys"]


def count_keys(state_dir: str | os.PathLike[str]) -> dict[str, int]:
    """Open the newest checkpoint, verify its files and count the keys of every table.

    Parameters
    ----------
    state_dir : path
        State directory of a job that is not running.

    Returns
    -------
    dict
        {table: keys}; a table is named after its lookup or operator.

    Raises
    ------
    StateError
        There is no complete checkpoint, or it is damaged.
    """
    root = Path(state_dir)
    job = json.loads((root / "job.json").read_text())["job"]
    checkpoint = find_checkpoint(DirectoryStorage(root / "checkpoints"), job)
    if checkpoint is None:
        raise StateError(f"{root} holds no complete checkpoint")
    counts: dict[str, int] = {}
    for store in checkpoint.manifest.stores:
        names = {table["id"]: table["name"] for table in store.description["tables"]}
        with tempfile.TemporaryDirectory() as scratch:
            backend = open_restored(store.backend, Path(scratch) / "db", checkpoint.files(store))
            try:
                for key, _ in backend.scan(b""):
                    name = names[int.from_bytes(key[2:4], "big")]
                    counts[name] = counts.get(name, 0) + 1
            finally:
                backend.close()
    return counts
