"""The native modules are built so that damaged memory ends the process instead of serving somebody."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

import streamdsl

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flags of the linker on Linux")

MODULES = sorted(pathlib.Path(streamdsl.__file__).parent.rglob("*.so"))


def read(module: pathlib.Path, *what: str) -> str:
    return subprocess.run(["readelf", "-W", *what, module], check=True, capture_output=True, text=True).stdout


def test_there_are_modules():
    assert len(MODULES) > 50


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name.partition(".")[0])
def test_a_module_is_hardened(module):
    dynamic, segments = read(module, "-d"), read(module, "-l")
    assert "BIND_NOW" in dynamic or "NOW" in dynamic.partition("FLAGS_1")[2].partition("\n")[0], "symbols are bound late"
    assert "GNU_RELRO" in segments, "the table of functions can be overwritten"
    assert "GNU_STACK" in segments and "RWE" not in segments, "the stack can be executed"


def test_stacks_and_copies_are_checked():
    symbols = "".join(read(module, "--dyn-syms") for module in MODULES)
    assert "__stack_chk_fail" in symbols
    built = pathlib.Path(streamdsl.__file__).parent.parent / "build" / "in-place"
    if not built.exists() or built.read_text() == "release":
        assert "_chk@" in symbols.replace("__stack_chk_fail@", ""), "not built with FORTIFY"
