"""A job as a project: its SQL, what Flink needs beside its distribution, and a cluster to try it on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from streamdsl.errors import ConnectorError
from streamdsl.flink.job import FlinkJob

__all__ = ["VERSION", "write_project"]

#: The Flink for which the statements are made: the last one with a Kafka connector.
VERSION: Final = "2.2.0"


def write_project(job: FlinkJob, directory: Path) -> list[Path]:
    """Write the files of a project, and return their paths.

    Raises
    ------
    ConnectorError
        The directory cannot be written.
    """
    made = {
        "job.sql": f"{job}\n",
        "compose.yml": _compose(job),
        "Dockerfile": _dockerfile(job),
        "README.md": _readme(job),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (directory / name).write_text(text)
    except OSError as error:
        raise ConnectorError(f"{directory} cannot be written: {error.strerror or error}", remedy="name another directory") from error
    return [directory / name for name in made]


def _dockerfile(job: FlinkJob) -> str:
    jars = "".join(f"ADD --chown=flink:flink --chmod=644 {_address(one)} /opt/flink/lib/\n" for one in job.connectors)
    return f"FROM flink:{VERSION}-java17\n{jars}"


def _address(artifact: str) -> str:
    group, name, version = artifact.split(":")
    return f"https://repo1.maven.org/maven2/{group.replace('.', '/')}/{name}/{version}/{name}-{version}.jar"


def _compose(job: FlinkJob) -> str:
    return f"""\
# Flink with what {job.name} needs: docker compose up --build --scale taskmanager=3
x-flink: &flink
  build: .
  environment: &settings
    FLINK_PROPERTIES: |
      jobmanager.rpc.address: jobmanager
      rest.address: jobmanager
      taskmanager.numberOfTaskSlots: 4
      parallelism.default: 3
      state.backend.type: rocksdb
      execution.checkpointing.interval: 10 s
      execution.checkpointing.dir: file:///checkpoints
      execution.checkpointing.savepoint-dir: file:///checkpoints/savepoints
  volumes: [checkpoints:/checkpoints]

services:
  jobmanager:
    <<: *flink
    command: jobmanager
    ports: ["8081:8081"]
  taskmanager:
    <<: *flink
    command: taskmanager
    depends_on: [jobmanager]
  gateway:
    <<: *flink
    command: bin/sql-gateway.sh start-foreground -Dsql-gateway.endpoint.rest.address=0.0.0.0
    ports: ["8083:8083"]
    depends_on: [jobmanager]

volumes:
  checkpoints:
"""


def _readme(job: FlinkJob) -> str:
    jars = "\n".join(f"- `{one}`" for one in job.connectors) or "- nothing: its own formats do"
    differences = "\n".join(f"- {one}" for one in job.differences) or "- nowhere"
    return f"""\
# {job.name} on Apache Flink

`job.sql` is the topology as Flink SQL, made by `streamdsl -A … flink --output`. It is for Flink {VERSION}.

Start a cluster, with a JobManager, TaskManagers and the SQL gateway:

    docker compose up --build --detach --scale taskmanager=3

Run the job, and look at it on http://localhost:8081:

    streamdsl -A module:topology flink --submit http://localhost:8083
    docker compose exec gateway bin/sql-client.sh -f job.sql        # the same, from a copy of job.sql in the container

## What Flink needs beside its distribution

{jars}

## Where Flink answers otherwise

{differences}
"""
