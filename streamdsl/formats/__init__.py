"""Bytes to columns: what several connectors read."""
