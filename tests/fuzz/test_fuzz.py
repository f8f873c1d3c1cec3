"""A small part of ``make fuzz``: what broke a decoder once, and some hundred inputs drawn from a seed."""

from __future__ import annotations

import pytest

from tests.fuzz.mutator import SEEDS, Mutator
from tests.fuzz.targets import TARGETS

INPUTS = 400


@pytest.fixture(scope="module", params=list(TARGETS))
def target(request):
    return TARGETS[request.param]()


def test_the_seeds(target):
    """The values that a format begins with, and those that once broke its decoder."""
    assert len(target.stored()) >= len(target.seeds())
    for value in target.stored():
        target.check(value)


def test_inputs_drawn_from_a_seed(target):
    mutator = Mutator(target.stored(), 20)
    for _ in range(INPUTS):
        target.check(mutator.next())


def test_every_seed_has_a_decoder():
    assert {place.name for place in SEEDS.iterdir()} == set(TARGETS)
