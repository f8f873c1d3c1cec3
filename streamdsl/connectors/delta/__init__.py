"""Delta Lake: tables of Parquet files with a log of commits, written exactly once."""

from streamdsl.connectors.delta.description import Delta, delta

__all__ = ["Delta", "delta"]
