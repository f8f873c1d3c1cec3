"""What users test their topologies with: the real tasks, a clock that the test moves, no broker and no files."""

from streamdsl.testing.driver import TopologyTestDriver
from streamdsl.testing.evaluate import evaluate
from streamdsl.testing.invariants import assert_invariant
from streamdsl.testing.promises import Promise
from streamdsl.testing.simulation import Simulation, reference

__all__ = ["Promise", "Simulation", "TopologyTestDriver", "assert_invariant", "evaluate", "reference"]
