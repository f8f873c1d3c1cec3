"""An ended job goes with the last that refers to it: all its tasks and operators are not left to the garbage collector."""

import gc
import weakref

import pytest

from tests.trust import jobs


@pytest.mark.parametrize("how", ["finished", "abandoned", "closed"])
def test_an_ended_job_is_not_left_to_the_garbage_collector(how, tmp_path):
    stage = jobs.Stage(tmp_path)
    job = stage.job()
    job.open()
    if how == "finished":
        jobs.finish(job)
    else:
        jobs.step(job, 3)
        assert jobs.checkpoint(job)
        if how == "abandoned":
            job.abandon()
        else:
            job.close()
    left = [weakref.ref(thing) for thing in (job, job.coordinator, job.environment, job.listener)]
    gc.disable()
    try:
        del job
        assert [thing for thing in left if thing() is not None] == []
    finally:
        gc.enable()
