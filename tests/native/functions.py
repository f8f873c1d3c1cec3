"""Functions of texts and lists in plain Python, and with which parameters they are tried."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from streamdsl.physical.node import Instruction

#: Unicode's White_Space.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


class Refused(Exception):
    """The row cannot be computed."""


def _strip(cut: Callable[[str, str], str]) -> Callable[[Instruction, str], str]:
    return lambda ins, text: cut(text, SPACE if ins.params[0] is None else ins.params[0])


def _zfill(ins: Instruction, text: str) -> str:
    sign = text[:1] if text[:1] in ("+", "-") else ""
    return sign + "0" * (ins.params[0] - len(text)) + text[len(sign) :]


def _to_integer(ins: Instruction, text: str) -> int | None:
    base, strict = ins.params
    if re.fullmatch(r"[+-]?[0-9a-zA-Z]+", text):
        try:
            value = int(text, base) if text.strip("+-")[:2].lower() not in ("0x", "0b", "0o") or base == 36 else None
        except ValueError:
            value = None
        if value is not None and -(2**63) <= value < 2**63:
            return value
    if strict:
        raise Refused("to_integer")
    return None


def _matches(pattern: str, text: str) -> list[re.Match[str]]:
    found: list[re.Match[str]] = []
    for match in re.finditer(pattern, text):
        if match.group() or not found or found[-1].end() != match.start():
            found.append(match)
    return found


def _compiled(strict: bool, pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        if strict:
            raise Refused("pattern") from None
        return None


def _contains(ins: Instruction, text: str, pattern: str) -> bool | None:
    found = _compiled(ins.params[0], pattern)
    return None if found is None else found.search(text) is not None


def _count(ins: Instruction, text: str, pattern: str) -> int | None:
    return None if _compiled(ins.params[0], pattern) is None else len(_matches(pattern, text))


def _replace_match(ins: Instruction, text: str, value: str) -> str:
    pattern, n = ins.params

    def expanded(match: re.Match[str]) -> str:
        def group(found: re.Match[str]) -> str:
            if found.group() == "$$":
                return "$"
            name = found.group(1) or found.group(2)
            try:
                return match.group(int(name) if name.isdigit() else name) or ""
            except IndexError:
                return ""

        return re.sub(r"\$\$|\$\{([a-zA-Z0-9_]+)\}|\$([a-zA-Z0-9_]+)", group, value)

    for match in reversed(_matches(pattern, text)[: None if n < 0 else n]):
        text = text[: match.start()] + expanded(match) + text[match.end() :]
    return text


def _split(ins: Instruction, text: str, by: str) -> str:
    if not by:
        parts = list(text)
    elif ins.params[0]:
        parts = [part + by for part in text.split(by)]
        parts[-1] = parts[-1][: -len(by)]
        parts = parts if parts[-1] else parts[:-1]
    else:
        parts = text.split(by)
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).replace("\x7f", "\x7f")


def _items(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _shown(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item)


def _get(ins: Instruction, text: str) -> str | None:
    items, (index, null_on_oob) = _items(text), ins.params
    if not -len(items) <= index < len(items):
        if null_on_oob:
            return None
        raise Refused("list.get")
    return None if items[index] is None else _shown(items[index])


def _join(ins: Instruction, text: str, separator: str) -> str | None:
    items = _items(text)
    if not ins.params[0] and None in items:
        return None
    return separator.join(_shown(item) for item in items if item is not None)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "str_strip_chars": _strip(str.strip),
    "str_strip_chars_start": _strip(str.lstrip),
    "str_strip_chars_end": _strip(str.rstrip),
    "str_strip_prefix": lambda ins, x: x.removeprefix(ins.params[0]),
    "str_strip_suffix": lambda ins, x: x.removesuffix(ins.params[0]),
    "str_head": lambda ins, x: x[: ins.params[0]],
    "str_tail": lambda ins, x: x[-ins.params[0] :] if ins.params[0] else "",
    "str_pad_start": lambda ins, x: x.rjust(*ins.params),
    "str_pad_end": lambda ins, x: x.ljust(*ins.params),
    "str_zfill": _zfill,
    "str_reverse": lambda _, x: x[::-1],
    "str_to_titlecase": lambda _, x: x.title(),
    "str_len_bytes": lambda _, x: len(x.encode()),
    "str_to_integer": _to_integer,
    "str_contains_match": _contains,
    "str_count_matches": _count,
    "str_extract_all": lambda ins, x: json.dumps(
        [m.group() for m in _matches(ins.params[0], x)], ensure_ascii=False, separators=(",", ":")
    ),
    "str_replace_match": _replace_match,
    "str_replace": lambda ins, x, old, new: x.replace(old, new, ins.params[0]) if old else x,
    "str_split": _split,
    "list_len": lambda _, x: len(_items(x)),
    "list_get": _get,
    "list_join": _join,
    "list_contains_text": lambda _, x, y: y in [_shown(item) for item in _items(x) if item is not None],
    "list_contains_i64": lambda _, x, y: y in [item for item in _items(x) if type(item) is int],
    "list_contains_f64": lambda _, x, y: y in [item for item in _items(x) if type(item) in (int, float)],
}

#: Functions of one double that C names otherwise or not at all.
OF_FLOAT = {"log1p": "log1p", "cbrt": "cbrt", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh"}
OF_FLOAT |= {"arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh"}
DEGREES = 180.0 / math.pi

_PATTERNS = st.sampled_from(["a", "[a-z]+", "(a)|(b)", "-?", r"\d", r"\s+", "", "a.b", "é", "^.", "(?P<n>.)$"])
_TEXTS = st.text("ab,é-$1 ", max_size=3)
_COUNTS = st.integers(-6, 9).map(lambda n: (n,))
_CHARS = st.one_of(st.none(), st.text("ab,é \u3000", min_size=1, max_size=3)).map(lambda chars: (chars,))
_FIXES = st.text("ab,é", max_size=3).map(lambda text: (text,))
_PADDING = st.tuples(st.integers(0, 9), st.sampled_from("* é0"))

#: (operation, kind, kinds of arguments, parameters)
SIGNATURES: list[tuple[str, str, tuple[str, ...], st.SearchStrategy[tuple[Any, ...]]]] = [
    *((f"str_strip_chars{end}", "str", ("str",), _CHARS) for end in ("", "_start", "_end")),
    *((f"str_strip_{end}", "str", ("str",), _FIXES) for end in ("prefix", "suffix")),
    *((f"str_{end}", "str", ("str",), _COUNTS) for end in ("head", "tail")),
    *((f"str_pad_{end}", "str", ("str",), _PADDING) for end in ("start", "end")),
    ("str_zfill", "str", ("str",), st.integers(0, 9).map(lambda n: (n, "0"))),
    *((op, "str", ("str",), st.just(())) for op in ("str_reverse", "str_to_titlecase")),
    ("str_len_bytes", "i64", ("str",), st.just(())),
    ("str_to_integer", "i64", ("str",), st.tuples(st.sampled_from([10, 16, 36, 2]), st.booleans())),
    ("str_contains_match", "bool", ("str", "str"), st.booleans().map(lambda strict: (strict,))),
    ("str_count_matches", "i64", ("str", "str"), st.booleans().map(lambda strict: (strict,))),
    ("str_extract_all", "str", ("str",), _PATTERNS.map(lambda pattern: (pattern, 0))),
    ("str_replace_match", "str", ("str", "str"), st.tuples(_PATTERNS, st.sampled_from([-1, 1, 2, 3]))),
    ("str_replace", "str", ("str", "str", "str"), st.integers(-1, 3).map(lambda n: (n,))),
    ("str_split", "str", ("str", "str"), st.booleans().map(lambda inclusive: (inclusive,))),
    ("list_len", "i64", ("list",), st.just(())),
    ("list_get", "str", ("list",), st.tuples(st.integers(-3, 3), st.booleans())),
    ("list_join", "str", ("list", "str"), st.booleans().map(lambda ignore: (ignore,))),
    ("list_contains_text", "bool", ("list", "str"), st.just(())),
    ("list_contains_i64", "bool", ("list", "i64"), st.just(())),
    ("list_contains_f64", "bool", ("list", "f64"), st.just(())),
    *((op, "f64", ("f64",), st.just(())) for op in (*OF_FLOAT, "cot", "degrees")),
]
