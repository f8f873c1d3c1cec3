"""Starts programs that do not outlive this process, however it ends."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

# Linux kills the child when the *thread* that started it is gone: so one that stays starts them all.
_STARTER = ThreadPoolExecutor(1, "starter")
#: prctl(PR_SET_PDEATHSIG, SIGKILL) and then the program itself, under the same process id.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def start(
    command: Sequence[str],
    stdout: IO[Any] | int,
    stderr: IO[Any] | int | None = subprocess.STDOUT,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the program, in a session of its own: a Ctrl-C is for who started it."""
    if sys.platform == "linux":
        command = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *command]

    def popen() -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
        return subprocess.Popen(command, **streams, cwd=cwd, env=env, start_new_session=True)

    process = _STARTER.submit(popen).result()
    atexit.register(process.kill)
    return process
