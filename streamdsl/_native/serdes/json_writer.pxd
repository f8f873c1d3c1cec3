"""Rows as JSON lines."""
