"""Habits of the house that a machine can hold."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sorted(p for folder in ("streamdsl", "examples", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
PROSE = sorted([*ROOT.glob("*.md"), *(p for folder in ("docs", "examples", "benchmarks", "deploy") for p in (ROOT / folder).rglob("*.md"))])
NATIVE = sorted((ROOT / "streamdsl" / "_native").rglob("*.pyx"))


def wrong(paths, judge):
    """Return what `judge` finds in the files, with their names."""
    return [f"{path.relative_to(ROOT)}: {found}" for path in paths for found in judge(path)]


def test_files_stay_readable():
    assert not wrong(PYTHON + NATIVE, lambda path: [n for n in [len(path.read_text().splitlines())] if n > 600])


def test_functions_stay_readable():
    def long_functions(path):
        for node in ast.walk(ast.parse(path.read_text())):
            # What a docstring says of each parameter is read apart from the code.
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno - docstring_lines(node) >= 70:
                yield node.name

    def docstring_lines(node):
        first = node.body[0]
        return first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0

    assert not wrong(PYTHON, long_functions)


def test_lines_of_prose_fit_a_window():
    def long_lines(path):
        code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code ^= line.lstrip().startswith("```")
            if len(line) > 120 and not code and not line.lstrip().startswith(("|", "![", "<")):
                yield f"line {number} has {len(line)} characters"

    assert not wrong(PROSE, long_lines)


def test_no_pickle_no_eval():
    pickles = re.compile(r"\bimport (?:pickle|marshal|shelve)\b|\bcloudpickle\b")
    assert not wrong(PYTHON + NATIVE, lambda path: pickles.findall(path.read_text()))
    assert not wrong(PYTHON, lambda path: re.findall(r"(?<![\w.])(?:eval|exec)\(", path.read_text()))


def test_native_modules_are_modules():
    assert not wrong(NATIVE, lambda path: re.findall(r"^\s*include\s+['\"].*", path.read_text(), re.M))


def test_folders_of_tests_are_packages():
    # Else two of them cannot have a module of the same name.
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]
