"""``streamdsl -A … flink``: a topology as a job of Apache Flink: printed, written as a project, or run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streamdsl.cli.flink_offsets import offsets_of
from streamdsl.cli.printing import echo
from streamdsl.cli.target import located
from streamdsl.errors import ConfigError
from streamdsl.flink.gateway import Gateway, Submitted
from streamdsl.flink.project import write_project

__all__ = ["command"]


@click.command("flink")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Write a project: SQL, compose.yml, README.")
@click.option(
    "--from",
    "state_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Begin where the worker's last checkpoint in this state directory ends.",
)
@click.option("--submit", metavar="URL", help="Run it through a SQL gateway (http://gateway:8083), and wait until it has ended.")
@click.option("--savepoint", metavar="PATH", help="With --submit: begin with a savepoint of Flink.")
@click.option("--python-files", metavar="PATH", help="With --submit: where the gateway finds the project's folder python.")
@click.option("--detach", is_flag=True, help="With --submit: leave once the job runs.")
@click.pass_obj
def command(
    target: str | None,
    output: Path | None,
    state_dir: Path | None,
    submit: str | None,
    savepoint: str | None,
    python_files: str | None,
    detach: bool,
) -> None:
    """Print the topology as Flink SQL, write it as a project, or run it on a Flink."""
    if submit is None and (savepoint is not None or python_files is not None or detach):
        raise ConfigError(
            "--savepoint, --python-files and --detach are of a job that is submitted", remedy="add --submit http://gateway:8083"
        )
    topology, module, attribute = located(target)
    job = topology.to_flink(offsets=None if state_dir is None else offsets_of(topology, state_dir))
    if output is not None:
        for path in write_project(job, output, module, attribute):
            echo(str(path))
    if submit is None:
        if output is None:
            echo(str(job))
        return
    for said in job.differences:
        echo(f"note: {said}", err=True)
    with Gateway(submit) as gateway:
        submitted = gateway.submit(job, savepoint=savepoint, python_files=python_files)
        echo(f"{submitted.name}: job {submitted.id} is submitted")
        _follow(gateway, submitted, detach)


def _follow(gateway: Gateway, job: Submitted, detach: bool) -> None:
    """Wait until the job runs, or has ended; Ctrl-C leaves it running."""
    try:
        state = gateway.wait(job, until=("RUNNING",))
        echo(f"{job.name}: {state}")
        if state == "RUNNING" and not detach:
            echo(f"{job.name}: {gateway.wait(job)}")
    except KeyboardInterrupt:
        echo(f"{job.name}: goes on as job {job.id}", err=True)
        sys.exit(130)
