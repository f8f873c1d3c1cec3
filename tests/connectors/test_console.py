"""Rows on standard output."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streamdsl.connectors.console import console
from streamdsl.errors import TopologyError
from streamdsl.schema import Schema


@pytest.mark.parametrize(("format", "line"), [("json", '{"n":1,"s":"a\\u001b"}'), ("text", "n=1 s='a\\x1b'")])
def test_rows_are_printed_without_control_characters(capsys, format, line):
    writer = console(format).open_writer(Schema.of({"n": "int64", "s": "string"}), (), 0, 1, None)
    writer.write(pa.record_batch({"n": [1], "s": ["a\x1b"]}), pa.array([0], pa.int64()))
    writer.flush()
    assert writer.snapshot(1) is None
    writer.close()
    assert capsys.readouterr().out == line + "\n"


def test_an_unknown_format():
    with pytest.raises(TopologyError, match="xml"):
        console("xml")
