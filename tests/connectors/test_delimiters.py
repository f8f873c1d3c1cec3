"""CSV with something else than commas between its fields."""

from __future__ import annotations

import pytest

from streamdsl import ConnectorError, Topology, TopologyError, files, memory

SCHEMA = {"id": int, "name": str, "price": str}
ROWS = [{"id": 1, "name": "a;b\nc", "price": "1,5"}, {"id": 2, "name": 'q"x', "price": "2"}, {"id": -3, "name": "", "price": "\t|"}]


def copied(source, sink):
    topology = Topology("copy")
    topology.stream(source, name="in").to(sink, name="out")
    topology.run()


def rows_of(source):
    found = memory("found")
    copied(source, found)
    return found.rows()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^"])
def test_what_is_written_is_read_again(tmp_path, delimiter):
    path = tmp_path / "out.csv"
    copied(memory("rows", schema=SCHEMA, rows=ROWS), files(path, delimiter=delimiter))
    assert path.read_text().splitlines()[0] == delimiter.join(['"id"', '"name"', '"price"'])
    assert rows_of(files(path, SCHEMA, delimiter=delimiter)) == ROWS


def test_tsv_has_tabs_also_compressed_and_in_a_directory(tmp_path):
    path = tmp_path / "rows.tsv"
    copied(memory("rows", schema=SCHEMA, rows=ROWS), files(path))
    assert path.read_text().startswith('"id"\t"name"')
    assert rows_of(files(path, SCHEMA)) == rows_of(files(tmp_path, SCHEMA)) == rows_of(files(tmp_path / "*.tsv", SCHEMA)) == ROWS
    assert files("a.tsv.gz").delimiter == "\t"
    assert files("a.tsv", delimiter=";").delimiter == ";"
    (tmp_path / "rows.csv").write_text("id,name,price\n")
    with pytest.raises(TopologyError, match="files with commas and files with tabs"):
        files(tmp_path)


def test_a_bad_record_is_judged_by_its_delimiter(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id;name;price\n1;a;1,5\n2,b,2\nx;c;3\n4;d;4\n")
    found = memory("found")
    topology = Topology("skipping")
    topology.stream(files(path, SCHEMA, delimiter=";", errors="skip"), name="in").to(found)
    topology.run()
    assert [row["id"] for row in found.rows()] == [1, 4]


@pytest.mark.parametrize("other", [";", "\t", "|"])
def test_a_header_without_commas_says_what_to_give(tmp_path, other):
    path = tmp_path / "in.csv"
    path.write_text(other.join(SCHEMA) + "\n")
    with pytest.raises(ConnectorError) as caught:
        rows_of(files(path, SCHEMA))
    assert f"give files(..., delimiter={other!r})" in caught.value.remedy


def test_a_header_of_one_column_may_have_others(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("a;b\n7\n")
    assert rows_of(files(path, {"a;b": int})) == [{"a;b": 7}]


@pytest.mark.parametrize("given", ["", ";;", '"', "\n", "a", "-", ".", " ", 7])
def test_what_is_no_delimiter_is_refused(given):
    with pytest.raises(TopologyError, match="may stand between fields"):
        files("a.csv", delimiter=given)


def test_other_formats_have_none():
    with pytest.raises(TopologyError, match="json has no delimiter"):
        files("a.jsonl", delimiter=";")


def test_an_output_does_not_go_on_with_another(tmp_path):
    sink = files(tmp_path / "out.csv", delimiter=";")
    source = memory("rows", schema=SCHEMA, rows=ROWS)
    schema = source.schema
    writer = sink.open_writer(schema, (), 0, 1, None)
    state = writer.snapshot(1)
    writer.close()
    sink.open_writer(schema, (), 0, 1, state).close()
    with pytest.raises(ConnectorError, match="has written csv with ';' between the fields here, the sink writes csv now"):
        files(tmp_path / "out.csv").open_writer(schema, (), 0, 1, state)
