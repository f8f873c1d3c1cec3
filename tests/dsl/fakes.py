"""Sources and sinks that only describe themselves: enough to build and compile topologies."""

import re
from dataclasses import dataclass

import pytest

from streamdsl import Schema, Topology, TopologyError
from streamdsl.connectors.base import Sink, Source


@dataclass
class Payment:
    """A row of the tests."""

    id: int
    account: str
    time: int
    amount: float
    city: str | None


class FakeSource(Source):
    """A source of any schema that cannot be read."""

    bounded = True

    def __init__(self, name="payments", schema=Payment):
        self.name = name
        self.schema = None if schema is None else Schema.of(schema)

    def splits(self):
        return ["0"]

    def open_split(self, split, position, columns):
        raise NotImplementedError


class SchemalessSource(FakeSource):
    """Takes the schema it is told."""

    def __init__(self, name="file"):
        super().__init__(name, None)

    def with_schema(self, schema):
        return FakeSource(self.name, schema)


class FakeSink(Sink):
    """A sink that cannot be written."""

    def __init__(self, name="out", gathers=True):
        self.name = name
        self.gathers = gathers

    def open_writer(self, schema, keys, task, tasks, state):
        raise NotImplementedError


def payments(**options):
    """Return a topology and its stream of payments."""
    topology = Topology("test")
    options.setdefault("timestamp", "time")
    return topology, topology.stream(FakeSource(), **options)


def refused(*parts):
    """Expect a `TopologyError` whose text holds all parts."""
    return pytest.raises(TopologyError, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts))
