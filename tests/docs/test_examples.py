"""Every public name and method has an example, and every example of a docstring runs and shows what it says.

An example takes for granted what the reference says on top of each page (`docs/api.py`), and what its module defines.
"""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import streamdsl
import streamdsl.testing
from docs import api
from streamdsl.testing import strategies

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "streamdsl").rglob("*.py")
    if ">>> " in path.read_text()
)
ENTRIES = api.entries()
OWNERS = {entry.name: entry.thing for entry in ENTRIES if inspect.isclass(entry.thing)}
#: Their methods have examples, and are what they are about.
FAMILIES = set(api.SHOWN)


def granted(module):
    names = {name: value for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    exec(api.IMPORTS, names)
    return names


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = []
    imported = importlib.import_module(module)
    for test in doctest.DocTestFinder().find(imported, module, globs=granted(imported)):
        runner.run(test, out=said.append)
    assert runner.tries > 0, "no example runs"
    assert not runner.failures, "".join(said)


def example(thing):
    return "\n".join(re.findall(r"^ *(?:>>>|\.\.\.) (.*)", inspect.getdoc(api.function_of(thing)) or "", re.M))


def shown(entry, examples):
    """Whether its example is that of its class, or of what it names: "see `Context`". Protocols are shown as a whole."""
    owner = OWNERS.get(entry.owner)
    if owner is not None and (getattr(owner, "_is_protocol", False) or re.search(rf"(?:\.|def ){entry.name}\b", example(owner))):
        return True
    return any(name in examples for name in re.findall(r"see `([\w.]+)`", inspect.getdoc(api.function_of(entry.thing)) or ""))


def test_everything_public_has_an_example():
    """Its own, or that of its class; a method that two classes share needs one."""
    entries = [entry for entry in ENTRIES if entry.name not in FAMILIES]
    examples = {entry.title for entry in entries if example(entry.thing)}
    found = {api.function_of(entry.thing) for entry in entries if entry.title in examples or shown(entry, examples)}
    assert [entry.title for entry in entries if api.function_of(entry.thing) not in found] == []


def test_everything_public_is_in_the_reference():
    public = {*streamdsl.__all__, *streamdsl.testing.__all__, *strategies.__all__} - {"__version__"}
    assert public - {entry.name for entry in ENTRIES if not entry.owner} == set()


def test_every_entry_has_a_place_of_its_own():
    places = [(entry.page, entry.anchor) for entry in ENTRIES if entry.name not in FAMILIES]
    assert len(places) == len(set(places))
