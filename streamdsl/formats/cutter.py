"""Where records end: a block of text is cut behind its last whole record.

A CSV record may hold line ends between quotes. A quote opens a field only at the field's beginning (elsewhere it is an
ordinary character), and a doubled quote inside a quoted field is one quote: the same rules as the decoder's.
"""

from __future__ import annotations

import functools
import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n?|\n")


def cut_lines(text: bytes) -> tuple[int, bool]:
    """Return the length of the whole lines at the beginning of `text`, and False: lines have no quotes."""
    return text.rfind(b"\n") + 1, False


@functools.cache
def _quoted_field(delimiter: bytes) -> re.Pattern[bytes]:
    # The text begins with the literal quote, so that the search skips from quote to quote; callers put a line end in front.
    return re.compile(rb'"(?<=[\r\n' + re.escape(delimiter) + rb']")[^"]*(?:""[^"]*)*("?)')


def cut_csv(text: bytes, delimiter: bytes = b",") -> tuple[int, bool]:
    """Return the length of the whole records at the beginning of `text`, and whether a quoted field is open at its end."""
    if b'"' not in text:
        return text.rfind(b"\n") + 1, False
    spans, open_at = quoted_spans(text, delimiter)
    end = text.rfind(b"\n", 0, len(text) if open_at is None else open_at)
    for start, stop in reversed(spans):
        if end >= stop:
            break
        if end > start:
            end = text.rfind(b"\n", 0, start)
    return end + 1, open_at is not None


def quoted_spans(text: bytes, delimiter: bytes = b",") -> tuple[list[tuple[int, int]], int | None]:
    """Return the quoted fields (start, stop) of `text`, and where one starts that does not end."""
    spans: list[tuple[int, int]] = []
    for match in _quoted_field(delimiter).finditer(b"\n" + text):
        if not match.group(1):
            return spans, match.start() - 1
        spans.append((match.start() - 1, match.end() - 1))
    return spans, None


def split_lines(text: bytes) -> list[bytes]:
    """Return the lines of `text` that are not blank."""
    return [line for line in (part.strip(b" \t\r") for part in text.split(b"\n")) if line]


def split_csv(text: bytes, delimiter: bytes = b",", *, blank_too: bool = False) -> list[bytes]:
    """Return the records of `text` without their line ends; empty lines are no records, unless `blank_too`."""
    spans, open_at = quoted_spans(text, delimiter)
    if open_at is not None:
        spans.append((open_at, len(text)))
    records = []
    start = 0
    span = 0
    for match in _LINE_END.finditer(text):
        while span < len(spans) and spans[span][1] <= match.start():
            span += 1
        if span < len(spans) and spans[span][0] < match.start():
            continue
        records.append(text[start : match.start()])
        start = match.end()
    records.append(text[start:])
    if blank_too:
        return records if records[-1] else records[:-1]
    return [record for record in records if record]
