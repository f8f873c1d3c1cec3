"""Files as sources and sinks: CSV, JSON lines, Parquet, Arrow IPC."""

from streamdsl.connectors.files.description import Files, files

__all__ = ["Files", "files"]
