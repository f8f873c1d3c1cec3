"""send and tail: records of a topic as lines of text."""

from __future__ import annotations

import json

from streamdsl.cli.app import run
from tests.kafka.topics import consume_all, create_topic


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
