"""send and tail: records of a topic as lines of text."""

from __future__ import annotations

import json

from streamdsl.cli.app import run
from tests.kafka.topics import consume_all, create_topic, produce


def test_lines_are_sent_by_key_and_read_back(broker, topic_name, tmp_path, capsys):
    create_topic(broker.bootstrap, topic_name, 3)
    lines = [json.dumps({"account": f"a{i % 5}", "n": i}) for i in range(50)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n\n")
    assert run(["send", topic_name, str(tmp_path / "in.jsonl"), "--key", "account", "--broker", broker.bootstrap]) == 0
    capsys.readouterr()
    assert run(["tail", topic_name, "--all", "--keys", "--broker", broker.bootstrap]) == 0
    shown = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert sorted(value for _, _, value in shown) == sorted(lines)
    places = {}
    for place, key, value in shown:
        assert json.loads(value)["account"] == key
        places.setdefault(key, set()).add(place.partition(":")[0])
    assert all(len(partitions) == 1 for partitions in places.values())
    assert run(["tail", topic_name, "-n", "1", "--broker", broker.bootstrap]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len({place.partition(":")[0] for place, _, _ in shown})
    assert run(["tail", topic_name, "-f", "--all", "--limit", "50", "--broker", broker.bootstrap]) == 0
    assert len(consume_all(broker.bootstrap, topic_name)) == 50


def test_what_cannot_be_sent_is_said(broker, topic_name, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n')
    assert run(["send", topic_name, str(tmp_path / "in.jsonl"), "--broker", broker.bootstrap]) == 1
    assert f"no topic '{topic_name}'" in capsys.readouterr().err
    create_topic(broker.bootstrap, topic_name)
    assert run(["send", topic_name, str(tmp_path / "in.jsonl"), "--key", "k", "--broker", broker.bootstrap]) == 1
    assert "line 1 has no field 'k'" in capsys.readouterr().err
    assert run(["tail", f"{topic_name}-none", "--broker", broker.bootstrap]) == 1
    assert run(["send", topic_name, str(tmp_path / "nothing"), "--broker", broker.bootstrap]) == 2


def test_a_record_is_one_line_that_steers_nothing(broker, topic_name, capsys):
    """Keys and values come from outside: none looks like another record, none moves the cursor."""
    create_topic(broker.bootstrap, topic_name)
    hostile = "\x1b[2J\x9b\u202e\u2028\r\n0:7\tk\tforged"
    pretty = json.dumps({"a": "é", "b": ["\x85", "\u2028"]}, indent=1, ensure_ascii=False)
    records = [(hostile, hostile), ("k", pretty), (None, None), ("k", b"\xff\x9b")]
    produce(broker.bootstrap, topic_name, records)
    assert run(["tail", topic_name, "--all", "--keys", "--broker", broker.bootstrap]) == 0
    out = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e\u2028\r\x85") & set(out)
    lines = [line.split("\t") for line in out.split("\n")[:-1]]
    assert [line[0] for line in lines] == ["0:0", "0:1", "0:2", "0:3"] and {len(line) for line in lines} == {3}
    assert json.loads(lines[1][2]) == json.loads(pretty)
