"""What every sink that survives a crash must answer."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from streamdsl.schema import Field
from tests.connectors.cases import SCHEMA, SINKS, table, written


@pytest.fixture(params=SINKS)
def sink(request, tmp_path):
    return SINKS[request.param](tmp_path)


def opened(sink, state=None, schema=SCHEMA):
    return sink.open_writer(schema, (), 0, 1, state)


def put(writer, rows):
    for batch in rows.to_batches(max_chunksize=6):
        writer.write(batch, pa.array(range(batch.num_rows), pa.int64()))


def snapshot(writer, checkpoint_id):
    return json.loads(json.dumps(writer.snapshot(checkpoint_id)))


def test_rows_come_back_as_written(sink):
    writer = opened(sink)
    put(writer, table())
    snapshot(writer, 1)
    writer.commit(1)
    writer.close()
    assert written(sink) == table().to_pylist()


def test_what_no_checkpoint_took_disappears(sink):
    writer = opened(sink)
    put(writer, table(10))
    state = snapshot(writer, 1)
    put(writer, table(10, start=100))
    writer.flush()
    snapshot(writer, 2)
    put(writer, table(5, start=200))
    # Killed here: checkpoint 2 never completed, and nothing was closed.
    again = opened(sink, state)
    put(again, table(10, start=300))
    snapshot(again, 3)
    again.close()
    assert [row["id"] for row in written(sink)] == [*range(10), *range(300, 310)]


def test_every_checkpoint_can_be_restored(sink):
    states = [None]
    writer = opened(sink)
    for number in range(1, 6):
        put(writer, table(7, start=7 * (number - 1)))
        states.append(snapshot(writer, number))
    writer.close()
    for number in range(5, -1, -1):
        writer = opened(sink, states[number])
        if not number:
            snapshot(writer, 1)  # what an earlier run has left goes with the first snapshot
        writer.close()
        assert [row["id"] for row in written(sink)] == list(range(7 * number))


def test_without_a_state_it_begins_anew(sink):
    for start in (0, 50):
        writer = opened(sink)
        put(writer, table(3, start=start))
        snapshot(writer, 1)
        writer.close()
    assert [row["id"] for row in written(sink)] == [50, 51, 52]


def test_a_checkpoint_without_rows(sink):
    writer = opened(sink)
    first = snapshot(writer, 1)
    put(writer, table(2))
    second = snapshot(writer, 2)
    third = snapshot(writer, 3)
    writer.close()
    for state, count in ((third, 2), (second, 2), (first, 0)):
        opened(sink, state).close()
        assert len(written(sink)) == count


def test_hidden_columns_are_not_declared(sink):
    schema = SCHEMA.with_fields(Field("op", pa.string(), hidden=True))
    writer = opened(sink, schema=schema)
    put(writer, table(2))
    snapshot(writer, 1)
    writer.close()
    assert written(sink) == table(2).to_pylist()
