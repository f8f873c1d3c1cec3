"""Names, texts and intervals as Flink SQL writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from streamdsl.flink.refusing import Refused

__all__ = ["interval", "options", "quoted", "text"]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
#: Where Python ends a line.
_BREAKS: Final = re.compile(r"[\n-\r\x1c-\x1e\x85\u2028\u2029]")
_UNITS: Final = ((86_400_000, "DAY"), (3_600_000, "HOUR"), (60_000, "MINUTE"), (1_000, "SECOND"))


def quoted(name: str) -> str:
    """Return a name of a table or a column, always in backticks: many words are Flink's own."""
    return "`" + name.replace("`", "``") + "`"


def text(value: str | bytes) -> str:
    """Return a literal of text.

    Raises
    ------
    Refused
        It is one of bytes, which stand beside texts here.
    """
    if isinstance(value, bytes):
        raise Refused("bytes among texts", "decode them before: Flink keeps the two apart")
    quoted = value.replace("'", "''")
    if not _BREAKS.search(quoted):
        return f"'{quoted}'"
    # A statement is indented line by line: a text has to stay on one.
    plain = quoted.replace("\\", "\\\\")
    return f"U&'{_BREAKS.sub(lambda found: f'{chr(92)}{ord(found[0]):04X}', plain)}'"


def interval(ms: int) -> str:
    """Return a time of so many milliseconds.

    Raises
    ------
    Refused
        It is longer than Flink's intervals.
    """
    for unit, word in _UNITS:
        if ms % unit == 0 and ms // unit < 100:
            return f"INTERVAL '{ms // unit}' {word}"
    days, rest = divmod(ms, 86_400_000)
    if days > 999:
        raise Refused(f"{days} days are longer than an interval of Flink", "use less than 1,000 days")
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"INTERVAL '{days} {hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}' DAY{'' if days < 100 else '(3)'} TO SECOND(3)"


def options(given: Mapping[str, str]) -> str:
    """Return the WITH clause of a table."""
    return "WITH (\n" + ",\n".join(f"  {text(name)} = {text(value)}" for name, value in given.items()) + "\n)"
