"""Formats of times: the letters of chrono, which Polars uses."""

from __future__ import annotations

import functools
from typing import Final

from streamdsl.errors import TopologyError

__all__ = ["Token", "tokens_of"]

#: Code, padding and number of one piece; all as bytes. "L" is a literal byte, " " any white space.
Token = tuple[int, int, int]

_SHORT: Final = {
    "D": "%m/%d/%y",
    "x": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "v": "%e-%b-%Y",
    "R": "%H:%M",
    "T": "%H:%M:%S",
    "X": "%H:%M:%S",
    "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y",
    "+": "%Y-%m-%dT%H:%M:%S%.f%:z",
    "h": "%b",
    "t": "\t",
    "n": "\n",
}
_WRITTEN: Final = "YCymbBdeaAwuUWGgVjHkIlPpMSsZz"
_READ: Final = "YymbBdeaAjHkIlPpMSsz"
_BLANK_PADDED: Final = "ekl"
_UNPADDED: Final = "bBaAwuPpsZz"
_REMEDY: Final = "letters: Y m d H M S, y b B e a A j I p z Z s, .f or .3f for fractions, F T for a day and a clock"


@functools.lru_cache(maxsize=256)
def tokens_of(form: str, reading: bool) -> tuple[Token, ...]:
    """Return the pieces of a format.

    Parameters
    ----------
    form : str
        ``"%Y-%m-%d %H:%M:%S%.f"``.
    reading : bool
        It is for reading times, not for writing them.

    Raises
    ------
    TopologyError
        The format cannot be read, or does not say which time is meant.
    """
    tokens = tuple(_pieces(form, form, reading))
    if reading:
        _check_complete(form, {chr(code) for code, _, _ in tokens})
    return tokens


def _pieces(form: str, whole: str, reading: bool) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(form):
        if form[at] != "%":
            found += [(ord(" "), 0, 0) if reading and form[at].isspace() else (ord("L"), 0, byte) for byte in form[at].encode()]
            at += 1
            continue
        piece, at = _directive(form, at + 1, whole, reading)
        found += piece
    return found


def _directive(form: str, at: int, whole: str, reading: bool) -> tuple[list[Token], int]:
    """Return what stands behind a "%", and where it ends."""
    begin = at
    pad = form[at : at + 1] if form[at : at + 1] in ("-", "_", "0") and form[at : at + 1] else ""
    at += len(pad)
    mark = form[at : at + 1] if form[at : at + 1] in (".", ":") and form[at : at + 1] else ""
    at += len(mark)
    digits = form[at : at + 1] if form[at : at + 1] in ("3", "6", "9") and form[at : at + 1] else ""
    at += len(digits)
    letter, at = form[at : at + 1], at + 1
    if letter == "f" and mark != ":" and not pad:
        if reading and not mark and not digits:
            raise _bad(whole, "%f counts nanoseconds", "write %.f for a fraction with its point, %3f for three digits")
        return [(ord(mark or "f"), 0, int(digits or 0))], at
    if letter == "z" and mark in ("", ":") and not pad and not digits:
        return [(ord("z"), 0, int(mark == ":"))], at
    if mark or digits:
        raise _bad(whole, f"%{form[begin:at]} is not known", _REMEDY)
    if letter == "%":
        return [(ord("L"), 0, ord("%"))], at
    if letter in _SHORT and letter:
        return _pieces(_SHORT[letter], whole, reading), at
    if not letter or letter not in (_READ if reading else _WRITTEN):
        raise _bad(whole, f"%{form[begin:at]} is not known", _REMEDY)
    usual = "" if letter in _UNPADDED else " " if letter in _BLANK_PADDED else "0"
    chosen = {"-": "", "_": " ", "0": "0", "": usual}[pad] if letter not in _UNPADDED else ""
    return [(ord(letter), ord(chosen or "\0"), 0)], at


def _check_complete(form: str, codes: set[str]) -> None:
    day = {"Y", "y"} & codes and ("j" in codes or (({"m", "b", "B"} & codes) and ({"d", "e"} & codes)))
    if not day and "s" not in codes:
        raise _bad(form, "it does not say which day is meant", "give year, month and day (%Y-%m-%d), or %s for seconds since 1970")
    hour = bool({"H", "k", "I", "l"} & codes)
    if hour != ("M" in codes) or ("S" in codes and not hour):
        raise _bad(form, "it has an hour or a minute without the other", "give both, or neither")
    if {"I", "l"} & codes and not {"p", "P"} & codes:
        raise _bad(form, "it has an hour of 12 without am or pm", "write %H for 24 hours, or add %p")


def _bad(form: str, what: str, remedy: str) -> TopologyError:
    return TopologyError(f"the format {form!r} cannot be used: {what}", remedy=remedy)
