from typing import Any

from streamdsl._native.operators.join import JoinOperator

class BroadcastJoinOperator(JoinOperator):
    def __init__(self, spec: Any) -> None: ...
    def keep_state(self, keeps: bool) -> None: ...
