"""What CONTRIBUTING.md says of the stations of an aggregate and of a function is true, and no aggregate leaves one out."""

import re
from pathlib import Path

from streamdsl._native.aggregates.choices import CHOICES
from streamdsl._native.aggregates.collectors import COLLECTORS
from streamdsl._native.aggregates.number_collectors import NUMBER_COLLECTORS
from streamdsl._native.aggregates.sums import SUMS

from streamdsl.expr.aggregates import AggregateFunctions
from tests.aggregates.test_merge import SPECS
from tests.aggregates.test_withdrawn import TAKEN_BACK

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
KINDS = {*SUMS, *CHOICES, *COLLECTORS, *NUMBER_COLLECTORS}
#: Made by a function or a class of their own.
ELSEWHERE = {"count"}


def test_the_files_of_the_stations_are_there() -> None:
    named = re.findall(r"`((?:streamdsl|tests|docs|_native)/[\w/.*-]+)`", GUIDE)
    assert len(named) > 10
    missing = [path for path in named if not [*ROOT.glob(path), *(ROOT / "streamdsl").glob(path)]]
    assert missing == []


def test_every_aggregate_has_its_method_and_its_line() -> None:
    page = (ROOT / "docs" / "reference" / "expressions.md").read_text()
    assert {kind for kind in KINDS - ELSEWHERE if not hasattr(AggregateFunctions, kind)} == set()
    assert {kind for kind in KINDS if f"`{kind}(" not in page} == set()


def test_every_aggregate_is_merged_in_a_test() -> None:
    sketches = {spec.kind for spec in SPECS if dict(spec.params).get("approximate")}
    assert {spec.kind for spec in SPECS} == {*KINDS, "custom"}
    assert sketches == {"n_unique", "quantile"}


def test_every_aggregate_gives_values_back_in_a_test() -> None:
    assert {spec.kind for spec in TAKEN_BACK if spec.retracts} == {*KINDS, "custom"}
