from typing import Any

from streamdsl._native.expr.program import Program
from streamdsl._native.operators.refusals import RefusingOperator

class ProjectOperator(RefusingOperator):
    def __init__(self, spec: Any, program: Program | None) -> None: ...
