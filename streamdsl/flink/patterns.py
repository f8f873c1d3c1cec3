"""Regular expressions that mean the same to Python and to Java."""

from __future__ import annotations

import re
from typing import Final

from streamdsl.flink.refusing import Refused

__all__ = ["java_pattern", "matches_empty"]

#: Behind a backslash these are the same in both, once Java looks at all of Unicode.
_ESCAPES: Final = frozenset("dDwWsSbBntrfv.^$*+?{}[]\\|()-/")
#: Characters of a class and outside it that mean themselves.
_ODD: Final = frozenset("&~#")


def java_pattern(pattern: str) -> str:
    """Return the pattern for Java, which by itself knows more ends of lines and fewer letters.

    Raises
    ------
    Refused
        It has a construct that the two languages read otherwise.
    """
    re.compile(pattern)
    _check(pattern)
    # d: a line ends with \n alone. U: \w, \d, \s and \b are those of Unicode.
    flags = "(?d)" if not re.search(r"\\[dDwWsSbB]", pattern) else "(?dU)"
    needed = flags if re.search(r"[.^$]|\\[dDwWsSbB]", pattern) else ""
    # \v is one character to Python, several to Java.
    return needed + pattern.replace("\\v", "\\x0B")


def _check(pattern: str) -> None:
    position, in_class = 0, False
    while position < len(pattern):
        letter = pattern[position]
        if letter == "\\":
            escaped = pattern[position + 1 : position + 2]
            if escaped not in _ESCAPES:
                raise _unlike(pattern, f"\\{escaped}")
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
