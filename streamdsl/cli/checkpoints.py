"""``streamdsl checkpoints``: what a state directory holds. Reads only; a worker may be running."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.recovery import Checkpoint, find_checkpoint, published
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.cli.group import Group
from streamdsl.cli.printing import echo, one_line
from streamdsl.cli.state_place import of_state_dir, state_dir_of_job
from streamdsl.cli.target import load
from streamdsl.compiler import compile
from streamdsl.errors import ConfigError, StateError
from streamdsl.runtime.state_file import write_table
from streamdsl.runtime.state_text import json_row, key_of_texts, prefix_of_texts

__all__ = ["command"]


@click.group("checkpoints", cls=Group)
def command() -> None:
    """List, show, verify and read the checkpoints of a job."""


@command.command("list")
@state_dir_of_job
@click.pass_obj
def list_(target: str | None, state_dir: str | None) -> int:
    """List the checkpoints, oldest first."""
    root, job = of_state_dir(target, state_dir)
    storage = _storage(root)
    ids = published(storage)
    echo(one_line(f"{job}: {len(ids)} checkpoint{'' if len(ids) == 1 else 's'} in {root}"))
    damaged = 0
    for checkpoint_id in ids:
        try:
            manifest = _manifest(storage, checkpoint_id)
        except StateError as error:
            damaged += 1
            echo(one_line(f"{checkpoint_id:>10}  damaged: {error.message}"))
            continue
        if manifest is not None:
            taken = datetime.datetime.fromtimestamp(Path(storage.where(checkpoint_id, "manifest.json")).stat().st_mtime).astimezone()
            notes = "  input finished" if manifest.finished else ""
            echo(f"{checkpoint_id:>10}  {taken:%Y-%m-%d %H:%M:%S}  {_size(manifest):>14,} bytes{notes}")
    return 1 if damaged else 0


@command.command("show")
@state_dir_of_job
@click.argument("checkpoint_id", type=int, required=False)
@click.pass_obj
def show(target: str | None, state_dir: str | None, checkpoint_id: int | None) -> None:
    """Show what a checkpoint says (the newest one by default): positions, operators, files."""
    root, _ = of_state_dir(target, state_dir)
    storage = _storage(root)
    ids = published(storage)
    chosen = checkpoint_id if checkpoint_id is not None else (ids[-1] if ids else None)
    manifest = None if chosen is None else _manifest(storage, chosen)
    if manifest is None:
        asked = "no complete checkpoint" if checkpoint_id is None else f"no checkpoint {checkpoint_id}"
        raise StateError(f"{root} holds {asked}", remedy=f"complete ones: {', '.join(map(str, ids)) or 'none'}")
    for line in _described(manifest):
        echo(one_line(line))


@command.command("verify")
@state_dir_of_job
@click.argument("checkpoint_ids", type=int, nargs=-1)
@click.pass_obj
def verify(target: str | None, state_dir: str | None, checkpoint_ids: tuple[int, ...]) -> int:
    """Read every file of the checkpoints (all by default) and compare sizes and checksums."""
    root, job = of_state_dir(target, state_dir)
    storage = _storage(root)
    chosen = checkpoint_ids or tuple(published(storage))
    if not chosen:
        raise StateError(f"{root} holds no complete checkpoint", remedy="there is nothing to verify")
    damaged = 0
    for checkpoint_id in chosen:
        try:
            # Named exactly: no other one takes its place.
            found: Checkpoint | None = find_checkpoint(storage, job, checkpoint_id=checkpoint_id)
            assert found is not None
            files = sum(len(store.files) for store in found.manifest.stores)
            echo(f"{checkpoint_id:>10}  whole: {files} files, {_size(found.manifest):,} bytes")
        except StateError as error:
            if not checkpoint_ids and checkpoint_id not in published(storage):
                continue  # the worker has removed it meanwhile: it was too old
            damaged += 1
            echo(one_line(f"{checkpoint_id:>10}  {error.message}"))
    return 1 if damaged else 0


@command.command("read")
@state_dir_of_job
@click.argument("directory", required=False)
@click.option("--table", "name", metavar="NAME", help="Which one [default: they are listed].")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="The row of this key alone; once for each column of the key.")
@click.option("--prefix", "prefixes", multiple=True, metavar="TEXT", help="The rows whose key begins so.")
@click.option("--checkpoint", "checkpoint_id", type=int, metavar="ID", help="[default: the newest]")
@click.option("--to", "file", metavar="FILE", help="Write .parquet, .arrow, .csv or .jsonl [default: lines of JSON on standard output].")
@click.pass_obj
def read(
    target: str | None,
    state_dir: str | None,
    directory: str | None,
    name: str | None,
    keys: tuple[str, ...],
    prefixes: tuple[str, ...],
    checkpoint_id: int | None,
    file: str | None,
) -> int:
    """Read the rows of a table as of a checkpoint, in the state directory or savepoint DIRECTORY.

    A table of declared verbs is read by what the checkpoint says of it. State that Python code keeps needs the topology: -A.
    """
    from streamdsl.runtime.state_reading import table_of_checkpoint, tables_of_checkpoint

    place = Path(directory) if directory is not None else None
    root, job = _read_from(place) if place is not None else _checkpoints_of(target, state_dir)
    plan = compile(load(target)).physical if target is not None else None
    if name is None:
        found = find_checkpoint(DirectoryStorage(root), job, checkpoint_id=checkpoint_id)
        names = tables_of_checkpoint(found.manifest, plan) if found is not None else ()
        raise ConfigError("which table?", remedy=f"say --table NAME; this checkpoint has: {', '.join(names) or 'none'}")
    table = table_of_checkpoint(root, job, name, checkpoint_id=checkpoint_id, plan=plan)
    echo(one_line(f"{table.name} as of {table.as_of}"), err=True)
    rows: Iterable[dict[str, Any]]
    if keys:
        row = table.get(key_of_texts(table.name, table.key_schema, keys))
        rows = row if isinstance(row, list) else [] if row is None else [row]
    else:
        rows = table.scan(prefix_of_texts(table.key_schema, prefixes))
    if file is not None:
        schema = table.schema
        write_table(
            pa.Table.from_pylist(list(rows), schema=schema) if keys else table.to_arrow(prefix_of_texts(table.key_schema, prefixes)), file
        )
        return 0
    count = 0
    for row in rows:
        count += 1
        echo(json_row(row))
    return 0 if count or not keys else 1


def _checkpoints_of(target: str | None, state_dir: str | None) -> tuple[Path, str]:
    root, job = of_state_dir(target, state_dir)
    return _storage(root).root, job


def _read_from(place: Path) -> tuple[Path, str]:
    """Return the directory of checkpoints in a state directory or a savepoint, and whose they are."""
    if (place / "job.json").exists():
        return _checkpoints_of(None, str(place))
    storage = DirectoryStorage(place, links=False) if place.is_dir() else None
    ids = published(storage) if storage is not None else []
    manifest = _manifest(storage, ids[-1]) if storage is not None and ids else None
    if manifest is None:
        raise StateError(f"{place} is neither a state directory nor a savepoint", remedy="name the one that the worker's banner names")
    return place, manifest.job


def _storage(root: Path) -> DirectoryStorage:
    if not (root / "checkpoints").is_dir():
        raise StateError(f"{root} has no directory of checkpoints", remedy="no run has come so far there")
    return DirectoryStorage(root / "checkpoints")


def _manifest(storage: DirectoryStorage, checkpoint_id: int) -> Manifest | None:
    try:
        data = storage.read_manifest(checkpoint_id)
    except OSError as error:
        raise StateError(f"{storage.where(checkpoint_id)} cannot be read: {error.strerror or error}") from error
    return None if data is None else Manifest.decode(data, storage.where(checkpoint_id, "manifest.json"))


def _size(manifest: Manifest) -> int:
    return sum(file.size for store in manifest.stores for file in store.files)


def _described(manifest: Manifest) -> list[str]:
    lines = [
        f"checkpoint {manifest.checkpoint_id} of {manifest.job}{', input finished' if manifest.finished else ''}",
        f"digest {manifest.digest}",
        f"{manifest.shards} shards",
    ]
    for source, splits in sorted(manifest.sources.items()):
        lines.append(f"source {source}")
        lines += [f"  {split}: {_json(position)}" for split, position in sorted(splits.items())]
    for operator, tasks in sorted(manifest.operators.items()):
        lines.append(f"operator {operator}")
        lines += [f"  task {task}: {_json(snapshot)}" for task, snapshot in sorted(tasks.items())]
    for store in manifest.stores:
        tables = ", ".join(str(table["name"]) for table in store.description["tables"]) or "no tables"
        lines.append(f"state {store.name} ({store.backend}, {len(store.shards)} shards): {tables}")
        lines += [f"  {file.name}: {file.size:,} bytes{', journal' if file.grows else ''}" for file in store.files]
    return lines


def _json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else text[:199] + "…"
