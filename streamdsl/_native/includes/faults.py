"""Fault points and planted bugs, for the control plane; `checked.pxd` has their native twins, and what they are for.

A fault point is a step of the checkpoint's way at which a process may die. In the checked build it can be armed::

    STREAMDSL_FAULT=FP11:kill:3        at its third hit
    STREAMDSL_FAULT_LOG=/tmp/hits      a line is appended there just before

Actions: ``kill`` the process group; ``later``: the process dies a little later, in the middle of what follows; ``raise``,
``eio``, ``enospc``; ``delay``. In a release build nothing here does anything.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections import Counter

__all__ = ["CHECKED", "arm", "fault", "hits", "planted"]

try:
    from streamdsl._native.includes.build import CHECKED
except ImportError:  # no native code, as in the tests of the checkpoint layer: not the checked build either
    CHECKED = False

#: How often each point has been passed in this process.
hits: Counter[str] = Counter()

_DELAY_S = 0.02
#: What "later" waits at most: less than a flush of RocksDB and the links of its checkpoint take.
_LATER_S = 0.004
_ERRORS = {"eio": errno.EIO, "enospc": errno.ENOSPC}
_lock = threading.Lock()
_armed: tuple[str, str, int] | None = None


def arm(order: str | None) -> None:
    """Arm one point, "FP11:kill:3"; None: none. Counting begins anew."""
    global _armed  # noqa: PLW0603 - one process, one order
    hits.clear()
    if not order:
        _armed = None
        return
    point, action, number = order.split(":")
    if action not in {"kill", "later", "raise", "delay", *_ERRORS}:
        raise ValueError(f"unknown action {action!r} in STREAMDSL_FAULT={order}")
    _armed = point, action, int(number)


def _fault(point: str) -> None:
    with _lock:
        hits[point] += 1
        due = _armed is not None and _armed[0] == point and _armed[2] == hits[point]
    if due and _armed is not None:
        _act(point, _armed[1])


def _act(point: str, action: str) -> None:
    log = os.environ.get("STREAMDSL_FAULT_LOG")
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{point} {action}\n".encode())
        os.close(descriptor)
    if action == "kill":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif action == "later":
        # Nobody handles SIGALRM: the kernel ends the process wherever it is, in RocksDB or with the GIL held.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, _LATER_S))
    elif action == "delay":
        time.sleep(_DELAY_S)
    elif action in _ERRORS:
        raise OSError(_ERRORS[action], os.strerror(_ERRORS[action]), point)
    else:
        raise RuntimeError(f"fault point {point}")


def _planted(name: str) -> bool:
    return os.environ.get("STREAMDSL_PLANT") == name


def _nothing(point: str) -> None:
    pass


def _never(name: str) -> bool:
    return False


#: Pass a fault point.
fault = _fault if CHECKED else _nothing
#: Whether a known bug has been switched on.
planted = _planted if CHECKED else _never

if CHECKED:
    arm(os.environ.get("STREAMDSL_FAULT"))
