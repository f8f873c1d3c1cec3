"""The plain values that expressions may hold, and the mappings that `replace` is given."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Mapping
from typing import Any, Final

from streamdsl.errors import TopologyError
from streamdsl.expr.no_value import NoValue
from streamdsl.scalars import plain

__all__ = ["LITERALS", "MISSING", "Missing", "mapping_of"]

LITERALS: Final = (bool, int, float, decimal.Decimal, str, bytes, datetime.datetime, datetime.date, datetime.timedelta, type(None))


class Missing:
    """The type of an argument that was not given, where None means null."""

    def __repr__(self) -> str:
        return "<not given>"


MISSING: Final = Missing()


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, NoValue)) and getattr(value, "ndim", 1) > 0


def mapping_of(verb: str, old: Any, new: Any) -> dict[Any, Any]:
    """Return the mapping that `replace` was given, in one of its forms."""
    if isinstance(new, Missing):
        if not isinstance(old, Mapping):
            raise TopologyError(f"{verb} needs a mapping, or old and new values", remedy=f'write {verb}({{"old": "new"}})')
        found = {plain(key): plain(value) for key, value in old.items()}
    else:
        olds = list(map(plain, old)) if _is_list(old) else [plain(old)]
        news = list(map(plain, new)) if _is_list(new) else [plain(new)] * len(olds)
        if len(olds) != len(news):
            raise TopologyError(f"{verb}: {len(olds)} old and {len(news)} new values", remedy="give one new value for each, or one for all")
        found = dict(zip(olds, news, strict=True))
    if not found:
        raise TopologyError(f"{verb} needs a mapping with at least one value")
    for value in (*found.keys(), *found.values()):
        if not isinstance(value, LITERALS):
            raise TopologyError(f"{verb} cannot hold {value!r}", remedy="use plain values")
    return found
