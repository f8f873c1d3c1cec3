"""Tables behind sinks that only grow: rows that are replaced stand one behind the other, rows that go are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamdsl import Table, Topology, TopologyError, col, count, files, memory

ROWS = [{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "a", "v": 3}]


def rows(topology: Topology) -> Table:
    return topology.table(memory("rows", {"k": str, "v": int | None}, ROWS), key="k")


def test_the_last_row_of_a_key_counts_in_a_file(tmp_path: Path) -> None:
    topology = Topology("counts")
    stream = topology.stream(memory("in", {"k": str, "v": int}, ROWS))
    stream.key_by("k").aggregate(n=count(), total=col("v").sum()).to(files(tmp_path / "out.jsonl"))
    topology.run()
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["k"]: (row["n"], row["total"]) for row in written} == {"a": (2, 4), "b": (1, 2)}


@pytest.mark.parametrize(
    "made",
    [
        rows,
        lambda topology: rows(topology).filter(col("v") > 1),
        lambda topology: rows(topology).select(double=col("v") * 2),
        lambda topology: rows(topology).group_by(odd=col("v") % 2).aggregate(n=count()),
        lambda topology: rows(topology).join(topology.table(memory("others", {"k": str, "w": int}), key="k")),
    ],
    ids=["table", "filter", "select", "group_by", "join"],
)
def test_a_table_whose_rows_may_go_is_refused_by_name(tmp_path: Path, made) -> None:
    out = files(tmp_path / "out.jsonl")
    topology = Topology("t")
    with pytest.raises(TopologyError, match=r"only grows.*\n.*to_stream\(\)"):
        made(topology).to(out)
    topology = Topology("t")
    made(topology).to(memory("out"))
    with pytest.raises(TopologyError, match="only grows"):
        topology.run(bind={"out": out})
    topology = Topology("t")
    made(topology).to_stream().to(out)
    topology.run()
    assert all("op" in json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
