"""What must hold at every step, at every checkpoint, at every start and at the end, whatever a seed has drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamdsl._native.operators.key_lookup import KeyLookup
from streamdsl._native.operators.map_async import MapAsyncOperator
from streamdsl._native.task.source_task import SourceTask
from streamdsl.checkpoint.manifest import Manifest
from streamdsl.physical.node import PhysicalSource
from streamdsl.runtime.job import Job
from tests.simulation.disk import Directory, SimulatedDisk
from tests.simulation.endpoints import SimulatedSink, SimulatedSource, SplitLog
from tests.simulation.family import NEVER, Expected, Family, Inputs

#: The end of time: what an input that has ended counts as.
FOREVER = (1 << 63) - 1


class Violation(AssertionError):
    """Something that may never be. `invariant` names it."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


class Watermarks:
    """The watermark of each task: it never falls, and is never ahead of what comes in.

    A source is judged by its rows; any other task by the tasks that send to it. With idle splits only the first rule holds: one that
    wakes behind stays out of the minimum.
    """

    def __init__(self, job: Job, logs: Mapping[str, Mapping[str, SplitLog]], *, idles: bool, external: bool) -> None:
        tasks = job.tasks
        self._tasks = tasks
        self._last = [task.watermark for task in tasks]
        self._from: list[list[Any]] = [[] for _ in tasks]
        self._splits: list[list[tuple[Any, int, list[int]]]] = [[] for _ in tasks]
        if idles:
            return
        of_stage: dict[int, list[int]] = {}
        for i, task in enumerate(tasks):
            of_stage.setdefault(int(task.id.split(".")[0]), []).append(i)
        silent: set[int] = set()
        for stage in job.plan.stages:
            for i in of_stage[stage.id]:
                if isinstance(tasks[i], SourceTask):
                    spec = stage.operators[0]
                    assert isinstance(spec, PhysicalSource)
                    splits = [split for name in spec.source.splits() if (split := _split(tasks[i], name)) is not None]
                    if all(split.ended for split in splits):
                        silent.add(i)
                    elif not external:
                        self._splits[i] = [_limits(split, spec.source, logs[spec.name][split.name]) for split in splits]
                    continue
                sending = [u for edge in stage.edges for u in of_stage[edge.stage] if edge.partition != "forward" or _index(tasks, u, i)]
                self._from[i] = [tasks[u] for u in sending if u not in silent]
                if all(u in silent for u in sending):
                    silent.add(i)

    def after(self, i: int) -> None:
        """Task `i` has made a step."""
        reached = self._tasks[i].watermark
        if reached == self._last[i]:
            return
        if reached < self._last[i]:
            raise Violation("watermark", f"that of task {self._tasks[i].id} fell from {self._last[i]} to {reached}")
        self._last[i] = reached
        for sender in self._from[i]:
            if reached > sender.watermark:
                raise Violation(
                    "watermark", f"task {self._tasks[i].id} is at {reached}, ahead of its input {sender.id} at {sender.watermark}"
                )
        for split, taken, limits in self._splits[i]:
            if not split.ended and reached > limits[taken + split.taken]:
                raise Violation("watermark", f"task {self._tasks[i].id} is at {reached}, and split {split.name} has not come so far")


def _index(tasks: Sequence[Any], a: int, b: int) -> bool:
    return bool(tasks[a].id.split(".")[1] == tasks[b].id.split(".")[1])


def _split(task: Any, name: str) -> Any:
    try:
        return task.split(name)
    except KeyError:
        return None


def _limits(split: Any, source: SimulatedSource, log: SplitLog) -> tuple[Any, int, list[int]]:
    """Return the split, how many rows were taken before this start, and the watermark that so many rows allow."""
    position: Any = source.opened[split.name]
    return split, 0 if position is None else position[2], log.limits


class History:
    """Every checkpoint that was ever said to be complete: ids rise, and one id is one content."""

    def __init__(self) -> None:
        self.complete: dict[int, Manifest] = {}
        self.set_aside: set[int] = set()
        self.newest = 0  # id of the last one, ever
        self.standing = 0  # id of the one that must be there

    def completed(self, manifest: Manifest) -> None:
        """The job was told that the checkpoint is complete."""
        if manifest.checkpoint_id <= self.newest:
            raise Violation("checkpoint ids", f"{manifest.checkpoint_id} completed after {self.newest}")
        self.newest = self.standing = manifest.checkpoint_id
        self.complete[manifest.checkpoint_id] = manifest

    def restored(self, manifest: Manifest | None, *, excused: bool) -> None:
        """A start goes on from this one. `excused`: the disk could not be read, so an older one may have to do."""
        found = 0 if manifest is None else manifest.checkpoint_id
        if found < self.standing and not excused:
            raise Violation("durability", f"checkpoint {self.standing} was complete, and {found or 'nothing'} was restored")
        if found in self.set_aside:
            raise Violation("durability", f"checkpoint {found} was passed over for an older one, and has come back")
        known = self.complete.get(found)
        if manifest is not None and known is not None and _content(known) != _content(manifest):
            raise Violation("checkpoint ids", f"checkpoint {found} was restored with another content than it was completed with")
        # What was passed over is set aside: it may never come back, and what follows has greater ids all the same.
        self.standing = found
        for newer in [i for i in self.complete if i > found]:
            del self.complete[newer]
            self.set_aside.add(newer)


def _content(manifest: Manifest) -> Any:
    return manifest.sources, manifest.operators, manifest.shard_watermarks, manifest.finished


def check_positions(manifest: Manifest | None, ends: Mapping[str, Any]) -> None:
    """Sources go on, and sinks are cut, where the restored checkpoint says."""
    for name, end in ends.items():
        if isinstance(end, SimulatedSource):
            known = {} if manifest is None else manifest.sources.get(name, {})
            for split, position in end.opened.items():
                wanted = known[split]["position"] if split in known else None
                if position != wanted:
                    raise Violation("offsets", f"split {split} of {name} was opened at {position}, the checkpoint says {wanted}")
        else:
            states = {} if manifest is None else manifest.operators.get(name, {})
            length = sum(state["length"] for state in states.values())
            if end.missing:
                raise Violation("durability", f"{end.missing} rows of the sink {name} that a checkpoint covers are gone")
            if end.length != length:
                raise Violation("sink", f"{name} holds {end.length} rows after the restore, the checkpoint covers {length}")


def check_shard_watermarks(manifest: Manifest | None, job: Job) -> None:
    """No shard is judged by an earlier watermark than the one at the checkpoint."""
    if manifest is None:
        return
    for chain in job._chains:
        for lookup in (operator for operator in chain.operators if isinstance(operator, KeyLookup)):
            known = manifest.shard_watermarks.get(lookup.name, {})
            now = lookup.shard_state(chain.owned_shards)
            if lookup.arrived() < manifest.arrivals:
                raise Violation(
                    "arrivals", f"{lookup.name} numbers records from {lookup.arrived()}, the checkpoint knows {manifest.arrivals}"
                )
            for shard in chain.owned_shards:
                if (before := known.get(str(shard))) is not None and now.get(str(shard), NEVER) < before:
                    raise Violation("watermark", f"shard {shard} of {lookup.name} was at {before} at the checkpoint, and is behind it now")


def check_rising_shards(before: Manifest | None, manifest: Manifest) -> None:
    """From one checkpoint to the next the watermark of no shard falls."""
    for name, shards in () if before is None else before.shard_watermarks.items():
        now = manifest.shard_watermarks.get(name, {})
        for shard, watermark in shards.items():
            if now.get(shard, NEVER) < watermark:
                raise Violation("watermark", f"shard {shard} of {name} fell from {watermark} to {now.get(shard)} between two checkpoints")


def check_snapshot_watermarks(manifest: Manifest, tasks: Sequence[Any], reached: Mapping[str, int]) -> None:
    """The checkpoint knows, for each shard, at least the watermark that its task had at the barrier.

    A second lookup of the same task may be behind: windows with grace hold time back. So may one behind calls that are under way.
    """
    for task in tasks:
        wanted = reached[task.id]
        if any(isinstance(operator, MapAsyncOperator) for operator in task.operators_of_chain()):
            continue
        lookups = [operator for operator in task.operators_of_chain() if isinstance(operator, KeyLookup)]
        for lookup in lookups[:1] if wanted > NEVER else ():
            known = manifest.shard_watermarks.get(lookup.name, {})
            for shard in task.owned_shards:
                if known.get(str(shard), NEVER) < wanted:
                    raise Violation(
                        "watermark", f"task {task.id} was at {wanted} at barrier {manifest.checkpoint_id}, its shard {shard} is not there"
                    )


def check_split_watermarks(manifest: Manifest, logs: Mapping[str, Mapping[str, SplitLog]]) -> None:
    """The checkpoint knows how far time had come in each split: what its rows say."""
    for name, splits in manifest.sources.items():
        for split, state in splits.items():
            position = state["position"]
            wanted = logs[name][split].limits[0 if position is None else position[2]]
            found = NEVER if state["watermark"] is None else state["watermark"]
            if found != wanted:
                raise Violation("watermark", f"split {split} of {name} is at {found} in checkpoint {manifest.checkpoint_id}, not {wanted}")


def check_given_up(disk: SimulatedDisk, manifest: Path) -> None:
    """A checkpoint that has failed has no manifest with which it could come back; that it could be removed is not certain."""
    if disk.exists(manifest) and sum(call > disk.calls - 12 for call in disk.failures) < 2:
        raise Violation("checkpoint ids", f"a checkpoint has failed and {manifest} is still there")


def check_conservation(job: Job) -> None:
    """Every record that left one task arrived at another: nothing is on its way any more.

    What the wall clock or a call makes behind the last barrier of a stop may come to nobody: the checkpoint holds it as still to be made.
    """
    unasked: set[int] = set() if job.finished else _behind_wakeups(job)
    sent: Counter[int] = Counter()
    processed: Counter[int] = Counter()
    tasks = Counter(int(task.id.split(".")[0]) for task in job.tasks)
    edges = {(stage.id, k): edge for stage in job.plan.stages for k, edge in enumerate(stage.edges)}
    for task, chain in zip(job.tasks, job._chains, strict=True):
        stage = int(task.id.split(".")[0])
        if isinstance(task, SourceTask):
            figures = task.metrics()
            taken = sum(figures["splits"].values())
            if taken != task.processed + task.rejected:
                raise Violation("conservation", f"task {task.id} took {taken} rows, processed {task.processed}, rejected {task.rejected}")
        else:
            processed[stage] += task.processed
        for output in chain.outputs:
            figures = output.metrics()
            target, edge = map(int, output.name.split(">")[1].split("."))
            if figures["waiting"] and target not in unasked:
                raise Violation("conservation", f"{figures['waiting']} batches still wait in the output {output.name}")
            # A broadcast batch is sent once and processed by every task.
            sent[target] += figures["sent"] * (tasks[target] if edges[target, edge].partition == "broadcast" else 1)
    if any(processed[stage] > sent[stage] if stage in unasked else processed[stage] != sent[stage] for stage in {*sent, *processed}):
        raise Violation("conservation", f"rows sent to each stage: {dict(sent)}; processed there: {dict(processed)}")


def _behind_wakeups(job: Job) -> set[int]:
    """Return the stages that hear from an operator with timers of the wall clock."""
    behind: set[int] = set()
    alarmed = {task.id.split(".")[0] for task in job.tasks if any(o.declare().wakeups for o in task.operators_of_chain())}
    for stage in job.plan.stages:  # a stage stands behind those that it hears from
        if any(str(edge.stage) in alarmed or edge.stage in behind for edge in stage.edges):
            behind.add(stage.id)
    return behind


def check_figures(job: Job, expected: Mapping[str, int]) -> None:
    """The operators counted what the oracle counts."""
    totals: Counter[str] = Counter()
    for task in job.tasks:
        for figures in task.metrics()["operators"].values():
            for name, value in figures.items():
                if name in expected:
                    totals[name] += value
    for name, value in expected.items():
        if totals[name] != value:
            raise Violation("conservation", f"{name}: {totals[name]} were counted, {value} there were")


def check_no_orphans(disk: SimulatedDisk, root: Path, manifests: Mapping[int, Manifest], kept: Sequence[int]) -> None:
    """The disk holds the checkpoints that are kept, whole, and nothing of any older one."""
    checkpoints = disk._find(root)
    assert isinstance(checkpoints, Directory)
    for name, place in checkpoints.entries.items():
        number = int(name)
        if number > kept[-1]:
            continue
        if number not in kept:
            raise Violation("orphans", f"checkpoint {number} is still on the disk, kept are {list(kept)}")
        manifest = manifests.get(number)
        if manifest is None:
            continue
        assert isinstance(place, Directory)
        named = {store.name: {file.name for file in store.files} for store in manifest.stores}
        found = {store: set(files.entries) for store, files in place.entries.items() if isinstance(files, Directory)}
        files = {entry for entry, node in place.entries.items() if not isinstance(node, Directory)}
        if found != named or files != {"manifest.json"}:
            raise Violation("orphans", f"checkpoint {number} holds {found} and {sorted(files)}, its manifest names {named}")


def check_histories(disk: SimulatedDisk, live: Path) -> None:
    """A store keeps one base and one journal: what they took the place of is gone."""
    for store, place in disk._directory(live).entries.items():
        if store.endswith(".history"):
            assert isinstance(place, Directory)
            kinds = Counter(name.split("-")[0] for name in place.entries)
            if any(number > 1 for number in kinds.values()):
                raise Violation("orphans", f"{live / store} holds {sorted(place.entries)}")


# What came out ---------------------------------------------------------------------------------------------------------


def check_results(family: Family, inputs: Inputs, sinks: Mapping[str, SimulatedSink]) -> None:
    """Every sink keeps its promise, and every row is accounted for."""
    expected = family.oracle(inputs)
    if family.accounts is not None:
        wrong = family.accounts(inputs, {name: sink.rows() for name, sink in sinks.items()})
        if wrong is not None:
            raise Violation("conservation", wrong)
    for name, wanted in expected.items():
        found = sinks[name].rows()
        if wanted.only is not None:
            at = [sinks[name].columns.index(column) for column in wanted.only] if found else []
            found = [(None, tuple(row[i] for i in at)) for _, row in found]  # type: ignore[misc]
        if wanted.kind == "P1":
            _same_rows(name, wanted.rows, found)
        elif wanted.kind == "P2":
            _same_order(name, wanted, found)
        elif wanted.kind == "changes":
            _same_after_changes(name, wanted, found, sinks[name].columns)
        else:
            _same_last(name, wanted, found)
        for _, row in found if wanted.among is not None else ():
            if row not in wanted.among:  # type: ignore[operator]
                raise Violation("results", f"{name}: {row} says what never was")


def _same_rows(name: str, expected: Sequence[Any], found: Sequence[Any]) -> None:
    there = Counter(found)
    wanted = Counter(expected)
    if there != wanted:
        missing, extra = list((wanted - there).elements()), list((there - wanted).elements())
        raise Violation("results", f"{name}: missing {missing[:4]} ({len(missing)}), too many {extra[:4]} ({len(extra)})")


def _by(rows: Sequence[Any], key: Sequence[int]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for time, row in rows:
        groups.setdefault(tuple(row[i] for i in key), []).append((time, row))
    return groups


def _same_order(name: str, expected: Expected, found: Sequence[Any]) -> None:
    wanted, there = _by(expected.rows, expected.key), _by(found, expected.key)
    for key in dict.fromkeys([*wanted, *there]):
        a, b = wanted.get(key, []), there.get(key, [])
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            raise Violation(
                "results", f"{name}: {key}: {len(a)} rows expected, {len(b)} found; from row {at}: {a[at : at + 3]}, found {b[at : at + 3]}"
            )


def _same_after_changes(name: str, expected: Expected, found: Sequence[Any], columns: Sequence[str]) -> None:
    """Each change fits what is there, and what is there at last is what should be."""
    there: dict[Any, Any] = {}
    at = columns.index("op") if found else 0
    for _, (*row,) in found:
        op, key = row.pop(at), tuple(row[i] for i in expected.key)
        held = there.get(key)
        if (held is None) != (op == "add"):
            raise Violation("results", f"{name}: {op} of {row}, and there is {held}")
        if op != "withdraw":
            there[key] = tuple(row)
        elif there.pop(key) != tuple(row) and not expected.by_key:
            raise Violation("results", f"{name}: {row} is withdrawn, and {held} is there")
    wanted = {tuple(row[i] for i in expected.key): row for _, row in expected.rows}
    for key in dict.fromkeys([*wanted, *there]):
        if wanted.get(key) != there.get(key):
            raise Violation("results", f"{name}: {key} is {there.get(key)} at last, expected {wanted.get(key)}")


def _same_last(name: str, expected: Expected, found: Sequence[Any]) -> None:
    wanted = {tuple(row[i] for i in expected.key): row for _, row in expected.rows}
    last: dict[Any, Any] = {}
    for _, row in found:
        key = tuple(row[i] for i in expected.key)
        grows = expected.grows
        if grows is not None and key in last and row[grows] < last[key][grows]:
            raise Violation("results", f"{name}: the update {row} of {key} is older than {last[key]}, which came before it")
        last[key] = row
    for key in dict.fromkeys([*wanted, *last]):
        if wanted.get(key) != last.get(key):
            raise Violation("results", f"{name}: {key} is {last.get(key)} at last, expected {wanted.get(key)}")
