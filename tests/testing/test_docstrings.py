"""The examples in the docstrings of the kit run, and everything public has a docstring."""

import doctest
import importlib
import inspect

import pytest

import streamdsl.testing

MODULES = ["driver", "simulation", "promises", "invariants", "strategies"]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name):
    module = importlib.import_module(f"streamdsl.testing.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_everything_public_is_explained():
    strategies = importlib.import_module("streamdsl.testing.strategies")
    public = [getattr(streamdsl.testing, name) for name in streamdsl.testing.__all__]
    public += [getattr(strategies, name) for name in strategies.__all__]
    for one in public:
        assert ">>> " in (inspect.getdoc(one) or ""), one
