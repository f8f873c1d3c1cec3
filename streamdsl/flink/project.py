"""A job as a project: its SQL, what Flink needs beside its distribution, and a cluster to try it on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Final

from streamdsl.errors import ConnectorError
from streamdsl.flink.job import FlinkJob
from streamdsl.flink.python.function import MODULE
from streamdsl.flink.python.modules import PROGRAM, copy_modules, functions_module, program

__all__ = ["VERSION", "write_project"]

#: The folder of a project with its Python modules.
FOLDER: Final = "python"
#: The Flink for which the statements are made: the last one with a Kafka connector.
VERSION: Final = "2.2.0"


def write_project(job: FlinkJob, directory: Path, module: ModuleType | None = None, attribute: str = "topology") -> list[Path]:
    """Write the files of a project, and return their paths.

    Parameters
    ----------
    job : FlinkJob
    directory : Path
    module, attribute
        Where the topology is: a job with Python functions needs the module on Flink.

    Raises
    ------
    ConnectorError
        The directory cannot be written.
    """
    made = {
        "job.sql": f"{job}\n",
        "compose.yml": _compose(job),
        "Dockerfile": _dockerfile(job),
        "README.md": _readme(job, "module:topology" if module is None else f"{module.__name__}:{attribute}"),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (directory / name).write_text(text)
        if job.python and module is not None:
            (directory / FOLDER).mkdir(exist_ok=True)
            (directory / FOLDER / f"{MODULE}.py").write_text(functions_module(job, module.__name__, attribute))
            if job.processes:
                (directory / FOLDER / PROGRAM).write_text(program(job, module.__name__, attribute))
                made[f"{FOLDER}/{PROGRAM}"] = ""
            copied = copy_modules(module, directory / FOLDER)
            made |= {f"{FOLDER}/{name}": "" for name in (f"{MODULE}.py", *copied)}
    except OSError as error:
        raise ConnectorError(f"{directory} cannot be written: {error.strerror or error}", remedy="name another directory") from error
    return [directory / name for name in made]


def _dockerfile(job: FlinkJob) -> str:
    jars = "".join(f"ADD --chown=flink:flink --chmod=644 {_address(one)} /opt/flink/lib/\n" for one in job.connectors)
    return f"FROM flink:{VERSION}-java17\n{_PLACES}{jars}{_python_image(job) if job.python else ''}"


#: A volume takes its owner from the image: Flink writes checkpoints as a user of its own.
_PLACES: Final = "RUN mkdir /checkpoints && chown flink:flink /checkpoints\n"


def _python_image(job: FlinkJob) -> str:
    """Return the steps that install Python.

    Beam, which PyFlink brings, asks for an older pyarrow than the library does; what runs on Flink needs no newer one.
    """
    more = f" {_REGISTRY}" if job.registry else ""
    return f"""\
COPY --from=ghcr.io/astral-sh/uv:0.9.28@sha256:59240a65d6b57e6c507429b45f01b8f2c7c0bbeee0fb697c41a39c6a8e3a4cfb /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/uv VIRTUAL_ENV=/opt/venv
RUN cp /opt/flink/opt/flink-python-{VERSION}.jar /opt/flink/lib/ \\
    && uv venv --python 3.11 /opt/venv \\
    && uv pip install apache-flink=={VERSION} click prometheus-client rocksdict{more} \\
    && uv pip install --no-deps streamdsl
COPY {FOLDER} /opt/{FOLDER}
"""


#: What reads and writes Protobuf.
_REGISTRY: Final = "'confluent-kafka[protobuf,schemaregistry]'"
#: What Flink is told of it.
_PYTHON_SETTINGS: Final = f"""
      python.executable: /opt/venv/bin/python
      python.client.executable: /opt/venv/bin/python
      python.files: /opt/{FOLDER}"""


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
      execution.checkpointing.savepoint-dir: file:///checkpoints/savepoints{_PYTHON_SETTINGS if job.python else ""}
  volumes: [checkpoints:/checkpoints]
  extra_hosts: ["host.docker.internal:host-gateway"]

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
    volumes: [checkpoints:/checkpoints, ./job.sql:/opt/flink/job.sql:ro]

volumes:
  checkpoints:
"""


def _readme(job: FlinkJob, target: str) -> str:
    jars = "\n".join(f"- `{one}`" for one in job.connectors) or "- nothing: its own formats do"
    differences = "\n".join(f"- {one}" for one in job.differences) or "- nowhere"
    return f"""\
# {job.name} on Apache Flink

`job.sql` is the topology as Flink SQL, made by `streamdsl -A {target} flink --output`. It is for Flink {VERSION}.

Start a cluster, with a JobManager, TaskManagers and the SQL gateway:

    docker compose up --build --detach --scale taskmanager=3

{_run_readme(job, target)}\
The job runs inside of containers. A broker on this machine is `host.docker.internal:9092` there, and `localhost` is the
container itself; files have to be in a volume of every container.

{_python_readme(job) if job.python else ""}\
## What Flink needs beside its distribution

{jars}

## Where Flink answers otherwise

{differences}
"""


def _run_readme(job: FlinkJob, target: str) -> str:
    if job.processes:
        return f"""\
Run the job, and look at it on http://localhost:8081:

    docker compose exec jobmanager flink run --python /opt/{FOLDER}/{PROGRAM} --pyFiles /opt/{FOLDER}

The topology has Processors, which SQL does not know: `{FOLDER}/{PROGRAM}` runs the statements of `job.sql` with a keyed
process function for each.

"""
    return f"""\
Run the job, and look at it on http://localhost:8081. The first command belongs where your code is, and shows what becomes
of the job; the second one runs the statements as they stand here:

    streamdsl -A {target} flink --submit http://localhost:8083
    docker compose exec gateway bin/sql-client.sh -f job.sql

"""


def _python_readme(job: FlinkJob) -> str:
    more = f"\n- `{_REGISTRY}` in that Python, for Protobuf, and a registry that each TaskManager reaches;" if job.registry else ""
    return f"""\
## Python

`{FOLDER}/` has the topology's module and `{MODULE}.py`, which makes functions of PyFlink of its functions. A cluster
of your own needs, on the gateway and on each TaskManager:

- `opt/flink-python-{VERSION}.jar` of the distribution in `lib/`;
- a Python with `apache-flink=={VERSION}` and `streamdsl`, named by `python.executable` and `python.client.executable`;{more}
- what the modules import beside it.

`python.files` names the folder where the gateway finds it: in its configuration, or by `--python-files` of `--submit`.

"""
