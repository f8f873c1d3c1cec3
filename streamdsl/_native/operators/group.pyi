from typing import Any

from streamdsl._native.operators.aggregate import AggregateOperator

class GroupOperator(AggregateOperator):
    def __init__(self, spec: Any, lookup: Any, arguments: Any) -> None: ...
