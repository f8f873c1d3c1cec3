"""What of a checkpoint's keyed state goes where in the present topology, by operator name and layout."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamdsl.checkpoint.manifest import Manifest, StoreEntry
from streamdsl.checkpoint.meanings import remedy_of_change
from streamdsl.errors import StateError

__all__ = ["StateMatch", "TableTarget", "match_state"]


@dataclass(frozen=True, slots=True)
class TableTarget:
    """Where the rows of a stored table go: a table of the present store, with {stored field id: field index}."""

    table: int
    fields: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StateMatch:
    """The outcome of `match_state`: everything stored has a place or was given up by name."""

    manifest: Manifest

    def targets(self, stored: StoreEntry, description: Mapping[str, Any]) -> dict[int, list[TableTarget]]:
        """Return stored table id -> targets in a store that describes itself as `description`."""
        found: dict[int, list[TableTarget]] = {}
        for old in _tables(stored):
            places = []
            for new in description["tables"]:
                if new["kind"] != old.kind:
                    continue
                indices = {field["name"]: field["id"] for field in new["fields"]}
                fields = {field_id: indices[name] for field_id, (name, _) in old.fields.items() if name in indices}
                # A table without fields (timers, say) is known by its own name: its keys are the state.
                if fields or (not old.fields and new["name"] == old.name):
                    places.append(TableTarget(new["id"], fields))
            if places:
                found[old.id] = places
        return found

    @staticmethod
    def field_counts(stored: StoreEntry) -> dict[int, int]:
        """Return the number of fields of each stored table."""
        return {table.id: len(table.fields) for table in _tables(stored)}


@dataclass(frozen=True, slots=True)
class _Table:
    id: int
    kind: str
    name: str
    key: str
    fields: Mapping[int, tuple[str, str]]  # id -> (name, layout)


def match_state(
    manifest: Manifest,
    shards: int,
    descriptions: Iterable[Mapping[str, Any]],
    drop_state: Collection[str] = frozenset(),
    changed: Collection[str] = frozenset(),
) -> StateMatch:
    """Check that the state of a checkpoint fits the topology; called once, before anything is restored.

    Parameters
    ----------
    manifest : Manifest
    shards : int
        S of the present topology.
    descriptions : iterable of mapping
        `StateStore.describe()` of every store of the present topology (one task of each stage is enough).
    drop_state : collection of str
        Operators whose stored state may be lost. It is dropped where the checkpoint's run had not dropped it already, or it does not fit.
    changed : collection of str
        Operators whose state has another meaning now (see `meanings.check_meanings`): they are among `drop_state`.

    Raises
    ------
    StateError
        State would be lost or misread; the message names the operators and the way out.
    """
    if manifest.shards != shards:
        raise StateError(
            f"checkpoint {manifest.checkpoint_id} has {manifest.shards} shards, the topology {shards}",
            remedy="the partition count of a co-partitioned source has changed: start with another state directory",
        )
    fields: dict[tuple[str, str], tuple[str, str]] = {}  # (kind, name) -> (layout, key)
    tables: dict[tuple[str, str], str] = {}  # (kind, name) -> key
    for description in descriptions:
        for table in description["tables"]:
            tables[table["kind"], table["name"]] = table["key"]
            for field in table["fields"]:
                fields[table["kind"], field["name"]] = (field["layout"], table["key"])
    gone: set[str] = set()
    misfits: dict[str, str] = {}
    for stored in manifest.stores:
        for old in _tables(stored):
            if not old.fields and old.kind != "rows":
                key = tables.get((old.kind, old.name))
                _sort_out(old.name, None if key is None else (key,), (old.key,), gone, misfits)
            for name, layout in old.fields.values():
                _sort_out(name, fields.get((old.kind, name)), (layout, old.key), gone, misfits)
    new = set(drop_state) - set(manifest.dropped)
    dropped = new | {name for name in drop_state if _dropped(name, changed) or any(_dropped(lost, [name]) for lost in (*gone, *misfits))}
    _refuse(
        manifest,
        {name for name in gone if not _dropped(name, dropped)},
        {text for name, text in misfits.items() if not _dropped(name, dropped)},
    )
    return StateMatch(_without(manifest, dropped))


def _sort_out(name: str, present: tuple[str, ...] | None, stored: tuple[str, ...], gone: set[str], misfits: dict[str, str]) -> None:
    if not name:  # given up by the run before
        return
    if present is None:
        gone.add(name)
    elif present != stored:
        misfits[name] = name + ": " + ", ".join(f"{old} → {new}" for old, new in zip(stored, present, strict=True) if old != new)


def _dropped(name: str, drop_state: Collection[str]) -> bool:
    """Whether the state `name` is given up, itself or with its operator ("operator/state")."""
    return name in drop_state or name.partition("/")[0] in drop_state


def _refuse(manifest: Manifest, gone: set[str], changed: set[str]) -> None:
    if gone:
        names = sorted(gone)
        operators = sorted({name.partition("/")[0] for name in names})
        raise StateError(
            f"checkpoint {manifest.checkpoint_id} holds state of {', '.join(map(repr, names))}, which the topology does not have",
            remedy=f"give the operators their names back, or let that state go: Config(drop_state={operators!r})",
        )
    if changed:
        operators = sorted({text.partition(": ")[0].partition("/")[0] for text in changed})
        raise StateError(
            f"checkpoint {manifest.checkpoint_id} holds state in another form: {'; '.join(sorted(changed))}",
            remedy=remedy_of_change(operators, readable=False),
        )


def _without(manifest: Manifest, drop_state: Collection[str]) -> Manifest:
    """Return the manifest as if the dropped state had never been described: its rows are passed over."""
    if not drop_state:
        return manifest
    stores = []
    for stored in manifest.stores:
        tables = []
        for table in stored.description["tables"]:
            if not table["fields"] and _dropped(table["name"], drop_state):
                continue
            kept = [{**field, "name": "", "layout": ""} if _dropped(field["name"], drop_state) else field for field in table["fields"]]
            tables.append({**table, "fields": kept})
        stores.append(StoreEntry(stored.name, stored.backend, stored.shards, {"tables": tables}, stored.files))
    return replace(manifest, stores=tuple(stores))


def _tables(stored: StoreEntry) -> list[_Table]:
    """Read a store's description strictly: it comes from disk."""
    try:
        tables = [
            _Table(
                _id(table["id"]),
                _text(table["kind"]),
                _text(table["name"]),
                _text(table["key"]),
                {_id(field["id"]): (_text(field["name"]), _text(field["layout"])) for field in table["fields"]},
            )
            for table in stored.description["tables"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"the tables of store {stored.name!r} are not described as this version does: {error}",
            remedy="restore from another checkpoint",
        ) from error
    for table in tables:
        if sorted(table.fields) != list(range(len(table.fields))):
            raise StateError(f"the fields of table {table.name!r} are not numbered", remedy="restore from another checkpoint")
    return tables


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 65536:
        raise ValueError(f"{value!r} is not an id")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value
