"""A broker for the tests: one for all tests of a process, started when the first test asks for it.

`STREAMDSL_TEST_BROKER=HOST:PORT` names one that runs already. Without it and without Java and Maven, tests that need a broker are
skipped; with `STREAMDSL_REQUIRE_BROKER=1`, or `CI` set, they fail. Under pytest-xdist each worker has its own, so that a test may kill it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from streamdsl import Config
from tests.kafka.broker import Broker, Cluster, NoKafka
from tests.kafka.topics import create_topic


@dataclass(frozen=True)
class ExistingBroker:
    """A broker that somebody else runs; nobody here kills it."""

    bootstrap: str


def without(reason: str) -> NoReturn:
    required = os.environ.get("STREAMDSL_REQUIRE_BROKER") == "1" or os.environ.get("CI", "") not in ("", "0", "false")
    if required:
        pytest.fail(f"a broker is required here, and there is none: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | ExistingBroker]:
    """A running broker: `bootstrap` is where it is."""
    if existing := os.environ.get("STREAMDSL_TEST_BROKER"):
        yield ExistingBroker(existing)
        return
    try:
        started = Broker(tmp_path_factory.mktemp("kafka"))
    except NoKafka as missing:
        without(str(missing))
    with started:
        yield started


@pytest.fixture
def mortal_broker(broker: Broker | ExistingBroker) -> Iterator[Broker]:
    """The broker, for a test that kills or pauses it; whatever was done to it, the next test finds it running."""
    if isinstance(broker, ExistingBroker):
        pytest.skip("STREAMDSL_TEST_BROKER is not ours to kill")
    yield broker
    broker.revive()


@pytest.fixture(scope="session")
def _shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        started = Cluster(3, tmp_path_factory.mktemp("kafka-cluster"))
    except NoKafka as missing:
        without(str(missing))
    with started:
        yield started


@pytest.fixture
def cluster(_shared_cluster: Cluster) -> Iterator[Cluster]:
    """Three brokers, which a test may kill; the next test finds them running."""
    yield _shared_cluster
    _shared_cluster.revive()


@pytest.fixture
def topic_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test has, for a topic, or to be put before several."""
    return f"{request.node.originalname}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def source(broker: Broker | ExistingBroker, topic_name: str) -> str:
    """A topic of three partitions."""
    return create_topic(broker.bootstrap, topic_name, 3)


@pytest.fixture
def sink(source: str) -> str:
    """The name of a topic that a job makes."""
    return f"{source}-out"


@pytest.fixture
def config(broker: Broker | ExistingBroker, tmp_path: Path) -> Callable[..., Config]:
    """Make the `Config` of a job with a state directory and many checkpoints."""

    def make(**more: Any) -> Config:
        return Config(**{"broker": broker.bootstrap, "state_dir": tmp_path / "state", "checkpoint_interval": "100ms", **more})

    return make
