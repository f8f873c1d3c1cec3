"""What users test their topologies with: the real tasks, a clock that the test moves, no broker and no files."""

from streamdsl.testing.driver import TopologyTestDriver

__all__ = ["TopologyTestDriver"]
