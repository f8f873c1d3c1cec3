"""Whether the positions and the state of a checkpoint mean to the present topology what they meant when they were written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.errors import StateError

__all__ = ["changes", "check_meanings", "remedy_of_change", "watermarks"]

Meanings = Mapping[str, Mapping[str, "str | int"]]
#: Parts that say where something is, not what it means.
LOOKUP = "lookup"


def changes(stored: Meanings, present: Meanings) -> dict[str, list[str]]:
    """Return what has changed, by source or operator: ``{"win": ["window: tumbling(\\"10s\\") → tumbling(\\"20s\\")"]}``.

    A part that only one of them has is no change: a Processor may declare another state. A number may become smaller.
    """
    found: dict[str, list[str]] = {}
    for name, parts in stored.items():
        now = present.get(name, {})
        for part, was in parts.items():
            value = now.get(part, was)
            smaller = isinstance(was, int) and isinstance(value, int) and value <= was
            if part != LOOKUP and value != was and not smaller:
                larger = " (it may only become smaller)" if isinstance(was, int) and isinstance(value, int) else ""
                found.setdefault(name, []).append(f"{part}: {was} → {value}{larger}")
    return found


def check_meanings(manifest: Manifest, present: Meanings, drop_state: Collection[str], keep_state: Collection[str]) -> frozenset[str]:
    """Refuse a checkpoint whose state or positions would be taken for something else; return what has changed and is dropped.

    What `keep_state` names is taken as it is: the user says that the change is meant, and that the old state fits it.

    Raises
    ------
    StateError
        The message names the operators, what they were, what they are, and the ways out.
    """
    changed = changes(manifest.meanings, present)
    refused = {name: parts for name, parts in changed.items() if name not in drop_state and name not in keep_state}
    if refused:
        told = "; ".join(f"{name!r} has changed: {', '.join(parts)}" for name, parts in sorted(refused.items()))
        raise StateError(
            f"checkpoint {manifest.checkpoint_id} holds state of another meaning: {told}", remedy=remedy_of_change(sorted(refused))
        )
    return frozenset(name for name in changed if name in drop_state)


def remedy_of_change(names: list[str], *, readable: bool = True) -> str:
    """Return the ways out for operators that no longer fit their state; `readable`: they could go on with it."""
    kept = f"or, if what was computed so far is right for the new one too, keep it with Config(keep_state={names!r}); "
    return (
        f"change it back; or let the old state go with Config(drop_state={names!r}), under the same name or another name=; "
        f"{kept if readable else ''}or begin anew with another state_dir"
    )


def watermarks(manifest: Manifest, lookups: Mapping[str, Iterable[str]]) -> dict[str, dict[str, int]]:
    """Return {lookup: {shard: watermark}} of the present lookups, given {lookup: operators behind it}.

    What is late is judged by what the operators behind a lookup have seen, whatever the lookup was called.
    """
    found: dict[str, dict[str, int]] = {}
    for lookup, operators in lookups.items():
        names = {lookup} | {str(manifest.meanings.get(name, {}).get(LOOKUP, lookup)) for name in operators}
        for name in sorted(names):
            for shard, reached in manifest.shard_watermarks.get(name, {}).items():
                known = found.setdefault(lookup, {})
                known[shard] = max(reached, known.get(shard, reached))
    return found
