"""Who may import whom, for `import` and `cimport` alike."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streamdsl"
VALUES = {
    "errors",
    "durations",
    "time_format",
    "records",
    "schema",
    "expr",
    "windows",
    "processor",
    "state",
    "policies",
    "config",
    "secret",
    "functions",
    "scalars",
}

#: layer -> the layers it may import. A layer is a folder of the package or a module at its top.
ALLOWED = {
    "errors": set(),
    "scalars": {"errors"},
    "functions": {"errors"},
    "durations": {"errors"},
    "daemon_threads": set(),
    "time_format": {"errors"},
    "records": set(),
    "schema": {"errors", "records"},
    "windows": {"errors", "durations"},
    "expr": {"errors", "durations", "time_format", "schema", "windows", "logical", "functions", "scalars"},
    "processor": {"errors", "durations", "schema", "state"},
    "state": {"durations"},
    "policies": {"errors", "connectors.base"},
    "secret": set(),
    "version": set(),
    "config": {"errors", "durations", "secret", "scalars", "policies"},
    "logical": VALUES | {"connectors.base"},
    # A topology makes the source of its ticks itself.
    "dsl": VALUES | {"logical", "connectors.base", "connectors.ticks", "compiler", "launch", "flink", "_native"},
    "optimizer": VALUES | {"logical"},
    "physical": VALUES | {"logical", "connectors.base"},
    # Its folder python, which Flink's Python runs, reads rows as the runtime does.
    "flink": VALUES | {"logical", "connectors.base", "_native"},
    "compiler": VALUES | {"dsl", "logical", "optimizer", "physical", "connectors.base"},
    "object_stores": {"errors"},
    "checkpoint": {"errors", "object_stores", "_native"},
    "formats": {"errors", "schema", "_native"},
    "connectors": {
        "errors",
        "daemon_threads",
        "object_stores",
        "durations",
        "records",
        "schema",
        "secret",
        "config",
        "formats",
        "connectors.base",
        "connectors.ticks",
        "connectors.transaction",
        "_native",
    },
    "runtime": VALUES | {"physical", "checkpoint", "formats", "connectors.base", "connectors.transaction", "_native"},
    "ui": VALUES | {"logical", "physical", "runtime", "_native"},
    "launch": VALUES | {"ui", "dsl", "compiler", "runtime", "checkpoint", "connectors", "connectors.base", "physical"},
    "testing": VALUES
    | {
        "dsl",
        "logical",
        "compiler",
        "runtime",
        "checkpoint",
        "formats",
        "connectors.base",
        "connectors",
        "physical",
        "launch",
        "_native",
        "connectors.ticks",
    },
    "cli": VALUES | {"version", "dsl", "logical", "compiler", "flink", "launch", "runtime", "checkpoint", "connectors"},
    "__main__": {"cli"},
    "_native": {"errors", "daemon_threads", "durations", "time_format"},
}

#: Inside _native, by folder.
NATIVE = {
    "includes": set(),
    "flow": {"includes"},
    "expr": {"includes", "flow", "serdes"},
    "serdes": {"includes", "flow"},
    "event_time": {"includes", "flow", "state"},
    "snapshot": {"includes", "flow"},
    "state": {"includes", "flow", "serdes"},
    "rows": {"includes", "flow", "serdes", "state"},
    "aggregates": {"includes", "flow", "expr", "serdes", "state", "rows"},
    "windows": {"includes", "flow", "state", "aggregates"},
    "operators": {"includes", "flow", "expr", "serdes", "event_time", "snapshot", "state", "windows", "rows", "aggregates"},
    "task": {"includes", "flow", "expr", "serdes", "event_time", "snapshot", "state", "windows", "rows", "aggregates", "operators"},
}

#: What every connector may import beside its own folder.
CONTRACTS = {"base", "transaction"}

IMPORT = re.compile(r"^\s*(?:from\s+streamdsl([\w.]*)\s+c?import|c?import\s+streamdsl([\w.]*))", re.M)


def imports(path: Path) -> set[str]:
    """Return what a file imports of the package, without the leading "streamdsl."."""
    text = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)
    found = {(a or b).lstrip(".") for a, b in IMPORT.findall(text)}
    return {name for name in found if name}


def layer_of(name: str) -> str:
    for one in ("connectors.base", "connectors.ticks", "connectors.transaction"):
        if name.startswith(one):
            return one
    return name.partition(".")[0]


def python_files():
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def wrong_imports(path: Path) -> set[str]:
    """Return what a module of the package imports and may not."""
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "_native":
        return {name for name in imports(path) if layer_of(name) not in ALLOWED["_native"] | {"_native"}}
    assert own in ALLOWED, f"a new layer {own!r}: say here what it may import"
    wrong = {name for name in imports(path) if layer_of(name) not in ALLOWED[own] | {own}}
    if own == "connectors" and path.name != "base.py":
        wrong |= {n for n in imports(path) if n.startswith("connectors.") and n.split(".")[1] not in CONTRACTS | {path.parent.name}}
    return wrong


def wrong_native_imports(path: Path) -> set[str]:
    """Return what a native module imports and may not."""
    parts = path.relative_to(PACKAGE / "_native").parts
    if len(parts) == 1:
        return set()
    allowed = NATIVE[parts[0]] | {parts[0]}
    return {n for n in imports(path) if n not in ALLOWED["_native"] and (not n.startswith("_native.") or n.split(".")[1] not in allowed)}


def test_a_layer_imports_only_what_it_may():
    found = {p.relative_to(ROOT).as_posix(): sorted(wrong_imports(p)) for p in python_files() if wrong_imports(p)}
    assert not found


def test_the_translation_to_flink_needs_no_runtime():
    for path in (PACKAGE / "flink").rglob("*.py"):
        native = any(name.startswith("_native") for name in imports(path))
        assert not native or path.parent.name == "python", path


def test_native_folders_keep_their_order():
    files = sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])
    found = {p.relative_to(ROOT).as_posix(): sorted(wrong_native_imports(p)) for p in files if wrong_native_imports(p)}
    assert not found


def test_the_library_never_imports_its_testing_kit():
    for path in python_files():
        if path.relative_to(PACKAGE).parts[0] not in ("testing", "cli"):
            assert not any(name.startswith("testing") for name in imports(path)), path


def test_only_deploy_names_operator_classes():
    for path in (PACKAGE / "runtime").glob("*.py"):
        named = {name for name in imports(path) if name.startswith("_native.operators") and not name.endswith(".declaration")}
        assert path.name in ("deploy.py", "operators.py") or not named, f"{path.name} names {named}"
