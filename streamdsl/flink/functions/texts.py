"""Functions of texts. Patterns are Java's there: those that mean the same in both languages pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.functions.kind import Operation, call
from streamdsl.flink.functions.rounding import MOST_DIGITS, fixed_text
from streamdsl.flink.patterns import java_pattern, matches_empty
from streamdsl.flink.quoting import text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.values import Value, failing
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import BOOL, FLOAT, INT, TEXT, is_decimal, is_float, is_integer, is_string

__all__ = ["OPERATIONS"]

#: Unicode's White_Space, as members of a class of a pattern.
_SPACE: Final = r"\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
#: What numbers and booleans may have around them.
_AROUND: Final = r"[ \t-\r\x{1c}-\x{1f}]*"
_WHOLE: Final = f"^{_AROUND}([+-]?[0-9]+){_AROUND}\\z"
_FLOAT: Final = f"^{_AROUND}([+-]?(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?){_AROUND}\\z"


def _plain(function: str, type_: pa.DataType) -> Operation:
    def write(node: Typed, args: Sequence[Value]) -> Value:
        # Of a plain literal Flink would keep the length: UPPER('ß') has two letters.
        return Value(call(function, *(arg.text for arg in args)), type_)

    return write


def _text_of(value: Value) -> str:
    if value.constant and value.number is not None and is_string(value.type):
        return text(value.number)
    return value.text


def _operand(value: Value) -> str:
    """Return a text between the words of a function, where an operator of its own needs brackets."""
    return _text_of(value) if value.constant else value.inner


def _length(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CHAR_LENGTH({args[0].text})", pa.int32(), least=0, most=2**31)


def _contains(node: Typed, args: Sequence[Value]) -> Value:
    value, part = args
    return Value(f"LOCATE({_text_of(part)}, {value.text}) > 0", BOOL, atom=False)


def _starts(node: Typed, args: Sequence[Value]) -> Value:
    value, part = args
    n = f"CHAR_LENGTH({_text_of(part)})"
    side = "LEFT" if node.op == "str_starts_with" else "RIGHT"
    # An empty text is at both ends; Flink's LEFT and RIGHT of no characters are empty, too.
    return Value(f"{side}({value.text}, {n}) = {_text_of(part)}", BOOL, atom=False)


def _slice(node: Typed, args: Sequence[Value]) -> Value:
    (value,), (offset, length) = args, node.params
    if offset < 0:
        if length is not None:
            raise Refused(f"str.slice({offset}, {length})", "take tail(...) first, then head(...)")
        return Value(f"RIGHT({value.text}, {-offset})", TEXT)
    if length is None:
        return Value(f"SUBSTRING({value.inner} FROM {offset + 1})", TEXT)
    return Value(f"SUBSTRING({value.inner} FROM {offset + 1} FOR {length})", TEXT)


def _end(node: Typed, args: Sequence[Value]) -> Value:
    (value,), (n,) = args, node.params
    side = "LEFT" if node.op == "str_head" else "RIGHT"
    count = str(n) if n >= 0 else f"GREATEST(CHAR_LENGTH({value.text}) - {-n}, 0)"
    return Value(f"{side}({value.text}, {count})", TEXT)


def _strip(node: Typed, args: Sequence[Value]) -> Value:
    (value,), (characters,) = args, node.params
    members = _SPACE if characters is None else "".join(f"\\x{{{ord(one):x}}}" for one in characters)
    start, end = f"^[{members}]+", f"[{members}]+\\z"
    pattern = {"str_strip_chars": f"{start}|{end}", "str_strip_chars_start": start, "str_strip_chars_end": end}[node.op]
    return Value(call("REGEXP_REPLACE", value.text, text(pattern), "''"), TEXT)


def _strip_fix(node: Typed, args: Sequence[Value]) -> Value:
    (value,), (fix,) = args, node.params
    if not fix:
        return args[0]
    literal = "".join(f"\\x{{{ord(one):x}}}" for one in fix)
    pattern = f"^(?:{literal})" if node.op == "str_strip_prefix" else f"(?:{literal})\\z"
    return Value(call("REGEXP_REPLACE", value.text, text(pattern), "''"), TEXT)


def _pad(node: Typed, args: Sequence[Value]) -> Value:
    (value,), (length, fill) = args, node.params
    # Flink's own LPAD counts halves of rare characters.
    filler = f"REPEAT({text(fill)}, GREATEST({length} - CHAR_LENGTH({value.text}), 0))"
    return Value(f"{filler} || {value.inner}" if node.op == "str_pad_start" else f"{value.inner} || {filler}", TEXT, atom=False)


def _matches(node: Typed, args: Sequence[Value]) -> Value:
    value, pattern = args
    return Value(call("REGEXP", value.text, text(java_pattern(_constant(pattern, "str.contains")))), BOOL)


def _count(node: Typed, args: Sequence[Value]) -> Value:
    value, pattern = args
    given = _constant(pattern, "str.count_matches")
    if matches_empty(given):
        raise Refused(f"str.count_matches({given!r}), which matches the empty text", "Flink counts such matches otherwise")
    return Value(call("REGEXP_COUNT", value.text, text(java_pattern(given))), pa.int32())


def _extract(node: Typed, args: Sequence[Value]) -> Value:
    pattern, group = node.params
    return Value(call("REGEXP_EXTRACT", args[0].text, text(java_pattern(pattern)), str(group)), TEXT)


def _constant(value: Value, verb: str) -> str:
    if not value.constant or value.number is None:
        raise Refused(f"{verb} of a pattern that is a column", "write the pattern as a text")
    return str(value.number)


def _replace(node: Typed, args: Sequence[Value]) -> Value:
    value, old, new = args
    (n,) = node.params
    if not old.constant or not old.number:
        raise Refused("str.replace of a text that is a column, or empty", "write the text to look for")
    if n == -1:
        return Value(call("REPLACE", value.text, _text_of(old), _text_of(new)), TEXT)
    if n != 1:
        raise Refused(f"str.replace(n={n})", "replace one, or all with replace_all")
    found = re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", old.number)
    # The two sides of the first match. What counts places would name the text itself once more for each of them.
    before, behind = (call("REGEXP_EXTRACT", value.text, text(f"(?s)^{side}\\z"), "1") for side in (f"(.*?){found}.*", f".*?{found}(.*)"))
    kept = value.inner if new.constant and new.number is not None else f"CASE WHEN {_text_of(new)} IS NOT NULL THEN {value.inner} END"
    return Value(f"COALESCE({before} || {_operand(new)} || {behind}, {kept})", TEXT)


def _replace_match(node: Typed, args: Sequence[Value]) -> Value:
    value, new = args
    pattern, n = node.params
    if n != -1:
        raise Refused(f"str.replace({pattern!r}) of the first matches", "replace_all(...), or literal=True")
    if not new.constant or new.number is None or "$" in new.number:
        raise Refused(f"str.replace_all({pattern!r}) with groups of the match", "Flink takes the new text as it is: write it without $")
    if matches_empty(pattern):
        raise Refused(f"str.replace_all({pattern!r}), which matches the empty text", "Flink finds such matches otherwise")
    return Value(call("REGEXP_REPLACE", value.text, text(java_pattern(pattern)), _text_of(new)), TEXT)


def _split_part(node: Typed, args: Sequence[Value]) -> Value:
    (value,), (separator, index) = args, node.params
    if index < 0 or not separator:
        raise Refused(f"str.split_part({separator!r}, {index})", "count parts from the beginning, between a separator that is not empty")
    found = call("SPLIT_INDEX", value.text, text(separator), str(index))
    return Value(f"CASE WHEN {value.inner} IS NOT NULL THEN COALESCE({found}, '') END", TEXT)


def _concat(node: Typed, args: Sequence[Value]) -> Value:
    # CONCAT and || are one thing in Flink: null if one is null.
    return Value(" || ".join(_text_of(arg) if arg.constant and arg.number is not None else arg.inner for arg in args), TEXT, atom=False)


def _format(node: Typed, args: Sequence[Value]) -> Value:
    pieces, specs = node.params[:2]
    parts: list[str] = [text(pieces[0])] if pieces[0] else []
    for arg, spec, piece in zip(args, specs, pieces[1:], strict=True):
        parts.append(f"COALESCE({_shown(arg, spec)}, 'null')")
        if piece:
            parts.append(text(piece))
    if not parts:
        return Value("CAST('' AS STRING)", TEXT)
    shown = " || ".join(parts)
    return Value(f"CAST({shown} AS STRING)" if not args else shown, TEXT, atom=not args)


_FIXED: Final = re.compile(r"\.(\d{1,2})f", re.ASCII)


def _shown(value: Value, spec: str) -> str:
    if is_string(value.type) and spec in ("", "s"):
        return value.text
    if is_integer(value.type) and spec in ("", "d"):
        return f"CAST({value.text} AS STRING)"
    if is_decimal(value.type) and spec == "":
        return f"CAST({value.text} AS STRING)"
    fixed = _FIXED.fullmatch(spec)
    if fixed and is_float(value.type) and int(fixed[1]) <= MOST_DIGITS:
        shown = fixed_text(value, int(fixed[1]))
        if not value.nan and not value.inf:
            return shown
        names = "WHEN 'NaN' THEN 'nan' WHEN 'Infinity' THEN 'inf' WHEN '-Infinity' THEN '-inf'"
        return f"CASE CAST({value.text} AS STRING) {names} ELSE {shown} END"
    raise Refused(f"format {{:{spec}}} of {value.type}", "use {:.2f} for floats, {} for whole numbers and texts")


def _parsed(pattern: str, type_: str, result: pa.DataType, what: str) -> Operation:
    def write(node: Typed, args: Sequence[Value]) -> Value:
        (value,), strict = args, bool(node.params[0])
        found = call("REGEXP_EXTRACT", value.text, text(pattern), "1")
        if not strict:
            return Value(f"TRY_CAST({found} AS {type_})", result, inf=is_float(result))
        return Value(f"CAST(COALESCE({found}, {text(what + ': ')} || {value.inner}) AS {type_})", result, inf=is_float(result))

    return write


def _parsed_bool(node: Typed, args: Sequence[Value]) -> Value:
    (value,), strict = args, bool(node.params[0])
    word = f"LOWER(REGEXP_EXTRACT({value.text}, {text(f'^{_AROUND}(.*?){_AROUND}' + chr(92) + 'z')}, 1))"
    lost = f" WHEN {value.inner} IS NOT NULL THEN {failing('no boolean', value.inner, 'BOOLEAN')}" if strict else ""
    return Value(f"CASE WHEN {word} IN ('true', '1') THEN TRUE WHEN {word} IN ('false', '0') THEN FALSE{lost} END", BOOL)


def _refused(what: str, remedy: str) -> Operation:
    def refuse(node: Typed, args: Sequence[Value]) -> Value:
        raise Refused(what, remedy)

    return refuse


_UNKNOWN: Final[dict[str, Any]] = {
    "str_to_titlecase": "str.to_titlecase()",
    "str_len_bytes": "str.len_bytes()",
    "str_zfill": "str.zfill()",
    "str_to_integer": "str.to_integer()",
    "str_extract_all": "str.extract_all()",
    "row_text": "row()",
}

_WRITTEN: Final[dict[str, Operation]] = {
    "str_to_lowercase": _plain("LOWER", TEXT),
    "str_to_uppercase": _plain("UPPER", TEXT),
    "str_reverse": _plain("REVERSE", TEXT),
    "str_len_chars": _length,
    "str_contains": _contains,
    **dict.fromkeys(("str_starts_with", "str_ends_with"), _starts),
    "str_slice": _slice,
    **dict.fromkeys(("str_head", "str_tail"), _end),
    **dict.fromkeys(("str_strip_chars", "str_strip_chars_start", "str_strip_chars_end"), _strip),
    **dict.fromkeys(("str_strip_prefix", "str_strip_suffix"), _strip_fix),
    **dict.fromkeys(("str_pad_start", "str_pad_end"), _pad),
    "str_contains_match": _matches,
    "str_count_matches": _count,
    "str_extract": _extract,
    "str_replace": _replace,
    "str_replace_match": _replace_match,
    "str_split_part": _split_part,
    "concat": _concat,
    "format": _format,
    "parse_i64": _parsed(_WHOLE, "BIGINT", INT, "no whole number of 64 bits"),
    "parse_f64": _parsed(_FLOAT, "DOUBLE", FLOAT, "no number"),
    "parse_bool": _parsed_bool,
    **{
        op: _refused(f"the function {what}", "Flink has no function with the same answers: compute it before, or after")
        for op, what in _UNKNOWN.items()
    },
}


def _of_texts(write: Operation) -> Operation:
    """Return the operation for texts alone: Flink has no such functions of bytes."""

    def checked(node: Typed, args: Sequence[Value]) -> Value:
        if any(pa.types.is_binary(arg.type) or pa.types.is_large_binary(arg.type) for arg in args):
            raise Refused(f"{node.op}() of bytes", "declare the column as text: str")
        return write(node, args)

    return checked


OPERATIONS: Final[dict[str, Operation]] = {op: _of_texts(write) for op, write in _WRITTEN.items()}
