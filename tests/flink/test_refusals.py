"""The guide lists all that is refused, in the words of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "streamdsl" / "flink"
PAGE = ROOT / "docs" / "guide" / "flink-refusals.md"


def refusals() -> Iterator[tuple[Path, str, str]]:
    """Yield where something is refused, what, and the remedy; "…" stands for what is filled in."""
    for path in sorted(CODE.rglob("*.py")):
        module = ast.parse(path.read_text())
        known = constants(module)
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("Refused", "_refused"):
                continue
            texts = [shown(argument, known) for argument in node.args]
            # What only hands on what it was given is no refusal of its own.
            if any(letter.isalpha() for letter in texts[0]):
                yield path, texts[0], texts[1] if len(texts) > 1 else ""


def constants(module: ast.Module) -> dict[str, str]:
    """Return the texts and numbers that a module names."""
    found: dict[str, str] = {}
    for node in module.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and target.id.lstrip("_").isupper():
            found[target.id] = str(value.value)
    return found


def shown(node: ast.expr, known: dict[str, str]) -> str:
    """Return a text with "…" in its gaps."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return known.get(node.id, "…")
    if isinstance(node, ast.FormattedValue):
        return shown(node.value, known)
    if isinstance(node, ast.JoinedStr):
        return "".join(shown(part, known) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return shown(node.left, known) + shown(node.right, known)
    return "…"


def entry(what: str, remedy: str) -> str:
    """Return how the guide lists a refusal, on one line."""
    told = f"- {what}" + (f" → {remedy}" if remedy else "")
    return " ".join(told.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;").split())


def listed() -> list[str]:
    """Return the entries of the guide, each on one line."""
    found: list[str] = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("- "):
            found.append(line)
        elif line.startswith("  ") and found:
            found[-1] += f" {line.strip()}"
    return found


def test_the_guide_lists_all_that_is_refused() -> None:
    wanted = {entry(what, remedy) for _, what, remedy in refusals()}
    found = listed()
    assert len(wanted) > 100
    assert sorted(wanted - set(found)) == [], "not in docs/guide/flink-refusals.md"
    assert sorted(set(found) - wanted) == [], "only in docs/guide/flink-refusals.md"
    assert len(found) == len(set(found))
