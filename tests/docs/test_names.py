"""What the guide calls by name is there: methods, settings, arguments, options of the command line."""

import inspect
import re
from pathlib import Path

import click
import pytest

import streamdsl
from docs import api
from streamdsl.cli.app import app
from streamdsl.testing import TopologyTestDriver

ROOT = Path(__file__).resolve().parents[2]
#: What comes from elsewhere stands in the pages for those who come from there.
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if not page.name.startswith("from-"))
#: What a variable of a page is.
ARE = {
    "topology": (streamdsl.Topology,),
    "stream": (streamdsl.Stream, streamdsl.KeyedStream, streamdsl.WindowedStream),
    "table": (streamdsl.Table,),
    "driver": (TopologyTestDriver,),
    "ctx": (api.found("streamdsl.processor:Context"),),
}
CALLED = {"Config", "kafka", "files", "memory", "postgres", "redis", "http", "delta", "tumbling", "hopping", "rolling", "expanding"}


def spans(page):
    """Return the code within the sentences of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.S))


def options(command):
    """Return all options of a command and those below it."""
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= options(command.get_command(context, name))
    return found


def strange(span):
    """Yield what a span names that is not there."""
    for variable, name in re.findall(r"(?<![\w./])(topology|stream|table|driver|ctx)\.(?!py\b)([a-z_]+)", span):
        if not any(hasattr(kind, name) for kind in ARE[variable]):
            yield f"{variable}.{name}"
    for called, arguments in re.findall(r"\b(\w+)\(([^()]*)\)", span):
        if called in CALLED:
            known = inspect.signature(getattr(streamdsl, called)).parameters
            yield from (f"{called}({name}=)" for name in re.findall(r"(?:^|[ ,])([a-z_]+)=", arguments) if name not in known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_names_of_the_page_are_there(page):
    assert {name for span in spans(page) for name in strange(span)} == set()


def test_options_of_the_command_line_are_there():
    page = ROOT / "docs" / "guide" / "command-line.md"
    named = {name for span in spans(page) for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert named - options(app) - {"--help"} == set()
