"""Names on disk: what may stand in a path, and how other names become such ones."""

from __future__ import annotations

import hashlib
import re

from streamdsl.errors import StateError

__all__ = ["check_file_name", "check_store_name", "safe_name"]

_STORE = re.compile(r"[a-z0-9_-]{1,80}\Z")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z")


def safe_name(name: str) -> str:
    """Return a name for a directory: `name` itself where it is harmless, else its harmless letters and a hash.

    Examples
    --------
    >>> safe_name("task-3")
    'task-3'
    >>> safe_name("2.0").rpartition("-")[0]
    '2-0'
    """
    if re.match(r"[a-z0-9_-]{1,64}\Z", name):
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    harmless = re.sub(r"[^a-z0-9_-]+", "-", name.lower())[:48]
    return f"{harmless}-{digest}"


def check_store_name(name: object) -> str:
    """Return `name` if it can name a store's directory, else raise `StateError`."""
    if not isinstance(name, str) or not _STORE.match(name):
        raise StateError(f"{_shown(name)} is not the name of a store")
    return name


def check_file_name(name: object) -> str:
    """Return `name` if it can name a file of a store (one component, no `..`), else raise `StateError`."""
    if not isinstance(name, str) or len(name) > 100 or not _FILE.match(name):
        raise StateError(f"{_shown(name)} is not the name of a state file")
    return name


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
