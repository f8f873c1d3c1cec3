"""assert_invariant: no cut into batches, schedule, parallelism, crash or restore shows in what a topology writes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from streamdsl.dsl.topology import Topology
from streamdsl.errors import TopologyError
from streamdsl.logical.aggregate import CHANGE
from streamdsl.schema import nearest
from streamdsl.testing.data import Data, TopologyLike, built, plain
from streamdsl.testing.promises import Judgement, Promise
from streamdsl.testing.simulation import Results, Simulation, judged, reference

__all__ = ["Promises", "assert_invariant"]

Asked = Union[Promise, Literal["auto", "P1", "P2", "P3"], None]
#: One promise for all sinks, or one for some of them by name; None: the sink is not compared.
Promises = Union[Asked, Mapping[str, Asked]]

#: So many differing rows are shown, and of each so many characters.
SHOWN_ROWS, SHOWN_CHARACTERS = 5, 300

Written = tuple[int, dict[str, Any]]
#: A row as it is compared, and as it was written.
Compared = tuple[Hashable, Written]


def assert_invariant(
    topology: TopologyLike,
    data: Data,
    *,
    seeds: int | Iterable[int] = 20,
    promise: Promises = "auto",
    ignore: Collection[str] = (),
) -> None:
    """Assert that a topology writes the same rows whatever is left to chance.

    Runs it once at parallelism 1, with one split and one batch a source and no crash, and once for each seed as a `Simulation`:
    any splits, cuts, schedule, checkpoints, crashes and restores, at parallelism 1 to 4. The rows of each sink are compared by
    the promise that they deserve:

    - P1, the same rows in any order: stateless operators, windows, processors with timers;
    - P2, also the same order within each key: frames, processors, reductions, where the rows carry the key;
    - P3, the last row of each key (and window): tables, and windows with ``emit="update"``.

    Parameters
    ----------
    topology : Topology or callable
        A topology, or a function without arguments that builds it anew for each run. Give a function if something in the topology
        remembers (a closure, an object): else runs see what others have left behind.
    data : mapping
        For each source all its rows, in their order. A source without ``timestamp=`` gives them the times 0, 1, 2, … ms.
    seeds : int or iterable of int
        How many seeds, from 0 on; or which.
    promise : "auto" | "P1" | "P2" | "P3" | Promise, or a mapping of sink names to them
        What to compare by; "auto" reads it off the plan. None in a mapping leaves the sink out.
    ignore : collection of str
        Columns that are not compared: ``"seen_at"`` in all sinks, ``"alerts.seen_at"`` in one.

    Raises
    ------
    AssertionError
        The rows differ, or a run failed. Says the seed, how to run it again, and the first rows that differ.
    TopologyError
        A sink deserves no promise (two sources send rows of one key to an operator that looks at their order, say), or the
        arguments do not fit the topology.

    Examples
    --------
    >>> from streamdsl import Processor, Topology, memory
    >>> class Numbered(Processor):
    ...     output = {"user": str, "n": int}
    ...     def open(self, ctx):
    ...         self.n = ctx.state.value("n", int)
    ...     def process(self, row, ctx):
    ...         self.n.set(self.n.get(0) + 1)
    ...         yield {"user": row.user, "n": self.n.get()}
    >>> topology = Topology("numbered")
    >>> visits = topology.stream(memory("visits", schema={"user": str}))
    >>> visits.key_by("user").process(Numbered, name="numbered").to(memory("out"))
    >>> assert_invariant(topology, {"visits": [{"user": user} for user in "abcabcaabb" * 4]})
    """
    numbers = range(seeds) if isinstance(seeds, int) else tuple(seeds)
    made = built(topology)
    checks = _checks(made, data, promise, ignore)
    expected = reference(made, data)
    for seed in numbers:
        simulation = Simulation(topology, data, seed)
        try:
            found = simulation.run()
        except Exception as error:
            raise AssertionError(_failed(simulation, error)) from error
        _compare(simulation, checks, expected, found)


@dataclass(frozen=True, slots=True)
class _Check:
    """How one sink is compared."""

    sink: str
    promise: Promise
    ignored: frozenset[str]
    hints: tuple[str, ...]

    def row(self, written: Written) -> Compared:
        time, row = written
        return (time, tuple((name, plain(value)) for name, value in row.items() if name not in self.ignored)), written

    def key(self, row: Mapping[str, Any]) -> tuple[Hashable, ...]:
        try:
            return tuple(plain(row[name]) for name in self.promise.by)
        except KeyError as error:
            raise TopologyError(
                f"promise: the rows of {self.sink!r} have no column {error.args[0]!r}", remedy=f"they have: {', '.join(row)}"
            ) from None

    def difference(self, expected: Sequence[Written], found: Sequence[Written]) -> list[str]:
        """Return what differs, in lines for people; nothing if nothing does."""
        if self.promise.kind == "P1":
            return _multisets([self.row(one) for one in expected], [self.row(one) for one in found])
        if self.promise.kind == "P2":
            return self._by_key(self._in_order(expected), self._in_order(found))
        return self._by_key(self._applied(expected), self._applied(found))

    def _in_order(self, rows: Sequence[Written]) -> dict[Hashable, list[Compared]]:
        keys: dict[Hashable, list[Compared]] = {}
        for written in rows:
            keys.setdefault(self.key(written[1]), []).append(self.row(written))
        return keys

    def _applied(self, rows: Sequence[Written]) -> dict[Hashable, list[Compared]]:
        """Return the last row of each key, without its time; what was withdrawn is gone."""
        last: dict[Hashable, list[Compared]] = {}
        for written in rows:
            row = written[1]
            key = self.key(row)
            last.pop(key, None)
            if row.get(CHANGE.name) != "withdraw":
                values = {name: value for name, value in row.items() if name != CHANGE.name}
                last[key] = [(self.row((0, values))[0], written)]
        return last

    def _by_key(self, expected: Mapping[Hashable, Sequence[Compared]], found: Mapping[Hashable, Sequence[Compared]]) -> list[str]:
        keys = dict.fromkeys([*expected, *found])
        differing = [key for key in keys if [c for c, _ in expected.get(key, ())] != [c for c, _ in found.get(key, ())]]
        if not differing:
            return []
        right, wrong = expected.get(differing[0], ()), found.get(differing[0], ())
        at = next((i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a[0] != b[0]), min(len(right), len(wrong)))
        row = (right[at:] or wrong[at:])[0][1][1]
        shown = ", ".join(f"{name}={row[name]!r}" for name in self.promise.by)
        lines = [f"{len(differing)} of {len(keys)} keys differ; the first:" + (f" {shown}" if shown else "")]
        if self.promise.kind == "P2":
            lines[0] += f" ({len(right)} rows expected, {len(wrong)} found; the same up to row {at})"
        lines += _shown("expected", [written for _, written in right[at:]])
        return lines + _shown("found", [written for _, written in wrong[at:]])


def _multisets(expected: Sequence[Compared], found: Sequence[Compared]) -> list[str]:
    missing = _without(expected, found)
    extra = _without(found, expected)
    if not missing and not extra:
        return []
    lines = [f"{len(expected)} rows expected, {len(found)} found; {len(missing)} are missing, {len(extra)} are too many"]
    return lines + _shown("missing", missing) + _shown("too many", extra)


def _without(rows: Sequence[Compared], others: Sequence[Compared]) -> list[Written]:
    counts: dict[Hashable, int] = {}
    for compared, _ in others:
        counts[compared] = counts.get(compared, 0) + 1
    left = []
    for compared, written in rows:
        if counts.get(compared, 0):
            counts[compared] -= 1
        else:
            left.append(written)
    return left


def _shown(label: str, rows: Sequence[Written]) -> list[str]:
    if not rows:
        return [f"{label}: nothing"]
    lines = [f"{label}:"]
    for time, row in rows[:SHOWN_ROWS]:
        text = ", ".join(f"{name}={value!r}" for name, value in row.items())
        lines.append(f"    at {time}: {text[:SHOWN_CHARACTERS]}{'…' if len(text) > SHOWN_CHARACTERS else ''}")
    if len(rows) > SHOWN_ROWS:
        lines.append(f"    … and {len(rows) - SHOWN_ROWS} more")
    return lines


# What is compared --------------------------------------------------------------------------------------------------


def _checks(topology: Topology, data: Data, promise: Promises, ignore: Collection[str]) -> list[_Check]:
    if isinstance(ignore, str):
        raise TopologyError("ignore= is a collection of columns", remedy=f"write [{ignore!r}]")
    judgements = judged(topology, data).sinks
    asked = promise if isinstance(promise, Mapping) else dict.fromkeys(judgements, promise)
    for name in asked:
        if name not in judgements:
            near = nearest(name, judgements)
            raise TopologyError(
                f"promise: there is no sink {name!r}",
                remedy=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(judgements)}",
            )
    checks = []
    for name, judgement in judgements.items():
        chosen = _chosen(topology, name, judgement, asked.get(name, "auto"))
        if chosen is not None:
            ignored = frozenset(one.removeprefix(f"{name}.") for one in ignore)
            checks.append(_Check(name, chosen, ignored, judgement.hints))
    return checks


def _chosen(topology: Topology, name: str, judgement: Judgement, asked: Asked) -> Promise | None:
    if asked is None or isinstance(asked, Promise):
        return asked
    if asked == "auto":
        if judgement.promise is None:
            raise TopologyError(
                f"the sink {name!r} of the topology {topology.name!r} deserves no promise: {judgement.reason}",
                remedy=f"insist on one with promise={{{name!r}: ...}}, or leave the sink out with promise={{{name!r}: None}}",
            )
        return judgement.promise
    if asked not in ("P2", "P3"):
        return Promise(asked)
    if judgement.carried is None:
        raise TopologyError(
            f"promise: the plan does not say by which columns {asked} holds for the sink {name!r}",
            remedy=f"say it: promise={{{name!r}: Promise({asked!r}, by=(...))}}",
        )
    return Promise(asked, judgement.carried)


# What is said ------------------------------------------------------------------------------------------------------


def _compare(simulation: Simulation, checks: Iterable[_Check], expected: Results, found: Results) -> None:
    for check in checks:
        lines = check.difference(expected[check.sink], found[check.sink])
        if lines:
            head = f"the sink {check.sink!r} of the topology {simulation.topology.name!r} does not keep {check.promise}"
            hints = ["what may be behind it:", *(f"    {hint}" for hint in check.hints)] if check.hints else []
            raise AssertionError("\n  ".join([head, *_replay(simulation), *lines, *hints]))


def _failed(simulation: Simulation, error: Exception) -> str:
    head = f"a run of the topology {simulation.topology.name!r} failed, and one without crashes did not"
    return "\n  ".join([head, *_replay(simulation), f"{type(error).__name__}: {error}"])


def _replay(simulation: Simulation) -> list[str]:
    return [
        f"seed {simulation.seed}: {'; '.join(simulation.story)}",
        f"again: assert_invariant(topology, data, seeds=[{simulation.seed}]), or Simulation(topology, data, seed={simulation.seed}).trace",
    ]
