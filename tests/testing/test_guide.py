"""The code of docs/guide/testing.md runs, and its worked examples are those of `test_guide_examples.py`."""

import ast
import inspect
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def run(blocks):
    """Run code blocks one after another and return what they define."""
    namespace = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec", dont_inherit=True), namespace)
    return namespace


def calls(function):
    """Return the arguments with which pytest would call a test."""
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    return [{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]


def test_the_worked_examples_are_the_tested_ones():
    examples = Path(__file__).with_name("test_guide_examples.py").read_text()
    docstring, _, code = examples.partition('"""\n\n')
    assert docstring.startswith('"""')
    imports, *worked = BLOCKS[2:]
    assert len(worked) == 3
    assert code == "\n\n".join([imports, *worked])  # a block ends with a line end


def test_the_values_of_an_expression_are_as_shown():
    run(BLOCKS[1:2])


@pytest.mark.parametrize("number", [0, 3, 4, 5])
def test_the_code_runs(number):
    blocks = BLOCKS[:1] if number == 0 else [BLOCKS[2], BLOCKS[number]]
    defined = run(blocks)
    tests = [one for name, one in defined.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        for arguments in calls(test):
            test(**arguments)


def test_all_python_of_the_page_is_in_a_block_that_runs():
    assert len(BLOCKS) == 6
    for block in BLOCKS:
        ast.parse(block)


def test_the_page_knows_the_signature():
    from streamdsl.testing import assert_invariant

    shown = re.search(r"^assert_invariant\((.*)\)$", PAGE.read_text(), re.M)
    names = [part.partition("=")[0] for part in shown.group(1).split(", ")]
    assert names == list(inspect.signature(assert_invariant).parameters)
