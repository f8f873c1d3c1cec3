"""Restoring into a changed topology and another parallelism; what is refused, and how it says so."""

from __future__ import annotations

import pytest

from streamdsl._native.state.testing import BytesField, IntField
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError
from tests.state.state_job import StateJob, default_tables


@pytest.fixture(params=["memory", "rocksdb"])
def kind(request):
    return request.param


@pytest.fixture
def place(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def start(place, kind, life, **options):
    live = place / f"live{life}"
    live.mkdir()
    return StateJob(DirectoryStorage(place / "checkpoints"), kind, live, **options)


def filled(place, kind, **options):
    """A job with twenty keys and one checkpoint; returns what was in it."""
    job = start(place, kind, 0, **options)
    for i in range(20):
        key = b"key %d" % i
        for task in job.tasks:
            shard = task.rows.shard(task.rows.slot(key))
            if shard not in task.owned:
                task.rows.remove(task.rows.find(key))
                continue
            task.rows.set_int(task.rows.find(key), 0, i)
            task.rows.set_bytes(task.rows.find(key), 1, key * i)
            task.windows.set_int(task.windows.slot(b"w" + key, shard), 0, -i)
    contents = job.contents()
    job.checkpoint()
    job.close()
    return contents


def test_the_same_tasks_go_on_with_the_same_files(place, kind):
    contents = filled(place, kind, tasks=2)
    job = start(place, kind, 1, tasks=2)
    assert [task.linked for task in job.tasks] == [True, True]
    assert job.contents() == contents
    job.checkpoint()  # nothing has changed: nothing but the MARKs is written
    assert [task.store.stream.appended for task in job.tasks] == [1, 1]
    job.close()
    again = start(place, kind, 2, tasks=2)
    assert again.contents() == contents
    again.close()


def test_a_restored_row_that_is_removed_is_gone_for_good(place, kind):
    contents = filled(place, kind)
    job = start(place, kind, 1)
    job.tasks[0].rows.remove(job.tasks[0].rows.find(b"key 3"))
    job.checkpoint()
    job.close()
    again = start(place, kind, 2)
    assert again.contents() == {key: row for key, row in contents.items() if key != (0, b"key 3")}
    again.close()


@pytest.mark.parametrize("tasks", [1, 3, 8])
def test_another_parallelism_moves_the_shards(place, kind, tasks):
    contents = filled(place, kind, tasks=2)
    job = start(place, kind, 1, tasks=tasks)
    assert job.contents() == contents
    job.checkpoint()
    assert [task.store.stream.appended for task in job.tasks] == [1] * tasks  # the marks: the rows were copied, not written
    job.close()
    again = start(place, kind, 2, tasks=1)  # the new databases hold everything, each row once
    assert again.contents() == contents
    again.close()
    assert sorted(path.name for path in (place / "live1").iterdir() if "restore" in path.name) == []


def test_a_rule_added_to_a_running_job_restores_beside_the_old_ones(place, kind):
    contents = filled(place, kind)

    def tables(store):
        store.add_table("windows", "hourly", "start, string", [IntField("hourly")])
        store.add_table("rows", "lookup", "string", [IntField("new rule"), IntField("total"), BytesField("last")])
        store.add_table("timers", "quiet", "time, string")

    job = start(place, kind, 1, tables=tables)
    assert not job.tasks[0].linked
    found = job.contents()
    assert {key: row for (table, key), row in found.items() if table == 1} == {
        key: (0, *row) for (table, key), row in contents.items() if table == 0
    }
    assert {key: row for (table, key), row in found.items() if table == 0} == {
        key: row for (table, key), row in contents.items() if table == 1
    }
    job.checkpoint()
    job.close()
    again = start(place, kind, 2, tables=tables)
    assert again.tasks[0].linked
    assert again.contents() == found
    again.close()


def test_operators_that_now_share_a_lookup(place, kind):
    def apart(store):
        store.add_table("rows", "one", "string", [IntField("a")])
        store.add_table("rows", "other", "string", [IntField("b")])

    def together(store):
        store.add_table("rows", "one", "string", [IntField("b"), IntField("a")])

    job = start(place, kind, 0, tables=apart)
    first, second = job.tasks[0].rows, job.tasks[0].windows
    first.set_int(first.slot(b"both"), 0, 1)
    second.set_int(second.slot(b"both"), 0, 2)
    second.set_int(second.slot(b"second"), 0, 3)
    job.checkpoint()
    job.close()
    job = start(place, kind, 1, tables=together)
    assert job.contents() == {(0, b"both"): (2, 1), (0, b"second"): (3, 0)}
    job.close()


def without_last(store):
    store.add_table("rows", "lookup", "string", [IntField("total")])
    store.add_table("windows", "hourly", "start, string", [IntField("hourly")])
    store.add_table("timers", "quiet", "time, string")


def test_a_removed_operator_is_refused_by_name(place, kind):
    filled(place, kind)
    with pytest.raises(StateError) as caught:
        start(place, kind, 1, tables=without_last)
    assert "holds state of 'last'" in str(caught.value)
    assert "Config(drop_state=['last'])" in str(caught.value)


def test_a_removed_operator_may_be_given_up_by_name(place, kind):
    contents = filled(place, kind)
    job = start(place, kind, 1, tables=without_last, drop_state=["last"])
    assert job.contents() == {key: row[:1] for key, row in contents.items()}
    job.checkpoint()
    job.close()
    start(place, kind, 2, tables=without_last).close()  # now it is really gone


def test_a_removed_table_of_keys_is_refused_too(place, kind):
    filled(place, kind)

    def tables(store):
        store.add_table("rows", "lookup", "string", [IntField("total"), BytesField("last")])
        store.add_table("windows", "hourly", "start, string", [IntField("hourly")])

    with pytest.raises(StateError, match="'quiet'"):
        start(place, kind, 1, tables=tables)
    start(place, kind, 2, tables=tables, drop_state=["quiet"]).close()


def test_a_changed_layout_is_refused_unless_given_up(place, kind):
    contents = filled(place, kind)

    def tables(store):
        default_tables(store)
        store.tables[0].fields[0]  # a table's fields stay as they are ...

    def changed(store):
        store.add_table("rows", "lookup", "string", [BytesField("total", "float64"), BytesField("last")])
        store.add_table("windows", "hourly", "start, string", [IntField("hourly")])
        store.add_table("timers", "quiet", "time, string")

    start(place, kind, 1, tables=tables).close()
    with pytest.raises(StateError, match="total: int64 → float64"):
        start(place, kind, 2, tables=changed)
    job = start(place, kind, 3, tables=changed, drop_state=["total"])
    rows = {key: row for (table, key), row in job.contents().items() if table == 0}
    assert rows == {key: (b"", row[1]) for (table, key), row in contents.items() if table == 0}
    job.close()


def test_changed_keys_are_refused(place, kind):
    filled(place, kind)

    def tables(store):
        store.add_table("rows", "lookup", "string, int64", [IntField("total"), BytesField("last")])
        store.add_table("windows", "hourly", "start, string", [IntField("hourly")])
        store.add_table("timers", "quiet", "time, string")

    with pytest.raises(StateError, match="string → string, int64"):
        start(place, kind, 1, tables=tables)


def test_a_backend_may_be_exchanged(place):
    contents = filled(place, "rocksdb")
    job = start(place, "memory", 1)
    assert job.contents() == contents
    job.checkpoint()
    job.close()
    job = start(place, "rocksdb", 2)
    assert job.contents() == contents
    job.close()
