"""Redis: the last row of each key, as a hash or a text, and rows as a stream."""

from streamdsl.connectors.redis.description import Redis, redis

__all__ = ["Redis", "redis"]
