"""The modules of a project: the topology's own, and the one that has its functions for PyFlink."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

from streamdsl.flink.job import FlinkJob

__all__ = ["PROGRAM", "copy_modules", "functions_module", "program"]

#: The program of a job with processors.
PROGRAM = "job.py"


def functions_module(job: FlinkJob, module: str, attribute: str) -> str:
    """Return the text of the module that Flink imports."""
    names = {one.name: one.step for one in job.functions} | {one.name: one.step for one in job.processes}
    steps = "".join(f"#   {name}: {step}\n" for name, step in names.items())
    return f'''\
"""The Python functions of {job.name}, as PyFlink calls them. Written by `streamdsl -A … flink --output`."""

import {module}
from streamdsl.flink.python.udf import functions_of

{steps}\
globals().update(functions_of({module}.{attribute}.to_flink()))
'''


def program(job: FlinkJob, module: str, attribute: str) -> str:
    """Return the text of the program."""
    return f'''\
"""{job.name}, as a program of PyFlink. Written by `streamdsl -A … flink --output`."""

import {module}
from streamdsl.flink.python.program import run

run({module}.{attribute}.to_flink())
'''


def copy_modules(module: ModuleType, directory: Path) -> list[str]:
    """Copy a module, and what it imports from its own directory; return the names of the files and folders."""
    if module.__file__ is None:
        return []
    name, path = module.__name__, Path(module.__file__)
    if "." not in name and path.name != "__init__.py":
        root = path.parent
        shutil.copyfile(path, directory / f"{name}.py")
        copied = {f"{name}.py"}
    else:
        root = path.parents[name.count(".") + (path.name == "__init__.py")]
        copied = {_copied(root / name.partition(".")[0], directory)}
    for top in sorted({known.partition(".")[0] for known in sys.modules}):
        place = _place(sys.modules.get(top))
        if place is not None and place.parent == root and top not in ("streamdsl", name):
            copied.add(_copied(place, directory))
    return sorted(copied)


def _place(module: ModuleType | None) -> Path | None:
    """Return the file of a module, or the folder of a package."""
    found = getattr(module, "__file__", None)
    if found is None:
        folders = list(getattr(module, "__path__", []))
        return Path(folders[0]) if len(folders) == 1 else None
    path = Path(found)
    return path.parent if path.name == "__init__.py" else path


def _copied(place: Path, directory: Path) -> str:
    if place.is_dir():
        shutil.copytree(place, directory / place.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(place, directory / place.name)
    return place.name
