"""Avro values that would take a decoder's stack or memory are found before they are decoded.

Three things in the binary encoding (https://avro.apache.org/docs/1.12.0/specification/#binary-encoding) cost more than the bytes
of a value: how deep a recursive type nests, how many items of no bytes an array has, and how many digits a decimal has.
Values of schemas without these are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["AvroBounds"]

#: How deep values may nest, and how many items without bytes one value may hold.
MOST_DEPTH: Final = 100
MOST_EMPTY: Final = 1 << 16
#: Bytes of a decimal: making it a number takes the square of them.
MOST_DECIMAL: Final = 1 << 10

_FIXED_SIZES: Final = {"null": 0, "boolean": 1, "float": 4, "double": 8}


class AvroBounds:
    """Checks values against their writer's schema; `parsed` returns the schema of an id, as fastavro parses it, and its named types."""

    def __init__(self, parsed: Callable[[int], tuple[Any, dict[str, Any]]], id_of: Callable[[bytes], int | None]) -> None:
        self._parsed, self._id_of = parsed, id_of
        self._known: dict[int, _Schema | None] = {}  # None: any value of it is harmless

    def check(self, value: bytes) -> None:
        """Raise if the value nests too deep or holds too many items without bytes.

        Raises
        ------
        ValueError
            It does.
        """
        number = self._id_of(value)
        if number is None:
            return
        if number not in self._known:
            schema = _Schema(*self._parsed(number))
            self._known[number] = schema if schema.is_dangerous() else None
        known = self._known[number]
        if known is not None:
            known.walk(value, 5)


class _Schema:
    def __init__(self, root: Any, named: dict[str, Any]) -> None:
        self._root, self._named = root, named

    def _resolved(self, schema: Any) -> Any:
        while isinstance(schema, str) and schema in self._named:
            schema = self._named[schema]
        if isinstance(schema, dict) and isinstance(schema["type"], (dict, list)):
            return self._resolved(schema["type"])
        return schema

    def _children(self, schema: Any) -> list[Any]:
        kind = _kind(schema)
        if kind == "union":
            return list(schema)
        if kind in ("record", "error"):
            return [field["type"] for field in schema["fields"]]
        if kind == "array":
            return [schema["items"]]
        return [schema["values"]] if kind == "map" else []

    def is_dangerous(self) -> bool:
        """Whether values of it may be deep or hold items without bytes."""
        seen: dict[int, Any] = {}
        stack = [self._resolved(self._root)]
        while stack:
            schema = stack.pop()
            if not isinstance(schema, (dict, list)) or id(schema) in seen:
                continue
            seen[id(schema)] = schema
            if _is_decimal(schema) or (_kind(schema) == "array" and self._is_empty(self._children(schema)[0], 0)):
                return True
            stack += [self._resolved(child) for child in self._children(schema)]
        return any(self._recurs(schema) for schema in seen.values()) or len(seen) > MOST_DEPTH

    def _recurs(self, start: Any) -> bool:
        seen: set[int] = set()
        stack = [self._resolved(child) for child in self._children(start)]
        while stack:
            schema = stack.pop()
            if schema is start:
                return True
            if isinstance(schema, (dict, list)) and id(schema) not in seen:
                seen.add(id(schema))
                stack += [self._resolved(child) for child in self._children(schema)]
        return False

    def _is_empty(self, schema: Any, depth: int) -> bool:
        """Whether a value may take no bytes."""
        schema = self._resolved(schema)
        kind = _kind(schema)
        if kind == "null" or (kind == "fixed" and schema["size"] == 0):
            return True
        return (
            kind in ("record", "error")
            and depth < MOST_DEPTH
            and all(self._is_empty(field["type"], depth + 1) for field in schema["fields"])
        )

    def walk(self, data: bytes, at: int) -> None:
        """Go over a value without making anything of it."""
        empty = 0
        # What is to come: a schema and its depth, or the items of a block that are left.
        stack: list[tuple[Any, int, int]] = [(self._root, 0, -1)]
        while stack:
            schema, depth, left = stack.pop()
            if depth > MOST_DEPTH:
                raise ValueError(f"the value nests deeper than {MOST_DEPTH} levels")
            schema = self._resolved(schema)
            kind = _kind(schema)
            if left >= 0:
                item = schema["items"] if kind == "array" else schema["values"]
                if left == 0:
                    left, at = _block(data, at)
                    if left == 0:
                        continue
                    if kind == "array" and self._is_empty(item, 0):
                        empty += left
                        if empty > MOST_EMPTY:
                            raise ValueError(f"the value holds {empty} items without bytes, {MOST_EMPTY} are allowed")
                        stack.append((schema, depth, 0))
                        continue
                if kind == "map":
                    at = _skip_bytes(data, at)
                stack.append((schema, depth, left - 1))
                stack.append((item, depth + 1, -1))
            elif kind == "union":
                branch, at = _varint(data, at)
                if not 0 <= branch < len(schema):
                    raise ValueError(f"a union has no branch {branch}")
                stack.append((schema[branch], depth + 1, -1))
            elif kind in ("record", "error"):
                stack += [(field["type"], depth + 1, -1) for field in reversed(schema["fields"])]
            elif kind in ("array", "map"):
                stack.append((schema, depth, 0))
            else:
                begin, at = at, _skip(kind, schema, data, at)
                if at - begin > MOST_DECIMAL and _is_decimal(schema):
                    raise ValueError(f"a decimal of {at - begin} bytes, {MOST_DECIMAL} are allowed")


def _kind(schema: Any) -> str:
    return "union" if isinstance(schema, list) else str(schema["type"] if isinstance(schema, dict) else schema)


def _is_decimal(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("logicalType") == "decimal"


def _skip(kind: str, schema: Any, data: bytes, at: int) -> int:
    if kind in _FIXED_SIZES:
        at += _FIXED_SIZES[kind]
    elif kind in ("int", "long", "enum"):
        return _varint(data, at)[1]
    elif kind in ("bytes", "string"):
        return _skip_bytes(data, at)
    elif kind == "fixed":
        at += int(schema["size"])
    else:
        raise ValueError(f"a type {kind!r} that Avro does not have")
    if at > len(data):
        raise ValueError("the value ends too early")
    return at


def _block(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of items of a block; a negative one is followed by the block's bytes."""
    count, at = _varint(data, at)
    if count < 0:
        _, at = _varint(data, at)
    return abs(count), at


def _skip_bytes(data: bytes, at: int) -> int:
    size, at = _varint(data, at)
    if size < 0 or at + size > len(data):
        raise ValueError("a text is longer than the value")
    return at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("the value ends too early")
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
