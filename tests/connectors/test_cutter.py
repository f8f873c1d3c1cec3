"""The block cutter against a machine that looks at one byte after another, and against the decoder."""

from __future__ import annotations

import io

import pyarrow.csv
from hypothesis import example, given
from hypothesis import strategies as st

from streamdsl.formats.cutter import cut_csv, cut_lines, split_csv, split_lines

HARD = st.lists(st.sampled_from([b'"', b'""', b",", b";", b"^", b"\n", b"\r\n", b"\r", b"a", "ñ".encode()]), max_size=40).map(b"".join)
FIELD = st.text(st.sampled_from('",;\n\raé '), max_size=6)
DELIMITER = st.sampled_from([b",", b";", b"^"])


def machine(text: bytes, delimiter: bytes = b",") -> tuple[list[int], bool]:
    """Return where records end (behind each line feed), and whether a quoted field is open at the end."""
    ends, quoted, at_start, i = [], False, True, 0
    while i < len(text):
        byte = text[i : i + 1]
        if quoted:
            if byte == b'"':
                if text[i + 1 : i + 2] == b'"':
                    i += 1
                else:
                    quoted = False
            at_start = False
        elif byte == b'"' and at_start:
            quoted = True
        else:
            at_start = byte in (delimiter, b"\n", b"\r")
            if byte == b"\n":
                ends.append(i + 1)
        i += 1
    return ends, quoted


@given(HARD, DELIMITER)
@example(b'"a""', b",")
@example(b'a"\n"b\n"\n', b",")
def test_the_cut_is_behind_the_last_whole_record(text, delimiter):
    ends, quoted = machine(text, delimiter)
    assert cut_csv(text, delimiter) == (ends[-1] if ends else 0, quoted)


@given(HARD, DELIMITER, st.integers(0, 60))
def test_a_cut_stays_right_when_more_follows(text, delimiter, length):
    cut, _ = cut_csv(text[:length], delimiter)
    assert cut in [0, *machine(text, delimiter)[0]]


@given(st.lists(st.lists(FIELD, min_size=2, max_size=2), min_size=1, max_size=6), DELIMITER, st.sampled_from(["\n", "\r\n"]))
def test_records_are_split_as_the_decoder_splits_them(records, delimiter, end):
    text = end.join(delimiter.decode().join('"' + field.replace('"', '""') + '"' for field in record) for record in records)
    parts = split_csv((text + end).encode(), delimiter)
    assert len(parts) == len(records)
    read = pyarrow.csv.read_csv(
        io.BytesIO(b"\n".join(parts)),
        pyarrow.csv.ReadOptions(column_names=["a", "b"]),
        pyarrow.csv.ParseOptions(delimiter=delimiter.decode(), newlines_in_values=True),
        pyarrow.csv.ConvertOptions(column_types={"a": "string", "b": "string"}, strings_can_be_null=False),
    )
    assert [[row["a"], row["b"]] for row in read.to_pylist()] == records


@given(st.binary(max_size=30))
def test_lines(text):
    cut, _ = cut_lines(text)
    assert b"\n" not in text[cut:]
    assert cut == 0 or text[cut - 1 : cut] == b"\n"
    assert all(line.strip(b" \t\r") for line in split_lines(text))
