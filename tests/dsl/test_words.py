"""What is often written wrong is told with what to write."""

import pytest

from streamdsl import Config, ConfigError, Topology, col, count, kafka, memory
from streamdsl.cli import main
from tests.dsl.fakes import FakeSource, payments, refused


def keyed():
    return payments()[1].key_by("account")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: payments()[1].map(dict), ["map needs schema=", "schema={"]),
        (lambda: payments()[1].flat_map(dict), ["flat_map needs schema=", "schema={"]),
        (lambda: payments()[1].map_batches(dict), ["map_batches needs schema=", "schema={"]),
        (lambda: keyed().aggregate(total=sum), ["aggregate: total", 'total=col("...").sum()']),
        (lambda: keyed().aggregate(total=max), ["aggregate: total", 'total=col("...").max()']),
        (lambda: keyed().aggregate(n=count), ["aggregate: n", "n=count()"]),
        (lambda: keyed().aggregate(n=len), ["aggregate: n", "n=count()"]),
        (lambda: keyed().aggregate(n=lambda row: 1), ["aggregate: n", "map(function"]),
        (lambda: keyed().aggregate(n=count(), half=col("n") / 2), ["is not an aggregate", "do not see one another"]),
        (lambda: keyed().aggregate(x=count() + col("amount")), ['col("amount") stands outside an aggregate', "last()", "account"]),
        (lambda: Topology("t").stream(FakeSource("s", None)), ["does not say which columns", "schema={"]),
        (lambda: Topology("t").stream(FakeSource("s", {})), ["schema without columns", "schema={"]),
    ],
)
def test_verbs(make, parts):
    with refused(*parts):
        make()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"paralelism": 2}, ["paralelism", "did you mean 'parallelism'"]),
        ({"nothing_like_it": 2}, ["nothing_like_it", "known: parallelism"]),
        ({"broker": "localhost:99999"}, ["no port 99999", "65535"]),
        ({"broker": "a:9092, b:0"}, ["no port 0"]),
    ],
)
def test_settings(settings, parts):
    with pytest.raises(ConfigError) as raised:
        Config(**settings)
    assert all(part in str(raised.value) for part in parts)


@pytest.mark.parametrize(
    ("broker", "part"),
    [("localhost:99999", "no port 99999"), ("a:9092, b:0", "no port 0"), ("a b", "not an address"), (5, "not an address")],
)
def test_the_broker_of_a_topic(broker, part):
    with refused("kafka('t')", part):
        kafka("t", {"a": int}, broker=broker)


@pytest.mark.parametrize("config", [2, "2", {"parallelism": 2}, Config])
@pytest.mark.parametrize("verb", ["run", "start", "collect", "head"])
def test_what_is_no_config(verb, config):
    stream = Topology("t").stream(memory("m", schema={"a": int}, rows=[{"a": 1}]))
    if verb in ("run", "start"):
        stream.to(memory("o"))
    owner = stream.topology if verb in ("run", "start") else stream
    with pytest.raises(ConfigError, match=r"is not a Config(?s:.*)Config\(parallelism="):
        getattr(owner, verb)(config=config)


def test_settings_without_names():
    with pytest.raises(ConfigError, match="by name"):
        Config(2)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kaf.py").write_text('from streamdsl import Topology\ntopology = Topology("t")\n')
    for words in (["-A", "kaf.topology", "explain"], ["explain", "-A", "kaf:topology"]):
        assert main(words) == 2
        assert "topology 't' writes nothing" in capsys.readouterr().err
