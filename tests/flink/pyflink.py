"""A Python with PyFlink, which needs an older pyarrow than the tests do: an environment of its own in the cache of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kafka.distribution import alone, cache

if TYPE_CHECKING:
    from tests.flink.cluster import Cluster

__all__ = ["NoPyFlink", "jar_of", "pyflink", "run_program"]

#: What Flink's own scripts open to reflection under Java 17.
OPENS: Final = ("lang", "net", "io", "nio", "util", "util.concurrent", "util.concurrent.atomic", "util.concurrent.locks", "text", "time")

VERSION: Final = "2.2.0"
#: What streamdsl imports beside pyarrow, which comes with PyFlink.
NEEDED: Final = ("rocksdict", "click", "prometheus-client", "confluent-kafka[protobuf,schemaregistry]")
ROOT: Final = Path(__file__).resolve().parents[2]


class NoPyFlink(RuntimeError):
    """PyFlink could not be installed; the text says why."""


def pyflink() -> Path:
    """Return a Python with PyFlink and this library, installed if it is not there yet (800 MB)."""
    folder = f"pyflink-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    home = cache() / folder
    python = home / "venv" / "bin" / "python"
    with alone(home):
        done, wanted = home / "installed", "\n".join(NEEDED)
        # An environment that another tree has made may lack what this one needs.
        if not done.exists() or done.read_text() != wanted:
            _run(sys.executable, "-m", "venv", str(home / "venv"))
            # Some of what it brings is built from source, with a setuptools that still has pkg_resources.
            _run(str(python), "-m", "pip", "install", "-q", "setuptools<75", "wheel")
            _run(str(python), "-m", "pip", "install", "-q", f"apache-flink=={VERSION}", *NEEDED)
            done.write_text(wanted)
        # The library of this tree, as it is.
        (_packages(python) / "streamdsl-tests.pth").write_text(f"{ROOT}\n")
    return python


def jar_of(python: Path) -> Path:
    """Return what Java needs for functions in Python."""
    return _packages(python) / "pyflink" / "opt" / f"flink-python-{VERSION}.jar"


def run_program(program: Path, flink: Cluster, directory: Path) -> None:
    """Run a program on a cluster, row by row, and wait for its end."""
    conf = directory / "conf"
    conf.mkdir()
    exact = {"python.fn-execution.bundle.size": "1", "pipeline.auto-watermark-interval": "0 ms"}
    options = {**flink.options, **exact, "execution.target": "remote", "python.files": str(program.parent)}
    (conf / "config.yaml").write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in options.items()))
    opens = " ".join(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENS)
    places = {"FLINK_CONF_DIR": str(conf), "PYTHONPATH": str(program.parent), "JAVA_TOOL_OPTIONS": opens}
    done = subprocess.run(
        [flink.options["python.executable"], str(program)], capture_output=True, text=True, check=False, env={**os.environ, **places}
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _packages(python: Path) -> Path:
    (found,) = (python.parents[1] / "lib").glob("python3*/site-packages")
    return found


def _run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise NoPyFlink(f"{' '.join(command)} failed\n{(done.stdout + done.stderr).strip()[-2000:]}")
