"""Regular expressions that mean the same to Python and to Java."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from streamdsl.flink.refusing import Refused

__all__ = ["java_pattern", "matches_empty"]

#: Letters, numbers of all kinds and the underscore: with its flag U, Java takes accents and joiners in, and some numbers out.
_WORD: Final = r"\p{L}\p{N}_"
_SPACE: Final = r"\p{IsWhite_Space}\x1c-\x1f"
#: What Java says for the same characters, inside of a class. \v is one character to Python, several to Java.
_IN_CLASS: Final = {"w": _WORD, "d": r"\p{Nd}", "D": r"\P{Nd}", "s": _SPACE, "v": r"\x0B"}
_OUTSIDE: Final = {
    **_IN_CLASS,
    "w": f"[{_WORD}]",
    "W": f"[^{_WORD}]",
    "s": f"[{_SPACE}]",
    "S": f"[^{_SPACE}]",
    "b": f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))",
    "B": f"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))",
}
#: Behind a backslash these are the same in both, or have a way to be said.
_ESCAPES: Final = frozenset("dDwWsSbBntrfv.^$*+?{}[]\\|()-/")
#: Characters of a class and outside it that mean themselves.
_ODD: Final = frozenset("&~#")


def java_pattern(pattern: str) -> str:
    """Return the pattern for Java, which by itself knows more ends of lines and other letters.

    Raises
    ------
    Refused
        It has a construct that the two languages read otherwise.
    """
    re.compile(pattern)
    _check(pattern)
    # d: a line ends with \n alone.
    needed = "(?d)" if re.search(r"[.^$]", pattern) else ""
    return needed + "".join(_pieces(pattern))


def _pieces(pattern: str) -> Iterator[str]:
    """Yield the parts of a pattern, those written otherwise that Java would take for more or fewer characters."""
    in_class, position = False, 0
    while position < len(pattern):
        letter = pattern[position]
        if letter == "\\":
            escaped = pattern[position + 1]
            yield (_IN_CLASS if in_class else _OUTSIDE).get(escaped, f"\\{escaped}")
            position += 2
            continue
        in_class = letter == "[" or (in_class and letter != "]")
        yield letter
        position += 1


def _check(pattern: str) -> None:
    position, in_class = 0, False
    while position < len(pattern):
        letter = pattern[position]
        if letter == "\\":
            escaped = pattern[position + 1 : position + 2]
            if escaped not in _ESCAPES or (in_class and escaped in "WSbB"):
                raise _unlike(pattern, f"\\{escaped}{' in a class' if in_class else ''}")
            position += 2
            continue
        if in_class:
            if letter == "[" or letter in _ODD:
                raise _unlike(pattern, f"{letter} in a class")
            in_class = letter != "]"
        elif letter == "[":
            in_class = True
            # A bracket that closes at once means itself.
            position += pattern[position + 1 : position + 2] == "^"
            if pattern[position + 1 : position + 2] == "]":
                raise _unlike(pattern, "] at the beginning of a class")
        elif pattern.startswith("(?", position) and not pattern.startswith(("(?:", "(?=", "(?!"), position):
            raise _unlike(pattern, pattern[position : position + 3])
        elif letter == "{" and not re.match(r"\{\d+(,\d*)?\}", pattern[position:]):
            raise _unlike(pattern, "{ that is no number of times")
        elif letter == "}" and not re.search(r"\{\d+(,\d*)?$", pattern[:position]):
            raise _unlike(pattern, "} alone")
        position += 1


def _unlike(pattern: str, what: str) -> Refused:
    return Refused(f"the pattern {pattern!r}: {what} is read otherwise by Java", "use classes, groups, repetition and anchors")


def matches_empty(pattern: str) -> bool:
    """Whether the pattern may match where there is no character."""
    texts = ("", "a", "1", " ", "-", "\n")
    return any(match.group() == "" for text in texts for match in re.finditer(pattern, text))
