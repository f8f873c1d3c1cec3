"""Rows in Redis: hashes, texts, streams."""

from __future__ import annotations

import json
import threading
import time

import pytest

from streamdsl import Config, ConnectorError, DataError, Topology, TopologyError, col, count, dead_letter, memory, redis
from tests import silence
from tests.held import Held
from tests.redis.server import PASSWORD

SCHEMA = {"k": "str | None", "v": int, "note": "str | None"}


def writing(sink, rows, errors=None, table=False):
    topology = Topology("out")
    stream = topology.stream(memory("rows", schema=SCHEMA, rows=rows))
    if table:
        stream.key_by("k").aggregate(n=count(), total=col("v").sum()).to(sink, name="out", errors=errors)
    else:
        stream.to(sink, name="out", errors=errors)
    return topology


ROWS = [{"k": "a", "v": 1, "note": "x"}, {"k": "b", "v": 2, "note": None}, {"k": "a", "v": 3, "note": None}]


def test_a_hash_has_the_columns_of_the_last_row(server):
    writing(redis(server.url, "row:{k}"), ROWS).run()
    assert server.client().hgetall("row:a") == {"k": "a", "v": "3"}
    assert server.client().hgetall("row:b") == {"k": "b", "v": "2"}


def test_a_table_by_its_key(server):
    writing(redis(server.url, "sum:{k}"), ROWS, table=True).run()
    assert server.client().hgetall("sum:a") == {"k": "a", "n": "2", "total": "4"}


def test_a_text_is_json(server):
    writing(redis(server.url, "row:{k}", kind="string"), ROWS).run()
    assert json.loads(server.client().get("row:a")) == {"k": "a", "v": 3, "note": None}


def test_a_stream_has_every_row(server):
    writing(redis(server.url, "rows", kind="stream"), ROWS).run()
    assert [entry for _, entry in server.client().xrange("rows")] == [
        {"k": "a", "v": "1", "note": "x"},
        {"k": "b", "v": "2"},
        {"k": "a", "v": "3"},
    ]


def test_keys_expire(server):
    writing(redis(server.url, "row:{k}", ttl="1h"), ROWS).run()
    assert 3_500_000 < server.client().pttl("row:a") <= 3_600_000


def test_a_null_in_the_key_is_a_bad_row(server):
    rows = [*ROWS, {"k": None, "v": 9, "note": None}]
    with pytest.raises(DataError, match="column 'k', a part of the key, is null"):
        writing(redis(server.url, "row:{k}"), rows).run()
    letters = memory("letters")
    writing(redis(server.url, "row:{k}"), rows, errors=dead_letter(letters)).run()
    assert len(letters.rows()) == 1
    assert server.client().exists("row:a", "row:b") == 2


def test_a_key_of_another_kind_is_an_error(server):
    server.client().set("row:a", "mine")
    with pytest.raises(ConnectorError, match="WRONGTYPE"):
        writing(redis(server.url, "row:{k}"), ROWS).run()


def test_a_wrong_password_is_not_shown(server):
    with pytest.raises(ConnectorError, match="refuses the user or the password") as caught:
        writing(redis(server.url.replace(PASSWORD.replace(" ", "%20"), "hunter2secret"), "row:{k}"), ROWS).run()
    assert "hunter2secret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize("key", ["rows", "row:{", "row:{0}", "row:{k.x}", "row:{}"])
def test_templates_that_are_none(key):
    with pytest.raises(TopologyError):
        redis("redis://localhost", key)


def test_an_unknown_column_is_named():
    with pytest.raises(TopologyError, match="kk"):
        writing(redis("redis://localhost", "row:{kk}"), [])


@pytest.mark.crash
def test_a_server_that_is_away_for_a_while(server, tmp_path):
    (tmp_path / "in.csv").write_text("k,v,note\n" + "".join(f"k{i % 50},{i},\n" for i in range(3_000)))
    from streamdsl import files

    topology = Topology("away")
    source = Held(files(tmp_path / "in.csv", schema=SCHEMA, rate=3_000), rows=1_500)
    topology.stream(source).to(redis(server.url, "row:{k}"), name="out")
    run = topology.start(Config(state_dir=tmp_path / "state", checkpoint_interval="50ms"))
    time.sleep(0.4)
    server.kill()
    threading.Timer(0.3, server.start).start()
    source.over.set()
    assert run.wait(60)
    assert server.client().hget("row:k7", "v") == str(2_957)


def test_a_stop_does_not_wait_for_a_server_that_falls_silent(server, tmp_path):
    link = silence.Link(server.port)
    sink = redis(server.url.replace(str(server.port), str(link.port)), "k:{k}")
    silence.check_stop(silence.run_of(tmp_path, lambda rows: rows.to(sink, name="out")), link)
