"""Control plane: turns a physical plan into tasks, runs them, takes them through checkpoints, and shows how they are."""

from streamdsl.runtime.serving import metrics_server

__all__ = ["metrics_server"]
