"""What every source must answer."""

from __future__ import annotations

import json

import pytest

from streamdsl.connectors.base import END
from tests.connectors.cases import SCHEMA, SOURCES, read_all, table


@pytest.fixture(params=SOURCES)
def make(request):
    return SOURCES[request.param]


def flat(chunks):
    return [row for chunk in chunks for row in chunk]


def test_all_rows_come_with_declared_types(make, tmp_path):
    source = make(tmp_path, table())
    reader = source.open_split(source.splits()[0], None, SCHEMA.names)
    chunk = reader.read(3)
    assert [field.type for field in chunk.rows.schema] == [field.type for field in SCHEMA.fields]
    assert flat(read_all(source)[0]) == table().to_pylist()


def test_splits_are_stable_and_bounded(make, tmp_path):
    source = make(tmp_path, table())
    assert list(source.splits()) == list(source.splits())
    assert source.bounded
    reader = source.open_split(source.splits()[0], None, ["id"])
    while reader.read(1000) is not END:
        pass
    assert reader.read(1000) is END


@pytest.mark.parametrize("sizes", [(1,), (3, 1, 7), (40,), (10**6,)])
def test_cuts_do_not_matter(make, tmp_path, sizes):
    assert flat(read_all(make(tmp_path, table()), sizes=sizes)[0]) == table().to_pylist()


def test_columns_come_as_asked(make, tmp_path):
    source = make(tmp_path, table(5))
    rows = flat(read_all(source, ["_offset", "amount", "_partition", "id", "_topic"])[0])
    topic = source.name if "files" not in type(source).__module__ else source.splits()[0]
    assert rows == [
        {"_offset": i, "amount": row["amount"], "_partition": 0, "id": i, "_topic": topic} for i, row in enumerate(table(5).to_pylist())
    ]


def test_no_columns_still_count(make, tmp_path):
    assert sum(map(len, read_all(make(tmp_path, table()), [])[0])) == 40


@pytest.mark.parametrize("size", [4, 1000])
def test_reading_goes_on_at_every_position(make, tmp_path, size):
    source = make(tmp_path, table())
    expected = table().to_pylist()
    reader = source.open_split(source.splits()[0], None, SCHEMA.names)
    done = 0
    while (chunk := reader.read(size)) is not END:
        for rows in range(chunk.rows.num_rows + 1):
            position = json.loads(json.dumps(reader.position(chunk, rows)))
            rest = flat(read_all(source, sizes=(7,), position=position)[0])
            assert rest == expected[done + rows :], (done, rows)
        done += chunk.rows.num_rows
    assert done == len(expected)


def test_positions_taken_after_a_resume_hold(make, tmp_path):
    source = make(tmp_path, table())
    seen, position = [], None
    for _ in range(200):
        reader = source.open_split(source.splits()[0], position, SCHEMA.names)
        chunk = reader.read(3)
        if chunk is END:
            break
        take = min(2, chunk.rows.num_rows)
        seen += chunk.rows.slice(0, take).to_pylist()
        position = json.loads(json.dumps(reader.position(chunk, take)))
        reader.close()
    assert seen == table().to_pylist()


def test_an_empty_input_ends(make, tmp_path):
    assert flat(read_all(make(tmp_path, table(0)))[0]) == []
