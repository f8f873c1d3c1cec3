"""The alerts as everybody sees them: read back from their topic, for the screen."""

from __future__ import annotations

import json
import threading
import uuid
from types import TracebackType
from typing import Any, Final

import pyarrow as pa

from .screen import Board

_AT_ONCE: Final = 500
_WAIT_S: Final = 0.1


class AlertsTopic:
    """Notes on a `Board` what is committed to the topic from now on, while it is entered.

    Parameters
    ----------
    broker, topic : str
        The topic exists.
    """

    def __init__(self, broker: str, topic: str) -> None:
        from confluent_kafka import OFFSET_END, Consumer, TopicPartition

        self.board = Board()
        self._stop = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker,
                # The client wants a group; nothing is ever committed to this one.
                "group.id": f"fraud-screen-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in partitions])
        self._thread = threading.Thread(target=self._follow, name="fraud-screen", daemon=True)

    def __enter__(self) -> AlertsTopic:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._note(self._consumer.consume(_AT_ONCE, _WAIT_S))

    def _note(self, messages: list[Any]) -> None:
        rows = [json.loads(message.value()) for message in messages if message.error() is None]
        if rows:
            self.board.note(pa.RecordBatch.from_pylist(rows), False)
