from typing import Any

CLOCK_NAMES: tuple[str, str]

class Timer:
    time: int
    name: str
    clock: str

class Counter:
    n: int
    def inc(self, n: int = 1) -> None: ...

class Gauge:
    n: float
    def set(self, value: float) -> None: ...

class ProcessMetrics:
    def counter(self, name: str) -> Counter: ...
    def gauge(self, name: str) -> Gauge: ...
    def values(self) -> dict[str, Any]: ...

class Context:
    key: Any
    timestamp: int
    watermark: int | None
    processing_time: int
    keys: list[Any]
    timestamps: list[int]
    state: Any
    metrics: ProcessMetrics

def split_name(stored: str) -> tuple[str, int]: ...
def next_on_grid(at: int, every: int, now: int) -> int: ...
def instance_of(processor: Any) -> Any: ...
def overrides(processor: Any, method: str) -> bool: ...
def close_processor(name: str, processor: Any) -> None: ...
def open_processor(name: str, processor: Any, context: Any) -> None: ...
