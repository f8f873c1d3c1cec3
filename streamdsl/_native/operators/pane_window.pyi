from typing import Any

from streamdsl._native.operators.window import WindowOperator

class PaneWindowOperator(WindowOperator):
    def __init__(self, spec: Any, lookup: Any, arguments: Any = None) -> None: ...
