from streamdsl._native.flow.channel import Channel

class InputGate:
    size: int
    def __init__(self, channels: list[Channel], seed: int | None = None) -> None: ...
