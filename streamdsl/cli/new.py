"""``streamdsl new``: a project to begin with: a topology, its data, a test, and what a broker needs."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

import click

from streamdsl.cli.printing import echo
from streamdsl.cli.project import FILES
from streamdsl.errors import ConfigError

__all__ = ["command", "module_name"]


@click.command("new")
@click.argument("name")
def command(name: str) -> int:
    """Make the directory NAME with a topology that runs at once, a test, and a compose file for a broker."""
    place = Path(name)
    if place.exists():
        raise ConfigError(f"{name} exists", remedy="take another name, or remove it")
    module = module_name(name)
    try:
        place.mkdir()
    except OSError as error:
        raise ConfigError(f"{name} cannot be made: {error.strerror or error}", remedy="go to a directory that you can write") from error
    for path, text in FILES.items():
        target = place / path.replace("NAME", module)
        target.parent.mkdir(exist_ok=True)
        target.write_text(text.replace("TITLE", place.name).replace("NAME", module))
    echo(f"made {name}. Go on with:\n\n  cd {name}\n  streamdsl -A {module} run\n  python -m pytest\n")
    return 0


def module_name(name: str) -> str:
    """Return the module that a project's name makes.

    >>> module_name("my-shop")
    'my_shop'
    """
    module = Path(name).name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module) or keyword.iskeyword(module):
        raise ConfigError(f"{name!r} is no name for a project", remedy="begin with a small letter; then small letters, digits, - and _")
    if importlib.util.find_spec(module) is not None:
        raise ConfigError(f"there is a module {module!r} already, which the project would hide", remedy="take another name")
    return module
