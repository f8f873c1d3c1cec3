"""``streamdsl demo``: the fraud example, which travels in the package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click

import streamdsl

__all__ = ["command", "example"]

#: Where the folder `examples` is when it was installed (see setup.py).
_INSTALLED = "streamdsl._examples"


@click.command("demo", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Find fraud in 200,001 bank transactions, live; `streamdsl demo --help` lists its options."""
    asked = arguments or ("--rate", "20000")
    code: int = example("fraud.topology").main(list(asked), prog="streamdsl demo")
    return code


def example(name: str) -> ModuleType:
    """Return a module of the examples: the installed ones, or those of the checkout that the library is in."""
    if importlib.util.find_spec(_INSTALLED) is not None:
        return importlib.import_module(f"{_INSTALLED}.{name}")
    checkout = str(Path(streamdsl.__file__).resolve().parents[1])
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    return importlib.import_module(f"examples.{name}")
