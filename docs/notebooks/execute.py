"""Run the cells of a notebook and write down what they show: ``python docs/notebooks/execute.py NOTEBOOK…``."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def executed(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the outputs of each code cell, in nbformat."""
    namespace: dict[str, Any] = {"__name__": "notebook"}
    return [_outputs("".join(cell["source"]), namespace) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _outputs(source: str, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    parsed = ast.parse(source)
    if parsed.body and isinstance(parsed.body[-1], ast.Expr):  # what a cell ends with is what it shows
        parsed.body[-1] = ast.Assign([ast.Name("_shown", ast.Store())], parsed.body[-1].value)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.fix_missing_locations(parsed), "cell", "exec"), namespace)
    value = namespace.pop("_shown", None)
    found = [{"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())}] if printed.getvalue() else []
    if value is not None:
        shown = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = _lines(value._repr_html_())
        found.append({"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": shown})
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Execute notebooks in place."""
    for name in sys.argv[1:]:
        path = Path(name)
        notebook = json.loads(path.read_text())
        outputs = iter(executed(notebook))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = next(outputs)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
