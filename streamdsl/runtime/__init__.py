"""Control plane: turns a physical plan into tasks, runs them, takes them through checkpoints, and shows how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamdsl.errors import ConfigError

if TYPE_CHECKING:
    from streamdsl.runtime.serving import metrics_server
    from streamdsl.runtime.telemetry import send_telemetry

__all__ = ["metrics_server", "send_telemetry"]


# An HTTP server is imported when it is asked for: a job that serves nothing starts without it.
def __getattr__(name: str) -> Any:
    if name == "metrics_server":
        from streamdsl.runtime.serving import metrics_server

        return metrics_server
    if name == "send_telemetry":
        try:
            from streamdsl.runtime.telemetry import send_telemetry
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"figures are sent by the package {error.name}, which is not installed", remedy="pip install 'streamdsl[otel]'"
            ) from error

        return send_telemetry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
