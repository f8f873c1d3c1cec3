"""Habits of the house that a machine can hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for folder in ("streamdsl", "examples") for p in (ROOT / folder).rglob("*.py"))
NATIVE = sorted((ROOT / "streamdsl" / "_native").rglob("*.pyx"))


@pytest.mark.parametrize("path", SOURCES + NATIVE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 600, "split the file: one thing each"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_functions_stay_readable(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 80, f"{path.name}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES + NATIVE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_pickle_no_eval(path):
    text = path.read_text()
    assert not re.search(r"\bimport (pickle|marshal|shelve)\b|\bcloudpickle\b", text)
    assert not re.search(r"(?<![\w.])(eval|exec)\(", text)


@pytest.mark.parametrize("path", NATIVE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_native_modules_are_modules(path):
    assert not re.search(r"^\s*include\s+['\"]", path.read_text(), re.M), "cimport instead of include"
