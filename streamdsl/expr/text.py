"""Functions of strings: ``col("city").str.to_lowercase()``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pyarrow as pa

from streamdsl.errors import TopologyError
from streamdsl.expr.expression import Expr, Operand, call
from streamdsl.expr.no_value import Unfinished
from streamdsl.expr.time import Ambiguous
from streamdsl.expr.words import TEXT_WORDS, unknown_word
from streamdsl.scalars import whole
from streamdsl.schema import type_of
from streamdsl.time_format import tokens_of

__all__ = ["StringFunctions"]

_MEANS_MORE: Final = frozenset(r".^$*+?{}[]\|()")


def _pattern(verb: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TopologyError(
            f"str.{verb}: {pattern!r} is not a regular expression: {error}", remedy="literal=True looks for the text itself"
        ) from None


def _is_plain(pattern: str) -> bool:
    return not _MEANS_MORE.intersection(pattern)


@dataclass(frozen=True, slots=True, eq=False)
class StringFunctions(Unfinished):
    """Functions of strings: ``col("city").str.to_lowercase()``. Lengths and offsets count characters.

    Patterns are regular expressions of Python's `re`, unless ``literal=True``.
    """

    remedy: ClassVar[str] = "go on with one of its functions, such as .str.len_chars()"
    expr: Expr

    if not TYPE_CHECKING:  # a type checker shall find words that are not there

        def __getattr__(self, name):
            unknown_word(self, "str.", name, TEXT_WORDS)

    def to_lowercase(self) -> Expr:
        """In small letters.

        Examples
        --------
        >>> evaluate(col("s").str.to_lowercase(), s=["ÑANDÚ", None])
        ['ñandú', None]
        """
        return call("str_to_lowercase", self.expr)

    def to_uppercase(self) -> Expr:
        """In capital letters.

        Examples
        --------
        >>> evaluate(col("s").str.to_uppercase(), s=["straße", None])
        ['STRASSE', None]
        """
        return call("str_to_uppercase", self.expr)

    def to_titlecase(self) -> Expr:
        """With a capital letter at the beginning of each word, small ones elsewhere.

        Examples
        --------
        >>> evaluate(col("s").str.to_titlecase(), s=["new YORK", "o'neil"])
        ['New York', "O'Neil"]
        """
        return call("str_to_titlecase", self.expr)

    def strip_chars(self, characters: str | None = None) -> Expr:
        """Without these characters at both ends; without white space if none are given.

        Examples
        --------
        >>> evaluate(col("s").str.strip_chars(), s=["  Lima ", None])
        ['Lima', None]
        >>> evaluate(col("s").str.strip_chars("xy"), s=["yxaxbxy"])
        ['axb']
        """
        return self._stripped("strip_chars", characters)

    def strip_chars_start(self, characters: str | None = None) -> Expr:
        """Without these characters (default: white space) at the beginning.

        Examples
        --------
        >>> evaluate(col("s").str.strip_chars_start("0"), s=["0070", "000"])
        ['70', '']
        """
        return self._stripped("strip_chars_start", characters)

    def strip_chars_end(self, characters: str | None = None) -> Expr:
        """Without these characters (default: white space) at the end.

        Examples
        --------
        >>> evaluate(col("s").str.strip_chars_end(".!"), s=["Stop.!.", "..."])
        ['Stop', '']
        """
        return self._stripped("strip_chars_end", characters)

    def strip_prefix(self, prefix: str) -> Expr:
        """Without `prefix` at the beginning, if it is there; once.

        Examples
        --------
        >>> evaluate(col("s").str.strip_prefix("ab"), s=["ababc", "cab"])
        ['abc', 'cab']
        """
        return self._stripped("strip_prefix", prefix)

    def strip_suffix(self, suffix: str) -> Expr:
        """Without `suffix` at the end, if it is there; once.

        Examples
        --------
        >>> evaluate(col("s").str.strip_suffix(".gz"), s=["a.gz.gz", "a.zip"])
        ['a.gz', 'a.zip']
        """
        return self._stripped("strip_suffix", suffix)

    def _stripped(self, verb: str, characters: str | None) -> Expr:
        if not isinstance(characters, str) and (characters is not None or "fix" in verb):
            raise TopologyError(f"str.{verb} needs a text, not {characters!r}")
        return call(f"str_{verb}", self.expr, params=(characters or None,))

    def len_chars(self) -> Expr:
        """Number of characters.

        Examples
        --------
        >>> evaluate(col("s").str.len_chars(), s=["né", "", None])
        [2, 0, None]
        """
        return call("str_len_chars", self.expr)

    def len_bytes(self) -> Expr:
        """Number of bytes in UTF-8.

        Examples
        --------
        >>> evaluate(col("s").str.len_bytes(), s=["né", "", None])
        [3, 0, None]
        """
        return call("str_len_bytes", self.expr)

    def pad_start(self, length: int, fill_char: str = " ") -> Expr:
        """With `fill_char` in front, as often as `length` characters need.

        Examples
        --------
        >>> evaluate(col("s").str.pad_start(4, "*"), s=["ab", "abcde", None])
        ['**ab', 'abcde', None]
        """
        return self._padded("pad_start", length, fill_char)

    def pad_end(self, length: int, fill_char: str = " ") -> Expr:
        """With `fill_char` behind, as often as `length` characters need.

        Examples
        --------
        >>> evaluate(col("s").str.pad_end(4, "*"), s=["ab", "abcde", None])
        ['ab**', 'abcde', None]
        """
        return self._padded("pad_end", length, fill_char)

    def zfill(self, length: int) -> Expr:
        """With zeros in front, behind a sign, as often as `length` characters need.

        Examples
        --------
        >>> evaluate(col("s").str.zfill(4), s=["7", "-7", None])
        ['0007', '-007', None]
        """
        return self._padded("zfill", length, "0")

    def _padded(self, verb: str, length: int, fill_char: str) -> Expr:
        if not isinstance(fill_char, str) or len(fill_char) != 1:
            raise TopologyError(f"str.{verb} fills up with one character, not {fill_char!r}")
        return call(f"str_{verb}", self.expr, params=(whole(length, "length", 0), fill_char))

    def reverse(self) -> Expr:
        """The characters from the last to the first.

        Examples
        --------
        >>> evaluate(col("s").str.reverse(), s=["abc", None])
        ['cba', None]
        """
        return call("str_reverse", self.expr)

    def starts_with(self, prefix: Operand) -> Expr:
        """Whether the string begins with `prefix`.

        Examples
        --------
        >>> evaluate(col("s").str.starts_with(col("p")), s=["abc", "abc", "abc"], p=["a", "", None])
        [True, True, None]
        """
        return call("str_starts_with", self.expr, prefix)

    def ends_with(self, suffix: Operand) -> Expr:
        """Whether the string ends with `suffix`.

        Examples
        --------
        >>> evaluate(col("s").str.ends_with(".csv"), s=["a.csv", "a.CSV", None])
        [True, False, None]
        """
        return call("str_ends_with", self.expr, suffix)

    def contains(self, pattern: Operand, *, literal: bool = False, strict: bool = True) -> Expr:
        """Whether `pattern` occurs in the string.

        Parameters
        ----------
        pattern : str or expression
            A regular expression, or plain text if `literal`.
        literal : bool
        strict : bool
            A pattern that cannot be read is an error; otherwise the answer is null.

        Examples
        --------
        >>> evaluate(col("s").str.contains("a.c"), s=["xabcx", "a.c", None])
        [True, True, None]
        >>> evaluate(col("s").str.contains("a.c", literal=True), s=["xabcx", "a.c", None])
        [False, True, None]
        """
        if isinstance(pattern, str) and not literal and strict:
            _pattern("contains", pattern)
        if literal or (isinstance(pattern, str) and _is_plain(pattern)):
            return call("str_contains", self.expr, pattern)
        return call("str_contains_match", self.expr, pattern, params=(strict,))

    def count_matches(self, pattern: Operand, *, literal: bool = False) -> Expr:
        """How often `pattern` (a regular expression, or plain text if `literal`) occurs, one behind the other.

        Examples
        --------
        >>> evaluate(col("s").str.count_matches("aa"), s=["aaaaa", "b", None])
        [2, 0, None]
        """
        if isinstance(pattern, str):
            pattern = re.escape(pattern) if literal else _pattern("count_matches", pattern).pattern
        elif literal:
            raise TopologyError("str.count_matches: literal=True needs a plain text, not an expression")
        return call("str_count_matches", self.expr, pattern, params=(True,))

    def slice(self, offset: int, length: int | None = None) -> Expr:
        """`length` characters from `offset` on (negative: from the end); None is to the end.

        Examples
        --------
        >>> evaluate(col("s").str.slice(-3, 2), s=["abcdef", "ab", None])
        ['de', 'a', None]
        """
        most = None if length is None else whole(length, "length", 0)
        return call("str_slice", self.expr, params=(whole(offset, "offset"), most))

    def head(self, n: int) -> Expr:
        """The first `n` characters; all but the last -n if `n` is negative.

        Examples
        --------
        >>> evaluate(col("s").str.head(2), s=["abcd", "a"])
        ['ab', 'a']
        >>> evaluate(col("s").str.head(-1), s=["abcd", "a"])
        ['abc', '']
        """
        return call("str_head", self.expr, params=(whole(n, "n"),))

    def tail(self, n: int) -> Expr:
        """The last `n` characters; all but the first -n if `n` is negative.

        Examples
        --------
        >>> evaluate(col("s").str.tail(2), s=["abcd", "a"])
        ['cd', 'a']
        >>> evaluate(col("s").str.tail(-1), s=["abcd", "a"])
        ['bcd', '']
        """
        return call("str_tail", self.expr, params=(whole(n, "n"),))

    def replace(self, pattern: Operand, value: Operand, *, literal: bool = False, n: int = 1) -> Expr:
        """With the first `n` matches of `pattern` replaced by `value`.

        Parameters
        ----------
        pattern : str
            A regular expression, or plain text (also an expression) if `literal`.
        value : str or expression
            What stands for it; ``$1`` and ``${name}`` are groups of the match, ``$$`` is a dollar, unless `literal`.
        literal : bool
        n : int

        Examples
        --------
        >>> evaluate(col("s").str.replace("(.+) (.+)", "$2, $1"), s=["Ada Lovelace", "Ada", None])
        ['Lovelace, Ada', 'Ada', None]
        """
        return self._replaced("replace", pattern, value, literal, whole(n, "n", 1))

    def replace_all(self, pattern: Operand, value: Operand, *, literal: bool = False) -> Expr:
        """With every match of `pattern` replaced by `value`; as `replace`.

        Examples
        --------
        >>> evaluate(col("s").str.replace_all(".", "-", literal=True), s=["1.2.3", None])
        ['1-2-3', None]
        """
        return self._replaced("replace_all", pattern, value, literal, -1)

    def _replaced(self, verb: str, pattern: Operand, value: Operand, literal: bool, n: int) -> Expr:
        if not isinstance(pattern, str):
            if not literal or not isinstance(pattern, Expr):
                raise TopologyError(f"str.{verb} needs a text to look for, not {pattern!r}", remedy="literal=True takes an expression")
            return call("str_replace", self.expr, pattern, value, params=(n,))
        if not literal:
            _pattern(verb, pattern)
        plain_value = isinstance(value, str) and (literal or "$" not in value)
        if pattern and (literal or (plain_value and _is_plain(pattern))):
            return call("str_replace", self.expr, pattern, value, params=(n,))
        if literal:  # the empty text: at the ends and between all characters
            if not isinstance(value, str):
                raise TopologyError(f"str.{verb} needs a text to look for")
            value = value.replace("$", "$$")
        return call("str_replace_match", self.expr, value, params=(pattern, n))

    def split(self, by: Operand, *, inclusive: bool = False) -> Expr:
        """The parts between separators, as a list; into its characters if `by` is empty.

        Parameters
        ----------
        by : str or expression
            Plain text.
        inclusive : bool
            Parts keep the separator behind them.

        Examples
        --------
        >>> evaluate(col("s").str.split(","), s=["a,,b", "", None])
        [['a', '', 'b'], [''], None]
        >>> evaluate(col("s").str.split(",", inclusive=True), s=["a,b,"])
        [['a,', 'b,']]
        """
        return call("str_split", self.expr, by, params=(bool(inclusive),))

    def split_part(self, separator: str, index: int) -> Expr:
        """Part number `index` (from 0; negative: from the end) between separators; "" if there are fewer.

        Examples
        --------
        >>> evaluate(col("s").str.split_part("-", 1), s=["a-b", "a", None])
        ['b', '', None]
        """
        if not separator:
            raise TopologyError("str.split_part needs a separator")
        return call("str_split_part", self.expr, params=(separator, whole(index, "index")))

    def extract(self, pattern: str, group_index: int = 1) -> Expr:
        """What a group of the first match holds; null without a match.

        Examples
        --------
        >>> evaluate(col("s").str.extract("([0-9]+) (EUR|USD)", 2), s=["5 EUR, 7 USD", "none"])
        ['EUR', None]
        """
        groups, group_index = _pattern("extract", pattern).groups, whole(group_index, "group_index")
        if not 0 <= group_index <= groups:
            raise TopologyError(f"str.extract: {pattern!r} has {groups} groups, not {group_index}", remedy="group_index=0 is all of it")
        return call("str_extract", self.expr, params=(pattern, group_index))

    def extract_all(self, pattern: str) -> Expr:
        """All matches, as a list.

        Examples
        --------
        >>> evaluate(col("s").str.extract_all("#[a-z]+"), s=["#a and #b", "none", None])
        [['#a', '#b'], [], None]
        """
        return call("str_extract_all", self.expr, params=(_pattern("extract_all", pattern).pattern, 0))

    def to_integer(self, *, base: int = 10, strict: bool = True) -> Expr:
        """The whole number that the string writes; what is none is an error of the record, or null unless `strict`.

        Examples
        --------
        >>> evaluate(col("s").str.to_integer(base=16, strict=False), s=["ff", "-FF", "xyz", None])
        [255, -255, None, None]
        """
        base = whole(base, "base")
        if not 2 <= base <= 36:
            raise TopologyError(f"str.to_integer: base={base} must be 2 to 36")
        return call("str_to_integer", self.expr, params=(base, bool(strict)))

    def to_datetime(
        self, format: str | None = None, *, time_zone: str | None = None, strict: bool = True, ambiguous: Ambiguous = "raise"
    ) -> Expr:
        """The time that the string writes.

        Parameters
        ----------
        format : str, optional
            ``"%d.%m.%Y %H:%M:%S%.f"``; the letters are those of Polars. Without one, ISO 8601. Finer digits than ms are cut off.
        time_zone : str, optional
            Of the clocks that show the time, where the string names no offset, and of the result; UTC by default.
        strict : bool
            What is no such time is an error of the record; otherwise it is null.
        ambiguous : {"raise", "earliest", "latest", "null"}
            For times that the zone's clocks showed twice.

        Examples
        --------
        >>> time = col("s").str.to_datetime("%d.%m.%Y %H:%M", time_zone="Europe/Vienna", strict=False)
        >>> evaluate(time.dt.to_string(), s=["01.07.2026 12:00", "soon"])
        ['2026-07-01 12:00:00.000+02:00', None]
        """
        return self._time("to_datetime", format, time_zone, strict, ambiguous)

    def to_date(self, format: str | None = None, *, strict: bool = True) -> Expr:
        """The day that the string writes: ``2026-01-02``, or by a format as for `to_datetime`.

        Examples
        --------
        >>> evaluate(col("s").str.to_date(strict=False), s=["2026-02-28", "2026-02-29"])
        [datetime.date(2026, 2, 28), None]
        """
        return self._time("to_date", format, None, strict, "raise")

    def strptime(self, dtype: Any, format: str | None = None, *, strict: bool = True, ambiguous: Ambiguous = "raise") -> Expr:
        """The time or the day that the string writes, as the type says: `datetime.datetime`, `datetime.date` or their names.

        Examples
        --------
        >>> evaluate(col("s").str.strptime("date", "%Y%m%d"), s=["20260228", None])
        [datetime.date(2026, 2, 28), None]
        """
        type_ = type_of(dtype)
        if pa.types.is_date(type_):
            return self.to_date(format, strict=strict)
        if not pa.types.is_timestamp(type_):
            raise TopologyError(f"str.strptime gives a time or a date, not {type_}", remedy="use str.to_datetime or str.to_date")
        return self.to_datetime(format, time_zone=type_.tz, strict=strict, ambiguous=ambiguous)

    def _time(self, verb: str, format: str | None, time_zone: str | None, strict: bool, ambiguous: Ambiguous) -> Expr:
        if format is not None:
            tokens_of(format, True)
        if ambiguous not in ("raise", "earliest", "latest", "null"):
            raise TopologyError(f"str.{verb}: ambiguous={ambiguous!r}", remedy='use "raise", "earliest", "latest" or "null"')
        return call(f"str_{verb}", self.expr, params=(format, time_zone, bool(strict), ambiguous))
