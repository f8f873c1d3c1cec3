from streamdsl._native.event_time.read_order import ReadOrder
from streamdsl._native.flow.input_gate import InputGate

class OrderedGate(InputGate):
    def follow(self, order: ReadOrder, producers: list[int], ports: list[int], interleaved: bool) -> None: ...
