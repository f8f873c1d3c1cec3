"""``streamdsl checkpoints read``: the tables of a state directory or a savepoint, without a run."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from streamdsl import Config
from streamdsl.cli.app import run as command

from .jobs import BALANCES, ROWS, Held, bank

JOB = "from tests.tables.jobs import bank\ntopology = bank()\n"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A state directory and a savepoint of `bank`."""
    place = tmp_path_factory.mktemp("offline")
    source = Held(ROWS)
    run = bank(source=source).start(Config(state_dir=place / "state", parallelism=2))
    while run.metrics()["sinks"].get("sink-balances") != len(ROWS):
        assert not run.wait(0.01)
    run.savepoint(place / "save")
    source.over.set()
    run.wait()
    (place / "job.py").write_text(JOB)
    return place


@pytest.fixture
def read(places, capsys):
    def read(*arguments, place="state", app=()):
        code = command([*app, "checkpoints", "read", str(places / place), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return read


@pytest.mark.parametrize("place", ["state", "save"])
def test_a_table_needs_no_topology(read, place, tmp_path):
    code, out, err = read("--table", "balances", place=place)
    rows = {row["account"]: row["balance"] for row in map(json.loads, out.splitlines())}
    assert (code, rows) == (0, BALANCES) and "balances as of checkpoint" in err
    assert json.loads(read("--table", "balances", "--key", "a3", place=place)[1])["balance"] == BALANCES["a3"]
    assert len(read("--table", "pairs", "--prefix", "a3", place=place)[1].splitlines()) == 3
    assert read("--table", "balances", "--key", "nobody", place=place)[:2] == (1, "")
    assert read("--table", "balances", "--to", tmp_path / "b.parquet", place=place)[0] == 0
    assert (
        dict(zip(*parquet.read_table(tmp_path / "b.parquet").select(["account", "balance"]).to_pydict().values(), strict=True)) == BALANCES
    )


@pytest.mark.parametrize("name", ["b.arrow", "b.csv", "b.jsonl"])
def test_a_table_is_written_in_the_format_that_the_name_says(read, tmp_path, name):
    assert read("--table", "pairs", "--to", tmp_path / name)[0] == 0 and (tmp_path / name).stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_every_declared_table_is_read_alike_with_and_without_the_topology(read, places):
    names = [name.strip() for name in read()[2].rpartition("has: ")[2].split(",")]
    assert names == ["balances", "latest", "once", "pairs", "recent", "table.people", "total", "windows"]
    for name in [*names, "seen"]:
        app = ("-A", str(places / "job.py"))
        with_it = read("--table", name, app=app)[1]
        without = read("--table", name)
        assert sorted(without[1].splitlines()) == sorted(with_it.splitlines()) or name == "seen"
    assert without[0] == 1 and "-A" in without[2] and len(with_it.splitlines()) == len(BALANCES)


def test_what_cannot_be_read_is_said(read, tmp_path):
    assert read("--table", "balance")[0] == 1 and "did you mean 'balances'" in read("--table", "balance")[2]
    assert read("--table", "pairs", "--key", "a3")[0] == 1
    assert read("--table", "pairs", "--key", "a3", "--key", "x")[0] == 1
    assert read("--table", "pairs", "--to", tmp_path / "b.xlsx")[0] == 2
    assert read("--table", "pairs", "--to", tmp_path / "nowhere" / "b.csv")[0] == 1
    assert read("--table", "pairs", "--checkpoint", 77)[0] == 1
    assert read("--table", "pairs", place="nothing")[0] == 1
