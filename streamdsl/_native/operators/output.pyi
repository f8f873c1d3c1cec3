from streamdsl._native.flow.channel import Channel
from streamdsl._native.operators.base import Operator

class Output(Operator):
    targets: int
    sent: int
    def __init__(self, name: str, channels: list[Channel], hashed: bool, shards: int) -> None: ...
    def to_all(self) -> None: ...
