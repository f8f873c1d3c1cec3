"""The thread that writes keyed state."""

from __future__ import annotations

import threading
import time

from streamdsl.runtime.failures import explained
from streamdsl.runtime.job import Job

#: How long it looks away when there is nothing to write: longer and longer.
LEAST_PAUSE_S, MOST_PAUSE_S = 0.0005, 0.004
#: The same once there has been nothing for a while: a checkpoint wakes it.
DOZE_S, DOZE_AFTER_S = 0.02, 0.1
#: The same while there are tasks that may have to wait for it.
SHORT_PAUSES_S = 0.00005, 0.001


def write_state(job: Job, stop: threading.Event) -> None:
    """Write what there is to write until `stop`; a failure ends the job."""
    try:
        pause, paused = 0.0, 0.0
        while not stop.is_set():
            if job.write_step():
                pause = paused = 0.0
                continue
            least, most = SHORT_PAUSES_S if job.evicts else (LEAST_PAUSE_S, MOST_PAUSE_S)
            pause = min(max(2 * pause, least), most)
            if paused < DOZE_AFTER_S or job.evicts:
                time.sleep(pause)
                paused += pause
            elif job.listener.marked.wait(DOZE_S):
                paused = 0.0
    except BaseException as error:  # noqa: BLE001 - the thread's edge: whatever it was, the run must end with it
        job.listener.on_failure("", explained(error, (), job.plan))
