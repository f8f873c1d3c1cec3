from collections.abc import Sequence

from streamdsl._native.expr.program import Program
from streamdsl._native.operators.base import Operator

class ProjectOperator(Operator):
    def __init__(self, name: str, columns: Sequence[int], program: Program | None) -> None: ...
