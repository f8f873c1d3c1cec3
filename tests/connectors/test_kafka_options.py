"""Options that the client does not take: an error of whoever gave them, before anything is asked of a cluster."""

from __future__ import annotations

import pytest

from streamdsl import Config, ConfigError, ConnectorError, Topology, kafka, memory

#: What is no option of librdkafka, or has no such value.
BAD = (
    {"no.such.option": 1},
    {"linger.ms": "soon"},
    {"message.max.bytes": "many"},
    {"message.max.bytes": 10},
    {"security.protocol": "trust me"},
    {"compression.type": "brotli"},
    {"socket.timeout.ms": None},
    {"sasl.mechanism": "PLAIN", "security.protocol": "SASL_PLAINTEXT"},
)


def copying(**options):
    """`source` and `sink`: their options."""
    topology = Topology("options")
    source = kafka("in", {"id": "int64"}, until="latest", options=options["source"]) if "source" in options else None
    rows = topology.stream(memory("in", {"id": "int64"}, [{"id": 1}]) if source is None else source, name="in")
    sink = options.get("sink")
    rows.to(memory("out") if sink is None else kafka("out", options=sink, delivery=options["delivery"]), name="out")
    return topology


@pytest.mark.parametrize("options", BAD, ids=str)
@pytest.mark.parametrize("where", ["source", "exactly_once", "at_least_once"])
def test_an_option_that_the_client_does_not_take(where, options):
    given = {"source": options} if where == "source" else {"sink": options, "delivery": where}
    with pytest.raises(ConnectorError, match="the client does not take an option") as told:
        copying(**given).run(Config(broker="localhost:1"))
    assert "options=" in (told.value.remedy or "")


@pytest.mark.parametrize("asked", [0, -1, 999, 2**31, "soon", "", 1500.5, True])
def test_how_long_a_transaction_may_be_open(asked):
    topology = copying(sink={"transaction.timeout.ms": asked}, delivery="exactly_once")
    with pytest.raises(ConfigError, match=r"transaction\.timeout\.ms=.* is no whole number of ms from 1000 to 2147483647"):
        topology.run(Config(broker="localhost:1", checkpoint_interval="100ms"))
