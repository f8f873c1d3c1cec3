"""The doctor looks at what the topology reads, writes and asks; it changes nothing."""

from __future__ import annotations

import socket
import textwrap

import psycopg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

JOB = """
    import os
    from streamdsl import Topology, delta, files, http, memory, postgres, redis

    at = os.environ
    topology = Topology("checked")
    rows = topology.stream(files(at["IN"], {{"id": int, "name": str}}), name="in")
    {verbs}
"""


@pytest.fixture
def doctor(here, tmp_path, monkeypatch):
    (tmp_path / "in.csv").write_text("id,name\n1,a\n")
    number = iter(range(100))

    def look(verbs, **environ):
        for name, value in {"IN": str(tmp_path / "in.csv"), **environ}.items():
            monkeypatch.setenv(name, str(value))
        module = f"checked{next(number)}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(JOB).format(verbs=verbs))
        code, out, _ = here("-A", module, "doctor", "--state-dir", tmp_path / "state")
        return code, {line[4:].split(":")[0]: line for line in out.splitlines() if line[4:].startswith(("reads", "writes", "asks"))}

    return look


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_files_that_are_there_and_a_directory_that_is_not(doctor, tmp_path):
    code, lines = doctor(f'rows.to(files("{tmp_path}/out.jsonl"), name="out")')
    assert code == 0 and "ok" in lines["reads in"] and "1 files to read" in lines["reads in"] and "can be written" in lines["writes out"]
    assert not (tmp_path / "out.jsonl").exists()
    code, lines = doctor(f'rows.to(files("{tmp_path}/none/out.jsonl"), name="out")', IN=tmp_path / "gone.csv")
    assert code == 1 and lines["reads in"].startswith("NO") and lines["writes out"].startswith("NO")
    assert "there is no directory" in lines["writes out"]


POSTGRES = (
    'rows.to(postgres(at["DSN"], "seen", key="id"), name="out"); '
    'rows.join_lookup(postgres(at["DSN"], "seen", {"id": int, "name": str}, key="id"), on="id", suffix="_2").to(memory("f"), name="found")'
)


def test_a_database_and_its_tables(doctor, database):
    verbs = POSTGRES
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("drop table if exists seen")
        code, lines = doctor(verbs, DSN=database.dsn)
        assert code == 1 and "there is no table 'seen'" in lines["writes out"] and "there is no table" in lines["asks seen"]
        connection.execute("create table seen (id bigint primary key)")
        code, lines = doctor(verbs, DSN=database.dsn)
        assert code == 1 and "no column 'name'" in lines["writes out"]
        connection.execute("alter table seen add column name text")
        code, lines = doctor(verbs, DSN=database.dsn)
        assert code == 0 and lines["writes out"].startswith("ok") and lines["asks seen"].startswith("ok")
        assert connection.execute("select count(*) from seen").fetchone() == (0,)
        connection.execute("drop table seen")
    _, lines = doctor(verbs, DSN=f"postgresql://u:hunter2@127.0.0.1:{closed_port()}/d")
    assert lines["writes out"].startswith("NO") and "hunter2" not in str(lines)


def test_redis_and_a_web_server(doctor, redis_server):
    verbs = 'rows.to(redis(at["R"], "k:{id}"), name="cache"); rows.to(http(at["H"]), name="hook")'
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        code, lines = doctor(verbs, R=redis_server.url, H=f"http://127.0.0.1:{listening.getsockname()[1]}/x?token=hunter2")
    assert code == 0 and "answers" in lines["writes cache"] and "somebody listens" in lines["writes hook"]
    code, lines = doctor(verbs, R=f"redis://:hunter2@127.0.0.1:{closed_port()}", H=f"http://127.0.0.1:{closed_port()}/x?token=hunter2")
    assert code == 1 and lines["writes cache"].startswith("NO") and lines["writes hook"].startswith("NO")
    assert "hunter2" not in str(lines)


def test_a_table_of_delta_lake(doctor, tmp_path):
    verbs = 'rows.to(delta(at["LAKE"]), name="lake")'
    code, lines = doctor(verbs, LAKE=tmp_path / "lake")
    assert code == 0 and "will be made" in lines["writes lake"] and not (tmp_path / "lake").exists()
    write_deltalake(tmp_path / "lake", pa.table({"id": [1]}))
    code, lines = doctor(verbs, LAKE=tmp_path / "lake")
    assert code == 1 and "no column 'name'" in lines["writes lake"]


def test_a_package_that_is_missing_is_named_with_its_extra(doctor, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from streamdsl.cli import doctor as module

    real = module.version

    def version(package):
        if package == "redis":
            raise PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(module, "version", version)
    code, lines = doctor('rows.to(redis("redis://h", "k:{id}"), name="cache")')
    assert code == 1 and "pip install 'streamdsl[redis]'" in lines["writes cache"]
