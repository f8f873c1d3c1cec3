"""The command ``streamdsl``: its commands, each imported when it is asked for, and what becomes of errors."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from streamdsl.cli.group import Group, app_option, with_app_option
from streamdsl.cli.printing import echo
from streamdsl.errors import ConfigError, StreamError, TopologyError
from streamdsl.version import __version__

__all__ = ["app", "run"]

_log = logging.getLogger("streamdsl")

#: In the order of a life: see it, run it, look into it.
_COMMANDS = (
    *("demo", "new", "run", "worker"),
    *("status", "stop", "drain", "savepoint", "reset"),
    *("explain", "graph", "flink", "checkpoints", "topics", "send", "tail", "doctor", "completion"),
)
_WITHOUT_TOPOLOGY = ("demo", "new", "completion", "send", "tail")


class _Commands(Group):
    """Finds the command `x` in the module `streamdsl.cli.x`, as its attribute `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"streamdsl.cli.{cmd_name}").command
        return found if cmd_name in _WITHOUT_TOPOLOGY else with_app_option(found)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context, target: str | None) -> None:
    """Run and look into streamdsl topologies."""
    ctx.obj = target


app.params.insert(0, app_option(inner=False))


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = app.main(argv if argv is None else list(argv), prog_name="streamdsl", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StreamError as error:
        return _failed(error, 2 if isinstance(error, ConfigError | TopologyError) else 1)
    except BrokenPipeError:
        # Who was reading has gone, `| head` for one. What Python flushes at its end would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, click.Abort):
        echo("left at once; what was committed stays", err=True)
        return 130


def _failed(error: StreamError, code: int) -> int:
    echo(f"error: {error}", err=True)
    _log.debug("where it came from", exc_info=error)
    return code
