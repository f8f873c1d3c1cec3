"""Python functions of a topology that goes to Flink: their statements, their project, and what they answer there."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import Config, Stream, Topology, TopologyError, col, files, memory
from streamdsl.cli.app import run
from streamdsl.errors import UserCodeError
from streamdsl.flink.python.calls import Calls
from streamdsl.flink.python.function import PythonFunction

ALL = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("s", pa.string()),
        ("m", pa.timestamp("ms", tz="UTC")),
        ("d", pa.date32()),
        ("p", pa.decimal128(12, 2)),
        ("u", pa.uint64()),
        ("f", pa.float32()),
        ("l", pa.list_(pa.int64())),
        ("st", pa.struct([("a", pa.int64()), ("t", pa.list_(pa.string()))])),
        ("mp", pa.map_(pa.string(), pa.int64())),
    ]
)
EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
#: A row of every type in Python, and as Flink hands it over.
ROW = {
    "id": 1,
    "s": "ä",
    "m": datetime.datetime(1931, 2, 3, 4, 5, 6, 7_000, tzinfo=datetime.UTC),
    "d": datetime.date(1582, 10, 4),
    "p": decimal.Decimal("-1.20"),
    "u": 2**64 - 1,
    "f": 0.5,
    "l": [1, None],
    "st": {"a": None, "t": ["x", None]},
    "mp": {"k": 3},
}
GIVEN = (1, "ä", -1_227_902_093_993, datetime.date(1582, 10, 4).toordinal() - EPOCH_DAY, "-1.20", str(2**64 - 1), 0.5, [1, None])
GIVEN += ((None, ["x", None]), {"k": 3})


def one(build: Any, schema: Any = ALL) -> PythonFunction:
    topology = Topology("t")
    build(topology.stream(files("rows.jsonl", schema))).to(files("out.jsonl"))
    (found,) = topology.to_flink().functions
    return found


def here(build: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    topology = Topology("t")
    output = memory("out")
    build(topology.stream(memory("rows", ALL, rows))).to(output)
    topology.run(Config(state_backend="memory"))
    found: list[dict[str, Any]] = output.table().to_pylist()
    return found


def test_values_of_every_type_go_there_and_back() -> None:
    seen: list[Any] = []

    def same(row: Any) -> Any:
        seen.append(dict(row))
        return row

    calls = Calls(one(lambda s: s.map(same, schema=ALL)))
    assert calls(*GIVEN) == [GIVEN]
    here(lambda s: s.map(same, schema=ALL), [ROW])
    assert seen[0] == seen[1] == ROW
    nulls = (2, *[None] * 9)
    assert calls(*nulls) == [nulls]


def words(row: Any) -> Any:
    for letter in row.s or "":
        yield {"id": row.id, "letter": letter}


def first(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select(["id", "s"])


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda s: s.flat_map(words, schema={"id": int, "letter": str}), [[(1, "a"), (1, "b")], [], []]),
        (lambda s: s.flat_map(lambda row: None, schema={"id": int}), [[], [], []]),
        (lambda s: s.flat_map(lambda row: {"id": 7}, schema={"id": int}), [[(7,)], [(7,)], [(7,)]]),
        (lambda s: s.filter(lambda row: row.s is None), [[], [(True,)], []]),
        (lambda s: s.peek(lambda row: row.s), [[(True,)], [(True,)], [(True,)]]),
        (lambda s: s.branch(a=lambda row: row.s == "ab", default=None)["a"].select("id"), [[(True,)], [(False,)], [(False,)]]),
        (lambda s: s.map_batches(first, schema={"id": int, "s": str | None}), [[(1, "ab")], [(2, None)], [(3, "")]]),
        (lambda s: s.map_batches(lambda batch: None, schema={"id": int}), [[], [], []]),
        (lambda s: s.map(lambda row: {"id": 6 // len(row.s)}, schema={"id": int}, errors="skip"), [[(3,)], [], []]),
    ],
)
def test_each_verb_makes_its_rows(build: Any, found: Any) -> None:
    calls = Calls(one(build, {"id": int, "s": str | None}))
    assert [calls(*values) for values in ((1, "ab"), (2, None), (3, ""))] == found


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda s: s.map(lambda row: 1 / 0, schema={"id": int}), "ZeroDivisionError"),
        (lambda s: s.map(lambda row: None, schema={"id": int}), "map returned None"),
        (lambda s: s.map(lambda row: {"id": "x"}, schema={"id": int}), "column 'id' is 'x' of type str"),
        (lambda s: s.map(lambda row: {"id": 1, "no": 2}, schema={"id": int}), "no column 'no'"),
        (lambda s: s.map(lambda row: {}, schema={"id": int}), "no column 'id' of the declared output"),
        (lambda s: s.map(lambda row: {"id": None}, schema={"id": int}), "is null, but the column is declared not null"),
        (lambda s: s.filter(lambda row: row.s), "a condition is True or False"),
        (lambda s: s.map(lambda row: {"id": row.idd}, schema={"id": int}), "did you mean 'id'"),
        (lambda s: s.map_batches(lambda batch: batch.slice(0, 0), schema={"id": int}), "add the column _row"),
    ],
)
def test_errors_are_those_that_the_function_has_here(build: Any, said: str) -> None:
    def small(s: Stream) -> Any:
        return build(s.select("id", "s"))

    with pytest.raises(UserCodeError, match=r"failed: .*") as there:
        Calls(one(build, {"id": int, "s": str}))(5, "ab")
    assert said in there.value.message and "row {'id': 5, 's': 'ab'}" in there.value.message
    if "_row" in said:
        return
    with pytest.raises(UserCodeError) as mine:
        here(small, [{**ROW, "id": 5, "s": "ab"}])
    assert _said(mine) == _said(there)


def _said(error: pytest.ExceptionInfo[UserCodeError]) -> str:
    return error.value.message.partition(": ")[2]


def test_a_function_is_a_table_function_of_its_row() -> None:
    topology = Topology("t")
    rows = topology.stream(files("rows.jsonl", {"id": int, "at": int}), timestamp="at", name="rows")
    rows.filter(lambda row: row.id > 1).to(files("out.jsonl"), name="out")
    job = topology.to_flink()
    texts = {statement.kind: statement.text for statement in job.statements}
    assert texts["function"] == ("CREATE TEMPORARY FUNCTION `filter_lambda_1` AS 'streamdsl_functions.filter_lambda_1' LANGUAGE PYTHON")
    assert texts["view"] == (
        "CREATE TEMPORARY VIEW `python_1` AS\n"
        "SELECT S.`id`, S.`at`, S.`_time`\n"
        "FROM `rows` AS S, LATERAL TABLE(`filter_lambda_1`(S.`id`, S.`at`)) AS F(`_passed`)"
    )
    assert any("Python workers" in said for said in job.differences)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda s: s.map_async(_awaited, schema={"id": int}, name="slow"), "map_async(slow)"),
        (lambda s: s.map(dict, schema={"m": pa.timestamp("us", tz="UTC")}), "timestamp[us, tz=UTC]) of a Python function"),
        (lambda s: s.map(dict, schema={"l": list[datetime.date]}), "inside of a list"),
        (lambda s: s.map(dict, schema={"d": pa.duration("ms")}), "no durations"),
    ],
)
def test_what_python_cannot_be_on_flink_is_refused_by_name(build: Any, said: str) -> None:
    with pytest.raises(TopologyError) as error:
        one(build)
    assert said in str(error.value)


async def _awaited(row: Any) -> dict[str, Any]:
    return {"id": row.id}


APP = """
from helping_for_flink import double
from streamdsl import Topology, files
topology = Topology("with-python")
topology.stream(files("rows.jsonl", {"id": int})).map(double, schema={"id": int}).to(files("out.jsonl"))
"""


def test_the_project_holds_the_topology_and_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "app_for_flink.py").write_text(APP)
    (tmp_path / "helping_for_flink").mkdir()
    (tmp_path / "helping_for_flink" / "__init__.py").write_text("def double(row):\n    return {'id': row.id * 2}\n")
    project = tmp_path / "project"
    command = [sys.executable, "-m", "streamdsl", "-A", f"{tmp_path / 'app_for_flink.py'}:topology", "flink", "--output", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    python = project / "python"
    assert sorted(path.name for path in python.iterdir()) == ["app_for_flink.py", "helping_for_flink", "streamdsl_functions.py"]
    assert str(python / "streamdsl_functions.py") in done.stdout
    module = (python / "streamdsl_functions.py").read_text()
    assert "import app_for_flink\n" in module and "functions_of(app_for_flink.topology.to_flink())" in module
    compile(module, "streamdsl_functions.py", "exec")
    for name, wanted in (("Dockerfile", "apache-flink==2.2.0"), ("compose.yml", "python.files: /opt/python"), ("README.md", "## Python")):
        assert wanted in (project / name).read_text()


def test_a_project_without_functions_has_no_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = tmp_path / "plain_app_for_flink.py"
    app.write_text(APP.replace("from helping_for_flink import double\n", "").replace('.map(double, schema={"id": int})', ""))
    assert run(["-A", f"{app}:topology", "flink", "--output", str(tmp_path / "project")]) == 0
    assert not (tmp_path / "project" / "python").exists()
    assert "python.files" not in (tmp_path / "project" / "compose.yml").read_text()


def test_hidden_places_are_not_asked_for_by_functions() -> None:
    topology = Topology("t")
    rows = topology.stream(files("rows.jsonl", {"id": int}), name="rows")
    rows.filter(lambda row: row.id > 1).select("id", topic=col("_topic")).to(files("out.jsonl"))
    table = next(one.text for one in topology.to_flink().statements if one.kind == "table")
    assert "_topic" in table and "_offset" not in table
