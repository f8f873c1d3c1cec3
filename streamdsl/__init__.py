"""Stream processing in Python: the words of Kafka Streams, the guarantees of Flink, no JVM.

Describe a topology with `Topology`, run it with ``topology.run()``. What stands here is the public interface.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from streamdsl.config import Config
from streamdsl.dsl.keyed import KeyedStream
from streamdsl.dsl.operator import native, operator
from streamdsl.dsl.stream import Stream
from streamdsl.dsl.table import Table
from streamdsl.dsl.topology import Topology
from streamdsl.dsl.windowed import WindowedStream
from streamdsl.errors import (
    ConfigError,
    ConnectorError,
    DataError,
    InternalError,
    StateError,
    StreamError,
    TopologyError,
    UserCodeError,
)
from streamdsl.expr import (
    Aggregate,
    Expr,
    arctan2,
    coalesce,
    col,
    concat_str,
    count,
    event_time,
    format,
    greatest,
    haversine_km,
    least,
    lit,
    row,
    when,
)
from streamdsl.policies import dead_letter
from streamdsl.processor import Processor, TwoInputProcessor
from streamdsl.schema import Field, Schema
from streamdsl.secret import Secret
from streamdsl.version import __version__
from streamdsl.windows import count_window, expanding, hopping, rolling, session, sliding, throttle, tumbling

if TYPE_CHECKING:
    from streamdsl.connectors.console import console
    from streamdsl.connectors.delta import delta
    from streamdsl.connectors.files import files
    from streamdsl.connectors.http import http
    from streamdsl.connectors.kafka import kafka
    from streamdsl.connectors.memory import memory
    from streamdsl.connectors.postgres import postgres
    from streamdsl.connectors.redis import redis

__all__ = [
    "Aggregate",
    "Config",
    "ConfigError",
    "ConnectorError",
    "DataError",
    "Expr",
    "Field",
    "InternalError",
    "KeyedStream",
    "Processor",
    "Schema",
    "Secret",
    "StateError",
    "Stream",
    "StreamError",
    "Table",
    "Topology",
    "TopologyError",
    "TwoInputProcessor",
    "UserCodeError",
    "WindowedStream",
    "__version__",
    "arctan2",
    "coalesce",
    "col",
    "concat_str",
    "console",
    "count",
    "count_window",
    "dead_letter",
    "delta",
    "event_time",
    "expanding",
    "files",
    "format",
    "greatest",
    "haversine_km",
    "hopping",
    "http",
    "kafka",
    "least",
    "lit",
    "memory",
    "native",
    "operator",
    "postgres",
    "redis",
    "rolling",
    "row",
    "session",
    "sliding",
    "throttle",
    "tumbling",
    "when",
]

# Connectors are imported when they are asked for: what is not used costs nothing at import.
_CONNECTORS = frozenset({"console", "delta", "files", "http", "kafka", "memory", "postgres", "redis"})


def __getattr__(name: str) -> Any:
    if name in _CONNECTORS:
        return getattr(importlib.import_module(f"streamdsl.connectors.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
