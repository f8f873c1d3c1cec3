"""``streamdsl -A … worker``: runs a topology until its input ends or somebody stops it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from streamdsl.cli.banner import banner
from streamdsl.cli.door import Door
from streamdsl.cli.log import ColouredLines, JsonLines, Lines, has_colours, totals
from streamdsl.cli.options import connection_options, default_state_dir, running_options, settings_of
from streamdsl.cli.printing import echo
from streamdsl.cli.report import Figures, Rows
from streamdsl.cli.settings import Settings
from streamdsl.cli.status import status_of
from streamdsl.cli.target import load
from streamdsl.connectors.console import Console
from streamdsl.dsl.topology import Topology
from streamdsl.errors import StreamError
from streamdsl.runtime.sink_rows import CommittedRows
from streamdsl.version import __version__

__all__ = ["command", "guarded", "run_worker", "start_logging"]

_log = logging.getLogger("streamdsl")

#: How soon a signal is answered with a line.
_LOOK_S = 0.2


@click.command("worker")
@running_options
@connection_options
@click.pass_obj
def command(target: str | None, /, **flags: Any) -> int:
    """Run a topology: Ctrl-C and SIGTERM take a last checkpoint and leave, a second one leaves at once.

    Started again, it goes on where it was. One worker runs a job; another one is refused.
    """
    settings = settings_of(flags)
    start_logging(settings.loglevel, settings.log_format, plain=settings.plain)
    topology = load(target)
    if settings.config.state_dir is None:
        config = dataclasses.replace(settings.config, state_dir=default_state_dir(topology.name))
        settings = dataclasses.replace(settings, config=config)
    return guarded(lambda: run_worker(topology, settings))


def guarded(work: Callable[[], int]) -> int:
    """Return the exit code of `work`; what is nobody's designed error is told in one line."""
    try:
        return work()
    except StreamError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of the process: people are told, not shown a stack
        _log.debug("where it came from", exc_info=error)
        echo(f"error: {type(error).__name__}: {error}\n  --loglevel DEBUG shows where it came from", err=True)
        return 1


def start_logging(level: str, format: str, *, plain: bool = False) -> None:
    """Log to standard error, which leaves standard output to the topology; `format` is "text" or "json"."""
    logging.basicConfig(stream=sys.stderr, force=True)
    coloured = not plain and has_colours(sys.stderr)
    logging.getLogger().handlers[0].setFormatter(JsonLines() if format == "json" else ColouredLines() if coloured else Lines())
    # Other libraries' DEBUG is for their authors: what it shows nobody here has looked at.
    logging.getLogger().setLevel(max(logging.INFO, logging.getLevelName(level)))
    _log.setLevel(level)


def run_worker(topology: Topology, settings: Settings) -> int:
    """Run the topology; return the exit code."""
    from streamdsl import launch
    from streamdsl.runtime import metrics_server

    config = settings.config
    with launch.Signals(drain=settings.drain) as signals, contextlib.ExitStack() as closing:
        rows = _rows(topology, settings)
        run = signals.run = launch.start(topology, config, on_open=rows.follow if rows else lambda operators: None)
        address = None
        if settings.metrics_port is not None:
            server = metrics_server(
                run,
                host=settings.metrics_host,
                port=settings.metrics_port,
                allowed_hosts=settings.metrics_allow_host,
                tables=settings.metrics_tables,
            )
            closing.callback(server.close)
            address = server.address
        if settings.otlp_endpoint is not None:
            from streamdsl.runtime import send_telemetry

            closing.callback(send_telemetry(run, endpoint=settings.otlp_endpoint).close)
        page = None
        if settings.ui_port is not None:
            ui = run.ui(port=settings.ui_port, host=settings.ui_host, allowed_hosts=settings.ui_allow_host, rows=settings.ui_rows)
            closing.callback(ui.close)
            page = ui.address
        echo(banner(topology, settings, __version__, address, page), err=True)
        if run.already_finished:
            echo(f"the run in {config.state_dir} had finished: nothing to do", err=True)
            return 0
        door = None if config.state_path is None else _door(config.state_path, signals, run)
        ends = all(source.bounded for source in topology.sources().values())
        told = Figures(run.metrics, table=settings.log_format == "text", bounded=ends)
        teller = _Teller(signals, told, Rows(rows) if rows else None, door)
        try:
            signals.follow(_LOOK_S, teller)
        except SystemExit as left:
            echo("left at once; what was committed stays", err=True)
            return int(left.code or 0)
        except BaseException:
            if door is not None:
                door.close({"error": "the worker has failed", "remedy": "its log says why"})
            raise
    teller.end()
    figures = run.metrics()
    where = "" if config.state_dir is None else f"; state in {config.state_dir}"
    last = figures["checkpoints"]["last_id"]
    ended = f"{'finished' if run.finished else 'stopped'} with checkpoint {last}"
    echo(f"{ended}{where}", err=True)
    if door is not None:
        door.close({"said": ended})
    _log.info("%s: %s", topology.name, totals(figures))
    if run.left_behind:
        # A thread hangs in somebody's call. The interpreter would be taken down under it.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


def _rows(topology: Topology, settings: Settings) -> CommittedRows | None:
    """Return what keeps rows to be logged, if they are; those that are printed anyway are not."""
    if not (settings.log_format == "text" if settings.rows is None else settings.rows):
        return None
    return CommittedRows([name for name, sink in topology.sinks().items() if isinstance(sink, Console)])


def _door(state_dir: Path, signals: Any, run: Any) -> Door:
    """Return what other commands speak to this worker by."""
    started = time.monotonic()

    def end(asked: Mapping[str, Any]) -> None:
        if not signals.asked:
            signals.ask(drain=asked["what"] == "drain")

    return Door(
        state_dir,
        {
            "status": lambda asked: status_of(run.metrics(), started),
            "savepoint": lambda asked: {"path": run.savepoint(asked["path"])},
            "stop": end,
            "drain": end,
        },
        slow=("savepoint",),
    )


class _Teller:
    """Answers the first signal, tells rows and figures: in the loop that waits, because a signal's handler may not print."""

    def __init__(self, signals: Any, figures: Figures, rows: Rows | None, door: Door | None) -> None:
        self.signals, self.told, self.figures, self.rows, self.door = signals, False, figures, rows, door

    def __call__(self) -> bool:
        if self.rows is not None:
            self.rows.tell()
        self.figures.tell()
        if self.door is not None:
            self.door.look()
        if self.signals.asked and not self.told:
            self.told = True
            doing = "windows close and everything is committed" if self.signals.drain else "a last checkpoint is taken"
            echo(f"stopping: {doing}; once more leaves at once", err=True)
        return False

    def end(self) -> None:
        """Tell what has come since."""
        if self.rows is not None:
            self.rows.tell(last=True)
        self.figures.tell_now()
