"""Processors of a topology that goes to Flink: their statements, their program, and what they answer there."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamdsl import ConfigError, Processor, StreamError, Topology, files
from streamdsl.errors import UserCodeError
from streamdsl.flink.gateway import Gateway
from streamdsl.flink.job import FlinkJob
from streamdsl.flink.python.process import PythonProcess
from streamdsl.flink.python.processing import Processing
from tests.flink import processor_app
from tests.flink.compare import alike, run_here, written_json


class InMemory:
    """State and timers of keys, as Flink keeps them."""

    def __init__(self) -> None:
        self.key: Any = None
        self.values: dict[Any, Any] = {}
        self.timers: set[tuple[int, Any]] = set()

    def declare(self, name: str) -> None: ...

    def load(self, name: str) -> Any:
        return self.values.get((self.key, name))

    def save(self, name: str, value: Any) -> None:
        self.values[self.key, name] = value

    def set_timer(self, at: int) -> None:
        self.timers.add((at, self.key))

    def drop_timer(self, at: int) -> None:
        self.timers.discard((at, self.key))

    def counter(self, name: str) -> Any:
        return type("Counter", (), {"inc": lambda self, n=1: None})()


def there(made: PythonProcess, rows: list[dict[str, Any]], disorder: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Do with rows what Flink does: in their order, timers when the watermark passes them."""
    keyed = InMemory()
    processing = Processing(made, keyed, lambda *values: values)
    schemas = {tag: schema for tag, _, schema in made.outputs}
    found: dict[str, list[dict[str, Any]]] = {tag: [] for tag in schemas}
    rows_of: dict[Any, list[Any]] = {}

    def taken(emitted: Any) -> None:
        for tag, values, _ in emitted:
            found[tag].append(dict(zip(schemas[tag].names, values, strict=True)))

    def advance(watermark: int) -> None:
        while due := [one for one in keyed.timers if one[0] <= watermark]:
            at, keyed.key = min(due)
            keyed.timers.discard((at, keyed.key))
            taken(processing.timer(rows_of[keyed.key], at, watermark))

    latest = -(2**60)
    for row in rows:
        values = [row[name] for name in made.given.names]
        keyed.key = tuple(row[name] for name in made.keys)
        rows_of.setdefault(keyed.key, values)
        taken(processing.row(values, row["at"], latest))
        if row["at"] - disorder - 1 > latest:
            latest = row["at"] - disorder - 1
            advance(latest)
    advance(2**60)
    processing.close()
    return found


def job_of(processor: Any, schema: Any = None) -> FlinkJob:
    topology = Topology("t")
    rows = topology.stream(files("rows.jsonl", schema or {"id": int, "k": str, "at": int}), timestamp="at", name="rows")
    rows.key_by("k").process(processor, name="quiet").to(files("out.jsonl"), name="out")
    return topology.to_flink()


def test_state_timers_and_outputs_are_those_of_a_run_here(tmp_path: Path) -> None:
    rows = processor_app.rows(random.Random(3), 300)
    written = written_json(tmp_path / "rows.jsonl", rows)
    name = next(iter(processor_app.topology.sources()))
    here = run_here(processor_app.topology, {name: written}, ("made", "big", "later"))
    (made,) = processor_app.topology.to_flink().processes
    found = there(made, rows, processor_app.DISORDER_MS)
    assert here["made"] and here["big"]
    alike(here["made"], found[""])
    alike(here["big"], found["big"])


class Asks(Processor):
    """Does one thing."""

    output = {"k": str}

    def __init__(self, asked: Any) -> None:
        self.asked = asked

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)
        if self.asked == "ttl":
            ctx.state.value("short", int, ttl="1s")

    def process(self, row: Any, ctx: Any) -> Any:
        if callable(self.asked):
            return self.asked(self, row, ctx)
        return None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("ttl", "state 'short' with ttl= is not to be had on Flink"),
        (lambda self, row, ctx: ctx.set_timer(5, every="1s"), r"set_timer\(every=\) is not to be had"),
        (lambda self, row, ctx: ctx.set_timer(5, clock="processing"), r"set_timer\(clock='processing'\)"),
        (lambda self, row, ctx: ctx.emit({"k": "a"}, to="big"), "there is no output 'big'"),
        (lambda self, row, ctx: 1 / 0, r"process failed: ZeroDivisionError: division by zero; row {'id': 1.*key 'a'"),
        (lambda self, row, ctx: {"k": 5}, "column 'k' is 5 of type int"),
        (lambda self, row, ctx: self.n.set("x"), "column 'n' is 'x' of type str"),
    ],
)
def test_what_is_not_to_be_had_there_is_an_error_by_name(asked: Any, said: str) -> None:
    (made,) = job_of(Asks(asked)).processes
    with pytest.raises((StreamError, UserCodeError), match=said):
        there(made, [{"id": 1, "k": "a", "at": 5}])


def test_a_processor_stands_between_two_views() -> None:
    job = job_of(Asks(None))
    kinds = [(one.kind, one.name) for one in job.statements if one.kind != "set"]
    assert kinds == [
        ("table", "rows"),
        ("view", "quiet_rows"),
        ("process", "quiet"),
        ("view", "quiet"),
        ("table", "out"),
        ("insert", "out"),
    ]
    assert "job.py makes a keyed process function of Asks" in str(job)
    assert [one.text for one in job.inserts] == [one.text for one in job.statements if one.kind == "insert"]


def test_a_gateway_does_not_run_it() -> None:
    gateway = object.__new__(Gateway)
    with pytest.raises(ConfigError, match=r"has Processors") as error:
        gateway.submit(job_of(Asks(None)))
    assert "job.py" in str(error.value)


def test_the_project_has_the_program(tmp_path: Path) -> None:
    app = Path(processor_app.__file__)
    command = [sys.executable, "-m", "streamdsl", "-A", f"{app}:topology", "flink", "--output", str(tmp_path)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    program = (tmp_path / "python" / "job.py").read_text()
    compile(program, "job.py", "exec")
    assert "import tests.flink.processor_app" in program and "run(tests.flink.processor_app.topology.to_flink())" in program
    assert "#   quiet: " in (tmp_path / "python" / "streamdsl_functions.py").read_text()
    assert "flink run --python /opt/python/job.py" in (tmp_path / "README.md").read_text()
