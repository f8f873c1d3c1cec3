"""Which errors of the client pass by themselves."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from streamdsl.connectors.kafka.failures import away, translated

#: What librdkafka says of a connection, of a broker that has moved, and of an answer that has not come yet.
PASSING = [
    "_TRANSPORT", "_FAIL", "_RESOLVE", "_DESTROY", "_DESTROY_BROKER", "_ALL_BROKERS_DOWN", "_NODE_UPDATE", "_UNKNOWN_BROKER", "_OUTDATED",
    "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_MSG_TIMED_OUT", "_RETRY", "_WAIT_CACHE", "_WAIT_COORD", "_ISR_INSUFF",
]  # fmt: skip
LASTING = ["_INVALID_ARG", "_STATE", "_FENCED", "_FATAL", "_AUTHENTICATION", "_SSL", "_UNKNOWN_TOPIC", "_FS", "_CRIT_SYS_RESOURCE"]


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again(name):
    error = KafkaError(getattr(KafkaError, name))
    assert away(error)
    assert translated(error, "reading the commits").context["recoverable"]


@pytest.mark.parametrize("name", LASTING)
def test_what_stays_ends_the_run(name):
    error = KafkaError(getattr(KafkaError, name))
    assert not away(error)
    assert not translated(error, "reading the commits").context.get("recoverable")
