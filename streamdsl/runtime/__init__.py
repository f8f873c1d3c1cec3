"""Control plane: turns a physical plan into tasks, runs them, takes them through checkpoints, and shows how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamdsl.runtime.serving import metrics_server

__all__ = ["metrics_server"]


# An HTTP server is imported when it is asked for: a job that serves nothing starts without it.
def __getattr__(name: str) -> Any:
    if name == "metrics_server":
        from streamdsl.runtime.serving import metrics_server

        return metrics_server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
