"""What a topology reads and writes are different things: else it is refused before a byte is written."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import Config, Topology, TopologyError, dead_letter, files, kafka, memory
from streamdsl.compiler import compile
from streamdsl.connectors.files.places import Place
from streamdsl.physical.node import with_connectors
from streamdsl.runtime.places import check_places

ROWS = "a\n" + "".join(f"{i}\n" for i in range(1000))


def copying(source, *sinks, **options):
    topology = Topology("copy")
    rows = topology.stream(files(source, schema={"a": int}, format="csv", **options), name="in")
    for number, sink in enumerate(sinks):
        rows.to(sink, name=f"out{number}")
    return topology


def as_link(path):
    path.with_name("link.csv").symlink_to(path)
    return path.with_name("link.csv")


def as_hard_link(path):
    os.link(path, path.with_name("hard.csv"))
    return path.with_name("hard.csv")


def behind_a_linked_directory(path):
    path.parent.joinpath("linked").symlink_to(path.parent)
    return path.parent / "linked" / path.name


SPELLINGS = {
    "itself": lambda path: path,
    "another spelling": lambda path: f"{path.parent}/./{path.parent.name}/../../{path.parent.name}/{path.name}",
    "relative": os.path.relpath,
    "bytes": os.fsencode,
    "symbolic link": as_link,
    "hard link": as_hard_link,
    "linked directory": behind_a_linked_directory,
}


@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_sink_that_is_a_source_is_refused_and_the_file_stays(tmp_path, monkeypatch, how, turned):
    folder = tmp_path / "in"
    (folder / "in").mkdir(parents=True)
    monkeypatch.chdir(folder)
    path = folder / "rows.csv"
    path.write_text(ROWS)
    source, sink = (SPELLINGS[how](path), path) if turned else (path, SPELLINGS[how](path))
    with pytest.raises(TopologyError, match="'out0' writes what the source 'in' reads"):
        copying(source, files(sink, format="csv")).run(Config(state_dir=tmp_path / "state"))
    assert path.read_text() == ROWS
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("source", ["*.csv", "**/*.csv", "*/../*.csv", ".", "[a-z]*.csv", "link/*.csv", "li*/*.csv", "**/out.csv"])
@pytest.mark.parametrize("there", [False, True])
def test_an_output_that_a_pattern_matches_is_refused_also_before_it_exists(tmp_path, source, there):
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    if there:
        (tmp_path / "out.csv").write_text(ROWS)
    with pytest.raises(TopologyError, match="writes what"):
        copying(tmp_path / source, files(tmp_path / "out.csv")).run()
    assert (tmp_path / "out.csv").exists() == there


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("*.csv", "out.jsonl"),
        (".", "out.jsonl"),
        ("*.csv", "sub/out.csv"),
        ("rows*.csv", "out.csv"),
        ("*.csv", ".out.csv"),
        (".", "_out.csv"),
    ],
)
def test_an_output_beside_the_input_is_none_of_it(tmp_path, source, sink):
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "sub").mkdir()
    for _ in range(2):
        copying(tmp_path / source, files(tmp_path / sink)).run()
    assert len((tmp_path / sink).read_text().splitlines()) >= 1000


def test_parts_that_are_read_are_not_written(tmp_path):
    topology = Topology("first")
    topology.stream(memory("m", rows=[{"a": 1}])).to(files(tmp_path / "data.parquet"))
    topology.run()
    for source in ("data.parquet", "data.parquet/*.parquet", "*/part-*.parquet", "**/*"):
        again = Topology("again")
        again.stream(files(tmp_path / source, schema={"a": int | None}, format="parquet"), name="in").to(files(tmp_path / "data.parquet"))
        with pytest.raises(TopologyError, match="writes what"):
            again.run()
    fresh = Topology("fresh")
    fresh.stream(files(tmp_path / "**/*", schema={"a": int | None}, format="parquet")).to(files(tmp_path / "new.parquet"))
    with pytest.raises(TopologyError, match="writes what"):
        fresh.run()
    assert len(list((tmp_path / "data.parquet").iterdir())) == 1 and not (tmp_path / "new.parquet").exists()


@pytest.mark.parametrize("source", ["", "*.parquet", "rows.parquet"])
def test_a_directory_of_parts_beside_parquet_files_is_none_of_them(tmp_path, source):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "rows.parquet")
    for _ in range(2):
        topology = Topology("t")
        topology.stream(files(f"{tmp_path}/{source}", {"a": int}, "parquet")).to(files(tmp_path / "out.parquet"))
        topology.run()
    assert len(list((tmp_path / "out.parquet").iterdir())) == 1


def test_both_parts_of_a_history_are_compared(tmp_path):
    (tmp_path / "rows.csv").write_text(ROWS)
    topology = Topology("t")
    both = files(tmp_path / "rows.csv", {"a": int}).then(kafka("rows", {"a": int}))
    topology.stream(both, name="in").to(files(tmp_path / "rows.csv"), name="out0")
    with pytest.raises(TopologyError, match="writes what"):
        topology.run()
    topology = Topology("t")
    topology.stream(both, name="in").to(kafka("rows"), name="out0")
    with pytest.raises(TopologyError, match="topic 'rows'"):
        topology.run()
    assert (tmp_path / "rows.csv").read_text() == ROWS


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("o.jsonl", "o.jsonl"),
        ("o.jsonl", "./o.jsonl"),
        ("o.csv", "link.csv"),
        ("o.csv", "hard.csv"),
        ("o.jsonl", "linked/o.jsonl"),
        ("p.parquet", "p.parquet/bad.jsonl"),
        ("p.parquet", "p.parquet/deeper/q.parquet"),
        ("p.parquet", "linked/p.parquet/"),
        ("new.jsonl", "linked/new.jsonl"),
    ],
)
@pytest.mark.parametrize("as_dead_letters", [False, True])
def test_two_sinks_on_one_file_are_refused(tmp_path, one, other, as_dead_letters):
    (tmp_path / "rows.in").write_text(ROWS)
    (tmp_path / "o.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to(tmp_path / "o.csv")
    os.link(tmp_path / "o.csv", tmp_path / "hard.csv")
    (tmp_path / "linked").symlink_to(tmp_path)
    first, second = files(f"{tmp_path}/{one}"), files(f"{tmp_path}/{other}")
    if as_dead_letters:
        topology = copying(tmp_path / "rows.in", first, errors=dead_letter(second, name="out1"))
    else:
        topology = copying(tmp_path / "rows.in", first, second)
    with pytest.raises(TopologyError, match=r"'out\d' and 'out\d' write to the same place"):
        topology.run()
    assert (tmp_path / "o.csv").read_text() == "before"


def test_bound_sources_and_sinks_are_compared_too(tmp_path):
    (tmp_path / "rows.csv").write_text(ROWS)
    topology = copying(tmp_path / "rows.csv", memory("one"), memory("two"))
    with pytest.raises(TopologyError, match="same place"):
        topology.run(bind={"out0": files(tmp_path / "o.jsonl"), "out1": files(tmp_path / "o.jsonl")})
    with pytest.raises(TopologyError, match="writes what"):
        topology.run(bind={"out0": files(tmp_path / "rows.csv")})
    assert (tmp_path / "rows.csv").read_text() == ROWS


def test_a_memory_object_collects_for_one_sink_and_is_not_read_meanwhile():
    shared = memory("shared", schema={"a": int})
    topology = Topology("t")
    rows = topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}]))
    rows.to(shared, name="one")
    rows.to(shared, name="two")
    with pytest.raises(TopologyError, match="same place: shared"):
        topology.run()
    loop = Topology("loop")
    loop.stream(shared, name="in").to(shared, name="out")
    with pytest.raises(TopologyError, match="writes what"):
        loop.run()


def test_names_that_differ_in_case_are_one_file_where_the_file_system_says_so(tmp_path, monkeypatch):
    one, other = Place(str(tmp_path / "Out.csv"), "csv"), Place(str(tmp_path / "out.CSV"), "csv")
    assert not one.collides(other)
    monkeypatch.setattr("streamdsl.connectors.files.places._ignores_case", lambda path: True)
    assert one.collides(other)


def test_a_topic_that_is_read_is_written_only_on_purpose():
    for loop in (False, True):
        topology = Topology("t")
        topology.stream(kafka("orders", schema={"a": int}), name="in").to(kafka("orders", loop=loop), name="out")
        plan = with_connectors(compile(topology).physical, lambda connector: connector.configured(Config(), "t"))
        if loop:
            check_places(plan)
        else:
            with pytest.raises(TopologyError, match="topic 'orders', without kafka"):
                check_places(plan)


def test_two_sinks_may_write_one_topic():
    topology = Topology("t")
    rows = topology.stream(memory("m", schema={"a": int}, rows=[{"a": 1}]))
    rows.to(kafka("results"), name="one")
    rows.to(kafka("results"), name="two")
    check_places(compile(topology).physical)


@pytest.mark.parametrize("source", ["**/*.json", "state", "state/*.json", "*/*/*/*.json", "**/manifest.*"])
def test_a_source_that_would_read_the_state_is_refused(tmp_path, source):
    (tmp_path / "in.json").write_text('{"a":1}\n')
    topology = Topology("t")
    topology.stream(files(tmp_path / source, {"a": int}, "json")).to(memory("out"))
    with pytest.raises(TopologyError, match="would read the files of the state directory"):
        topology.run(Config(state_dir=tmp_path / "state"))


@pytest.mark.parametrize("source", ["*.json", "", "in.json", "**/in.json"])
def test_the_state_may_lie_beside_the_input(tmp_path, source):
    (tmp_path / "in.json").write_text('{"a":1}\n')
    topology = Topology("t")
    topology.stream(files(f"{tmp_path}/{source}", {"a": int}, "json")).to(memory("out"))
    assert topology.run(Config(state_dir=tmp_path / "state")).finished


def test_a_url_of_this_machine_is_a_path(tmp_path):
    (tmp_path / "in.csv").write_text("a\n1\n")
    for scheme in ("file://", "file://localhost", "local://"):
        assert files(f"{scheme}{tmp_path}/in.csv", schema={"a": int}).paths == (f"{tmp_path}/in.csv",)
        topology = Topology("t")
        topology.stream(files(f"{scheme}{tmp_path}/in.csv", schema={"a": int})).to(files(tmp_path / "in.csv", name="out"))
        with pytest.raises(TopologyError, match="'out' writes what the source"):
            topology.run(Config())
    with pytest.raises(TopologyError, match="begins with a slash"):
        files("file://in.csv")
