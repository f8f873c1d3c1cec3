from streamdsl._native.task.split import Split

class FeedPoll:
    def __init__(self, source: str, splits: list[Split], idle_timeout_ms: int) -> None: ...
