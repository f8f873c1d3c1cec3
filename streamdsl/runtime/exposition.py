"""The figures of a run in Prometheus' text format. Names, numbers and positions: nothing of a record, no setting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["FAMILIES", "exposition", "families"]

#: {name: (type, what it says)}, in the order in which they are shown.
FAMILIES: Final[dict[str, tuple[str, str]]] = {
    "streamdsl_phase": ("gauge", "1 for the phase the run is in: running, stopping, finishing, ended."),
    "streamdsl_healthy": ("gauge", "1 while /health is green."),
    "streamdsl_source_records_total": ("counter", "Records read of a split (a partition, a file)."),
    "streamdsl_source_lag_records": ("gauge", "Records of a split that are there and not read yet."),
    "streamdsl_source_uncommitted_records": ("gauge", "Records of a split that wait for a transaction of their writer to end."),
    "streamdsl_source_rejected_total": (
        "counter",
        "Records that a source has refused, for their form or their time: skipped, or sent to the dead letters.",
    ),
    "streamdsl_sink_records_total": ("counter", "Records handed to a sink."),
    "streamdsl_task_records_total": ("counter", "Records taken by a task."),
    "streamdsl_task_batches_total": ("counter", "Batches taken by a task."),
    "streamdsl_task_busy_seconds_total": ("counter", "Time a task has worked."),
    "streamdsl_task_blocked_total": ("counter", "Steps in which a task waited for room: back-pressure from behind it."),
    "streamdsl_task_starved_total": ("counter", "Steps in which a task found nothing to read."),
    "streamdsl_task_no_room_total": ("counter", "Steps in which a task waited for room in state_memory."),
    "streamdsl_task_idle": ("gauge", "1 while a task has no live input."),
    "streamdsl_watermark_lag_seconds": ("gauge", "By how much a task's watermark is behind the clock on the wall."),
    "streamdsl_operator_emitted_total": ("counter", "Records emitted by user code, or sent to other tasks."),
    "streamdsl_operator_late_total": ("counter", "Records that came too late for an operator."),
    "streamdsl_operator_in_flight": ("gauge", "Rows whose asynchronous calls are under way."),
    "streamdsl_operator_late_refusals_total": ("counter", "Windows that were closed when a record came for them."),
    "streamdsl_operator_filtered_total": ("counter", "Records that a filter has dropped."),
    "streamdsl_operator_null_keys_total": ("counter", "Records without a key, which keyed operators drop."),
    "streamdsl_operator_errors_total": ("counter", "Records that an operator has refused: skipped, or sent to the dead letters."),
    "streamdsl_operator_dead_letters_total": ("counter", "Records that an operator has sent to the dead letters."),
    "streamdsl_operator_timers_fired_total": ("counter", "Timers that have fired."),
    "streamdsl_operator_windows_closed_total": ("counter", "Windows that have closed."),
    "streamdsl_operator_open_windows": ("gauge", "Windows that are open."),
    "streamdsl_operator_keys": ("gauge", "Keys that operators keep state for, in memory or in the database."),
    "streamdsl_operator_waiting": ("gauge", "Elements that wait for room in a channel."),
    "streamdsl_operator_figure": ("gauge", "What operators and users count besides, by its name."),
    "streamdsl_checkpoints_total": ("counter", "Checkpoints by result: completed, failed."),
    "streamdsl_checkpoint_last_id": ("gauge", "Number of the last completed checkpoint."),
    "streamdsl_checkpoint_age_seconds": ("gauge", "Time since the last completed checkpoint, or since the start."),
    "streamdsl_checkpoint_duration_seconds": ("gauge", "How long the last one took."),
    "streamdsl_checkpoint_size_bytes": ("gauge", "Bytes of the last one's files, those it shares with others included."),
    "streamdsl_checkpoint_interval_seconds": ("gauge", "The interval that is set."),
    "streamdsl_latency_seconds": ("histogram", "From a record's reading to its result's handing over."),
    "streamdsl_state_bytes": ("gauge", "Keyed state in memory."),
    "streamdsl_state_keys": ("gauge", "Rows of keyed state (of keys, open windows and timers), in memory or in the database."),
    "streamdsl_state_cold_keys": ("gauge", "Rows of keyed state that are in the database alone."),
    "streamdsl_state_evicted_total": ("counter", "Rows of keyed state that have left memory."),
    "streamdsl_state_reads_total": ("counter", "Rows of keyed state that were looked for in the database; a few are not there."),
    "process_resident_memory_bytes": ("gauge", "Resident memory of the process."),
    "process_cpu_seconds_total": ("counter", "User and system time of the process."),
}

_TASK: Final = {
    "processed": "streamdsl_task_records_total",
    "batches": "streamdsl_task_batches_total",
    "blocked": "streamdsl_task_blocked_total",
    "starved": "streamdsl_task_starved_total",
    "no_room": "streamdsl_task_no_room_total",
}
_OPERATOR: Final = {
    "written": "streamdsl_sink_records_total",
    "emitted": "streamdsl_operator_emitted_total",
    "sent": "streamdsl_operator_emitted_total",
    "late": "streamdsl_operator_late_total",
    "in_flight": "streamdsl_operator_in_flight",
    "late_refusals": "streamdsl_operator_late_refusals_total",
    "filtered": "streamdsl_operator_filtered_total",
    "dropped": "streamdsl_operator_filtered_total",
    "null_keys": "streamdsl_operator_null_keys_total",
    "errors": "streamdsl_operator_errors_total",
    "dead_letters": "streamdsl_operator_dead_letters_total",
    "timers_fired": "streamdsl_operator_timers_fired_total",
    "windows_closed": "streamdsl_operator_windows_closed_total",
    "open_windows": "streamdsl_operator_open_windows",
    "keys": "streamdsl_operator_keys",
    "waiting": "streamdsl_operator_waiting",
}
_STATE: Final = {
    "bytes": "streamdsl_state_bytes",
    "keys": "streamdsl_state_keys",
    "cold_keys": "streamdsl_state_cold_keys",
    "evicted": "streamdsl_state_evicted_total",
    "reads": "streamdsl_state_reads_total",
}
_PHASES: Final = ("running", "stopping", "finishing", "ended")
#: A watermark at its end says that no record follows: nothing lags.
_NO_MORE: Final = (1 << 63) - 1

Labels = dict[str, str]
Sample = tuple[str, Labels, float]


def exposition(metrics: Mapping[str, Any], *, healthy: bool, checkpoint_age_s: float, now_ms: float | None = None) -> str:
    """Return the figures as text; the parameters are those of `families`."""
    registry = CollectorRegistry()
    registry.register(_Found(families(metrics, healthy=healthy, checkpoint_age_s=checkpoint_age_s, now_ms=now_ms)))
    return generate_latest(registry).decode()


def families(metrics: Mapping[str, Any], *, healthy: bool, checkpoint_age_s: float, now_ms: float | None = None) -> list[Metric]:
    """Return the figures that there are, in the order of `FAMILIES`.

    Parameters
    ----------
    metrics : mapping
        `Run.metrics()`.
    healthy : bool
    checkpoint_age_s : float
    now_ms : float, optional
        The time on the wall (default: now).
    """
    now_ms = time.time() * 1000 if now_ms is None else now_ms
    job = {"job": str(metrics["job"])}
    samples = [*_of_tasks(metrics, now_ms), *_of_checkpoints(metrics["checkpoints"], checkpoint_age_s), *_of_the_rest(metrics, healthy)]
    # The client's names of counters end in front of "_total", which it adds.
    found = {name: Metric(name.removesuffix("_total"), text, kind) for name, (kind, text) in FAMILIES.items()}
    for name, labels, value in samples:
        found[name].add_sample(name, {**job, **labels}, value)
    for name, labels, value in _of_latency(metrics["latency"]):
        found["streamdsl_latency_seconds"].add_sample(f"streamdsl_latency_seconds_{name}", {**job, **labels}, value)
    for name, value in _of_process():
        found[name].add_sample(name, {}, value)
    return [family for family in found.values() if family.samples]


class _Found(Collector):
    """What was found, for the client to write down."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Return it."""
        return self._families


def _of_latency(latency: Mapping[str, Any]) -> Iterator[Sample]:
    below = 0
    for bound, rows in latency["buckets"].items():
        below += rows
        yield "bucket", {"le": "+Inf" if bound is None else repr(bound)}, below
    yield "count", {}, below
    yield "sum", {}, latency["sum_s"]


def _of_tasks(metrics: Mapping[str, Any], now_ms: float) -> Iterator[Sample]:
    for task in metrics["tasks"]:
        labels = {"task": str(task["id"]), "name": str(task["name"])}
        for figure, name in _TASK.items():
            yield name, labels, task[figure]
        yield "streamdsl_task_busy_seconds_total", labels, task["busy_ms"] / 1000
        yield "streamdsl_task_idle", labels, task["idle"]
        if task["watermark"] is not None and task["watermark"] != _NO_MORE:
            yield "streamdsl_watermark_lag_seconds", labels, (now_ms - task["watermark"]) / 1000
        if "rejected" in task:
            yield "streamdsl_source_rejected_total", labels, task["rejected"]
        for split, taken in task.get("splits", {}).items():
            yield "streamdsl_source_records_total", {"task": labels["task"], "split": str(split)}, taken
        for split, lag in task.get("lag", {}).items():
            if lag is not None:
                yield "streamdsl_source_lag_records", {"task": labels["task"], "split": str(split)}, lag
        for split, waiting in task.get("uncommitted", {}).items():
            if waiting is not None:
                yield "streamdsl_source_uncommitted_records", {"task": labels["task"], "split": str(split)}, waiting
        for operator, figures in task["operators"].items():
            yield from _of_operator({"task": labels["task"], "operator": str(operator)}, figures)


def _of_operator(labels: Labels, figures: Mapping[str, Any]) -> Iterator[Sample]:
    summed: dict[str, float] = {}
    for figure, value in figures.items():
        if not isinstance(value, int | float):
            continue
        if figure in _OPERATOR:
            # Two figures may be one thing, of different operators' words.
            summed[_OPERATOR[figure]] = summed.get(_OPERATOR[figure], 0) + value
        else:
            yield "streamdsl_operator_figure", {**labels, "figure": str(figure)}, value
    for name, value in summed.items():
        yield name, labels, value


def _of_checkpoints(checkpoints: Mapping[str, Any], age_s: float) -> Iterator[Sample]:
    for result in ("completed", "failed"):
        yield "streamdsl_checkpoints_total", {"result": result}, checkpoints[result]
    yield "streamdsl_checkpoint_age_seconds", {}, age_s
    yield "streamdsl_checkpoint_interval_seconds", {}, checkpoints["interval_ms"] / 1000
    if checkpoints["last_id"] is not None:
        yield "streamdsl_checkpoint_last_id", {}, checkpoints["last_id"]
        yield "streamdsl_checkpoint_duration_seconds", {}, checkpoints["last_duration_ms"] / 1000
    if checkpoints["last_bytes"] is not None:
        yield "streamdsl_checkpoint_size_bytes", {}, checkpoints["last_bytes"]


def _of_the_rest(metrics: Mapping[str, Any], healthy: bool) -> Iterator[Sample]:
    for phase in _PHASES:
        yield "streamdsl_phase", {"phase": phase}, metrics["phase"] == phase
    yield "streamdsl_healthy", {}, healthy
    for figure, name in _STATE.items():
        yield name, {}, metrics["state"][figure]


def _of_process() -> Iterator[tuple[str, float]]:
    times = os.times()
    yield "process_cpu_seconds_total", times.user + times.system
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere only the greatest size so far could be had, which is another thing
        yield "process_resident_memory_bytes", int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
