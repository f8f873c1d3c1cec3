from typing import Any

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.event_time.timers import TimerService
from streamdsl._native.operators.key_lookup import KeyLookup
from streamdsl._native.operators.process_window import WindowProcessOperator as WindowProcessOperator
from streamdsl._native.operators.user_code import UserCodeOperator
from streamdsl._native.state.state_field import StateField

class ProcessOperator(UserCodeOperator):
    timed: bool
    processor: Any
    def __init__(self, spec: Any, lookup: KeyLookup, timers: TimerService, clock: Clock | None = None) -> None: ...
    def field(self) -> StateField: ...
    def set_clock(self, clock: Clock) -> None: ...
    def state(self) -> dict[Any, dict[str, Any]]: ...
    def close(self) -> None: ...
