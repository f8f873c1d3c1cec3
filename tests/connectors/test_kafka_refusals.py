"""A producer that knows already that a topic cannot be written refuses its records when they are handed over."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamdsl.connectors.kafka.outbox import Record
from streamdsl.connectors.kafka.rights import Access
from streamdsl.connectors.kafka.writer import AtLeastOnceWriter
from streamdsl.errors import ConnectorError


class Refusing:
    def __init__(self, code: int) -> None:
        self.code = code

    def produce(self, topic: str, *record: Any, **options: Any) -> None:
        raise KafkaException(KafkaError(self.code, "refused"))

    def poll(self, seconds: float) -> int:
        return 0


def refused(topic: str, code: int) -> ConnectorError:
    writer = AtLeastOnceWriter("out", {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, Layoutless())  # type: ignore[arg-type]
    writer._producer = Refusing(code)  # type: ignore[assignment]
    writer._access = Access(("out",), ("WRITE",))
    writer._outbox.add([Record(topic, None, b"{}", 0, None)])
    with pytest.raises(ConnectorError) as caught:
        writer._hand_over()
    return caught.value


class Layoutless:
    """What the writer asks of its layout when it opens."""

    largest_batch = None

    class limits:
        topic = None


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC])
def test_a_topic_that_rows_have_named_is_tried_again(code: int) -> None:
    """The next start sees that it cannot be written, and its rows are a matter of the sink's policy."""
    error = refused("named", code)
    assert error.context["recoverable"] and error.context["lasting"]
    assert "'named', which rows have named" in error.message and "errors=" in (error.remedy or "")


def test_the_topic_of_the_sink_ends_the_job() -> None:
    error = refused("out", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert not error.context.get("recoverable") and "WRITE on the topic 'out'" in str(error)
