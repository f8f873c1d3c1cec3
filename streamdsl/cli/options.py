"""Options that several commands have, and the settings that they and their surroundings say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from streamdsl.checkpoint.names import safe_name
from streamdsl.cli.printing import echo
from streamdsl.cli.settings import Settings, gather, kafka_flags

__all__ = ["connection_options", "default_state_dir", "running_options", "settings_of", "state_dir_option"]

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

#: Flags whose names are not those of the settings.
_RENAMED = {"concurrency": "parallelism", "kafka_options": "kafka", "drop_state": "drop_state"}


def _all(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


#: How a command finds its settings and the broker.
connection_options = _all(
    click.option("--config", "config_file", metavar="FILE", help="Settings as TOML [STREAMDSL_CONFIG]."),
    click.option("--broker", metavar="HOST:PORT", help="Kafka broker of all that name none [STREAMDSL_BROKER]."),
    click.option(
        "-X", "kafka_options", multiple=True, metavar="NAME=VALUE", help="An option of librdkafka; secrets belong into file or environment."
    ),
)

state_dir_option = click.option(
    "--state-dir", metavar="DIR", help="Where checkpoints live [default: a directory of the job below ~/.local/state]."
)

#: How a topology runs.
running_options = _all(
    click.option("-l", "--loglevel", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR [default: INFO]."),
    click.option("--log-format", metavar="FORMAT", help="text, or json: an object a line [default: text]."),
    click.option("--plain", is_flag=True, default=None, help="No colours; nor are there any with NO_COLOR, or outside a terminal."),
    click.option("--rows/--no-rows", default=None, help="Log some rows of each sink once they are committed [default: with text]."),
    click.option("-c", "--concurrency", type=int, metavar="N", help="Tasks of each stage, and threads [default: 1]."),
    state_dir_option,
    click.option("--state-memory", metavar="BYTES", help="Memory for keyed state, for instance 512MiB [default: 256MiB]."),
    click.option("--checkpoint-interval", metavar="D", help="For instance 500ms [default: 5s]."),
    click.option("--stop-timeout", metavar="D", help="How long a stop may take, its last checkpoint included [default: 5s]."),
    click.option("--restarts", type=int, metavar="N", help="How often a failed run is started again [default: 0]."),
    click.option("--restore-from", metavar="DIR", help="A savepoint to begin a fresh state directory with."),
    click.option("--checkpoint-store", metavar="URL", help="An object store that has each checkpoint too, such as s3://bucket/job."),
    click.option("--keep-state", multiple=True, metavar="NAME", help="An operator that was changed and keeps its state."),
    click.option("--drop-state", multiple=True, metavar="NAME", help="An operator whose state may be lost."),
    click.option("--accept-duplicates-from", type=int, metavar="ID", help="Begin with this checkpoint all the same; 0: with none."),
    click.option("--drain/--no-drain", default=None, help="On Ctrl-C and SIGTERM close the windows and finish."),
    click.option("--metrics-port", type=int, metavar="PORT", help="Serve /metrics, /health and /tables there."),
    click.option("--metrics-host", metavar="ADDRESS", help="… at this address [default: 127.0.0.1]."),
    click.option("--metrics-allow-host", multiple=True, metavar="NAME", help="A public name under which clients ask for them."),
    click.option("--otlp-endpoint", metavar="URL", help="Send figures and spans to an OpenTelemetry collector, http://HOST:4318 say."),
    click.option("--ui-port", type=int, metavar="PORT", help="Serve the live page there."),
    click.option("--ui-host", metavar="ADDRESS", help="… at this address [default: 127.0.0.1]."),
    click.option("--ui-allow-host", multiple=True, metavar="NAME", help="A public name under which browsers ask for it."),
    click.option("--ui-rows/--no-ui-rows", default=None, help="Show the last rows of sinks, and tables, on it [default: no]."),
    click.option("--metrics-tables/--no-metrics-tables", default=None, help="Serve /tables there too [default: at 127.0.0.1 only]."),
)  # fmt: skip


def settings_of(flags: dict[str, Any]) -> Settings:
    """Return the settings that the options above, the environment and the file say; warnings are shown."""
    file = flags.pop("config_file", None)
    named = {_RENAMED.get(name, name): value for name, value in flags.items()}
    named["kafka"] = kafka_flags(named.pop("kafka", ()))
    settings = gather(named, file)
    for warning in settings.warnings:
        echo(f"warning: {warning}", err=True)
    return settings


def default_state_dir(job: str) -> Path:
    """Return where the state of a job is when nobody says: it outlives the process, and each job has its own."""
    home = os.environ.get("XDG_STATE_HOME")
    # The specification has relative paths ignored.
    base = Path(home) if home and os.path.isabs(home) else Path.home() / ".local" / "state"
    return base / "streamdsl" / safe_name(job)
