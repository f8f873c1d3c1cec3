"""See assign.pxd."""


def windows_at(int64_t time, int64_t size_ms, int64_t every_ms, int64_t offset_ms=0):
    """Return the windows [start, end) that hold `time`, in ascending start."""
    if size_ms <= 0 or every_ms <= 0:
        raise ValueError("a window has a positive size, and begins every so often")
    cdef int64_t k, before, since = since_start(time, every_ms, offset_ms)
    windows = []
    for k in range(windows_of(time, size_ms, every_ms, offset_ms) - 1, -1, -1):
        before = since + k * every_ms
        windows.append((saturating_subtract(time, before), saturating_add(time, size_ms - before)))
    return windows


def is_open(int64_t end, int64_t grace_ms, int64_t watermark):
    """Whether a window that ends at `end` still takes records."""
    return window_is_open(end, grace_ms, watermark)
