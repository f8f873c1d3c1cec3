from streamdsl._native.flow.channel import Channel
from streamdsl._native.operators.base import Operator

class Output(Operator):
    targets: int
    sent: int
    placed: bool
    def __init__(self, name: str, channels: list[Channel], hashed: bool, shards: int, placed: bool) -> None: ...
    def to_all(self) -> None: ...
