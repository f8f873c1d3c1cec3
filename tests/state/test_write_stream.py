"""The write stream between barriers: what stands in it, and in which order."""

from __future__ import annotations

import random
import struct

import pytest

from streamdsl._native.state.store import StateStore
from streamdsl._native.state.stream_reader import StreamReader
from streamdsl._native.state.testing import BytesField, FailingField, IntField, TableView, want_applied


def make(*fields):
    store = StateStore("task", 8)
    table = TableView(store.add_table("rows", "lookup", "string", fields or [IntField("n")]))
    return store, table, StreamReader(store.stream)


def decoded(data):
    """The entries of a journal, as (key without shard and table, int value | None)."""
    data = bytes(data)  # it is the reader's
    found, at = [], 0
    while at < len(data):
        kind, key_size, value_size = struct.unpack_from("<III", data, at)
        key, value = data[at + 16 : at + 12 + key_size], data[at + 12 + key_size : at + 12 + key_size + value_size]
        found.append((key, None if kind == 2 else int.from_bytes(value[6:14], "little")))
        at += 12 + key_size + value_size
    return found


def everything(reader):
    """What the stream holds: between MARKs the last version of each key, by key; both readers pass it."""
    found, run = [], {}
    while (head := reader.peek_journal(60)) is not None:
        if isinstance(head, int):
            found += [*sorted(run.items()), head]
            run = {}
        else:
            run.update(decoded(head))
        reader.confirm_journal()
    while reader.peek_database(2) is not None:
        reader.confirm_database()
    return found + sorted(run.items())


def pass_journal(reader):
    while reader.peek_journal(1000) is not None:
        reader.confirm_journal()


def applied(reader, rows=2):
    """What the database gets."""
    found = []
    while (head := reader.peek_database(rows)) is not None:
        found += [(key[4:], None if value is None else int.from_bytes(value[6:14], "little")) for key, value in head]
        reader.confirm_database()
    return found


def checkpoint(store, checkpoint_id):
    store.begin_checkpoint(checkpoint_id)
    assert store.drain_some(1000)


def test_nothing_leaves_before_a_barrier():
    store, table, reader = make()
    table.set_int(table.slot(b"a"), 0, 1)
    assert everything(reader) == []
    checkpoint(store, 1)
    assert everything(reader) == [(b"a", 1), 1]


def test_only_changed_rows_are_written_again():
    store, table, reader = make()
    for key in (b"a", b"b"):
        table.set_int(table.slot(key), 0, 1)
    checkpoint(store, 1)
    everything(reader)
    table.set_int(table.slot(b"b"), 0, 2)
    checkpoint(store, 2)
    assert everything(reader) == [(b"b", 2), 2]
    checkpoint(store, 3)
    assert everything(reader) == [3]


def test_a_row_changed_after_the_barrier_is_saved_as_it_was():
    store, table, reader = make()
    slot = table.slot(b"a")
    table.set_int(slot, 0, 1)
    store.begin_checkpoint(1)
    table.set_int(slot, 0, 2)
    table.set_int(table.slot(b"new"), 0, 9)
    assert store.drain_some(1000)
    assert everything(reader) == [(b"a", 1), 1]
    checkpoint(store, 2)
    assert [item for item in everything(reader) if item != 2] in ([(b"a", 2), (b"new", 9)], [(b"new", 9), (b"a", 2)])


def test_a_delete_after_the_barrier_waits_for_the_next():
    store, table, reader = make()
    for key in (b"a", b"b"):
        table.set_int(table.slot(key), 0, 1)
    checkpoint(store, 1)
    everything(reader)
    table.set_int(table.find(b"a"), 0, 2)
    store.begin_checkpoint(2)
    table.remove(table.find(b"a"))
    table.remove(table.find(b"b"))
    assert store.drain_some(1000)
    assert everything(reader) == [(b"a", 2), 2]
    checkpoint(store, 3)
    assert everything(reader) == [(b"a", None), (b"b", None), 3]


def test_a_key_made_again_survives_its_delete():
    store, table, reader = make()
    table.set_int(table.slot(b"a"), 0, 1)
    checkpoint(store, 1)
    everything(reader)
    table.remove(table.find(b"a"))
    table.set_int(table.slot(b"a"), 0, 7)
    checkpoint(store, 2)
    assert everything(reader) == [(b"a", 7), 2]


def test_a_key_that_came_and_went_costs_nothing():
    store, table, reader = make()
    table.remove(table.slot(b"a"))
    checkpoint(store, 1)
    assert everything(reader) == [1]


def test_keys_that_come_and_go_without_barriers_do_not_pile_up():
    store, table, _ = make()
    for i in range(10_000):
        table.remove(table.slot(b"key %d" % i))
    assert store.memory_bytes() < 400_000


def test_a_slot_that_died_before_a_barrier_serves_its_next_row_well():
    for barriers in (0, 1, 2, 3):
        store, table, reader = make()
        table.remove(table.slot(b"a"))
        for checkpoint_id in range(barriers):
            checkpoint(store, checkpoint_id + 1)
        everything(reader)
        table.set_int(table.slot(b"b"), 0, 5)
        checkpoint(store, 9)
        assert everything(reader) == [(b"b", 5), 9]


def test_a_slot_that_dies_while_it_is_pending_serves_its_next_row_well():
    store, table, reader = make()
    table.remove(table.slot(b"a"))
    store.begin_checkpoint(1)
    table.set_int(table.slot(b"b"), 0, 5)  # the pending list still names the slot
    assert store.drain_some(10)
    assert everything(reader) == [1]
    checkpoint(store, 2)
    assert everything(reader) == [(b"b", 5), 2]


def test_a_barrier_finishes_the_one_before():
    store, table, reader = make()
    for i in range(10):
        table.set_int(table.slot(b"%d" % i), 0, i)
    store.begin_checkpoint(1)
    assert not store.drain_some(3)
    store.begin_checkpoint(2)
    assert store.drain_some(1000)
    found = everything(reader)
    assert found[-2:] == [1, 2]
    assert sorted(found[:-2]) == [(b"%d" % i, i) for i in range(10)]


def test_draining_stops_where_it_is_told():
    store, table, _ = make()
    for i in range(10):
        table.slot(b"%d" % i)
    store.begin_checkpoint(1)
    for appended in (4, 8):
        assert not store.drain_some(4)
        assert store.stream.appended == appended
    assert store.drain_some(4)
    assert store.stream.appended == 11
    assert store.drain_some(4)


def test_the_last_version_of_a_key_wins_within_a_run():
    store, table, reader = make()
    table.set_int(table.slot(b"a"), 0, 1)
    checkpoint(store, 1)
    table.remove(table.find(b"a"))
    store.begin_checkpoint(2)
    table.set_int(table.slot(b"a"), 0, 5)
    store.begin_checkpoint(3)
    assert store.drain_some(10)
    assert everything(reader) == [(b"a", 1), 1, (b"a", None), 2, (b"a", 5), 3]


def test_the_database_gets_entries_in_key_order():
    store, table, reader = make()
    keys = [b"%d" % (i * 7919 % 1000) for i in range(300)] + [b"x" * n for n in range(20)]
    for key in keys:
        table.slot(key)
    checkpoint(store, 1)
    pass_journal(reader)
    seen = []
    while (head := reader.peek_database(7)) is not None:
        seen += [key for key, _ in head]
        reader.confirm_database()
    assert seen == sorted(seen)  # shard, table and key
    assert sorted(key[4:] for key in seen) == sorted(set(keys))


def test_the_database_never_overtakes_the_journal():
    store, table, reader = make()
    table.slot(b"a")
    checkpoint(store, 1)
    assert reader.peek_database(10) is None
    assert isinstance(reader.peek_journal(1000), memoryview)
    assert reader.peek_database(10) is None  # seen is not passed
    reader.confirm_journal()
    assert applied(reader) == [(b"a", 0)]
    assert store.stream.bytes_waiting == 20  # the MARK


def test_several_versions_of_a_key_become_one_across_marks():
    store, table, reader = make()
    for i in range(50):
        for key in (b"a", b"b"):
            table.set_int(table.slot(key), 0, i)
        if i % 10 == 9:
            table.remove(table.find(b"b"))
        checkpoint(store, i + 1)
        pass_journal(reader)
    assert reader.backlog == store.stream.bytes_waiting > 2000
    assert applied(reader) == [(b"a", 49), (b"b", None)]
    assert reader.backlog == store.stream.bytes_waiting == 0


def test_the_journal_has_every_version_as_it_came():
    store, table, reader = make()
    for i in range(3):
        table.set_int(table.slot(b"a"), 0, i)
        checkpoint(store, i + 1)
    seen = []
    while (head := reader.peek_journal(1000)) is not None:
        seen += [head] if isinstance(head, int) else decoded(head)
        reader.confirm_journal()
    assert seen == [(b"a", 0), 1, (b"a", 1), 2, (b"a", 2), 3]


def test_a_peek_repeats_itself_until_it_is_confirmed():
    store, table, reader = make()
    for key in (b"a", b"b", b"c"):
        table.slot(key)
    checkpoint(store, 1)
    assert reader.peek_journal(10) == reader.peek_journal(10)
    assert len(decoded(reader.peek_journal(10))) == 1  # at least one entry
    pass_journal(reader)
    first = read(reader.peek_database(2))
    assert read(reader.peek_database(2)) == first
    reader.confirm_database()
    assert reader.applying
    assert sorted(first + applied(reader)) == [(b"a", 0), (b"b", 0), (b"c", 0)]
    assert not reader.applying


def test_marks_alone_are_passed_without_a_word():
    store, _, reader = make()
    for i in range(3):
        checkpoint(store, i + 1)
    pass_journal(reader)
    assert reader.backlog == 60
    assert reader.peek_database(10) is None
    assert (reader.backlog, store.stream.applied_bytes) == (0, 60)


def test_the_readers_agree_with_a_dict_whatever_their_pace():
    draw = random.Random(7)
    for _ in range(30):
        store, table, reader = make(IntField("n"), BytesField("text"))
        model, journal, database = {}, {}, {}
        for checkpoint_id in range(1, 30):
            for _ in range(draw.randrange(30)):
                key = b"key %d" % draw.randrange(12)
                slot = table.slot(key)
                table.set_int(slot, 0, draw.randrange(1000))
                table.set_bytes(slot, 1, b"x" * draw.choice([0, 10, 200_000]))
                model[key] = table.get_int(slot, 0)
                if draw.random() < 0.2:
                    table.remove(slot)
                    del model[key]
            checkpoint(store, checkpoint_id)
            for _ in range(draw.choice([0, 3, 1000])):
                head = reader.peek_journal(draw.choice([1, 1000, 1 << 20]))
                if isinstance(head, memoryview):
                    journal.update(decoded(head))
                reader.confirm_journal()
                if draw.random() < 0.1 and (rows := reader.peek_database(draw.choice([1, 5]))):
                    database.update(read(rows))
                    reader.confirm_database()
        while (head := reader.peek_journal(1000)) is not None:
            if isinstance(head, memoryview):
                journal.update(decoded(head))
            reader.confirm_journal()
        while (rows := reader.peek_database(3)) is not None:
            database.update(read(rows))
            reader.confirm_database()
        for found in (journal, database):
            assert {key: value for key, value in found.items() if value is not None} == model
        assert store.stream.bytes_waiting == 0


def read(rows):
    return [(key[4:], None if value is None else int.from_bytes(value[6:14], "little")) for key, value in rows]


def test_bytes_wait_until_both_have_read_them():
    store, table, reader = make()
    table.slot(b"a")
    checkpoint(store, 1)
    waiting = store.stream.bytes_waiting
    assert waiting > 0
    pass_journal(reader)
    assert store.stream.bytes_waiting == waiting
    applied(reader)
    assert store.stream.bytes_waiting == 0


def test_bytes_are_counted_as_they_come_and_as_they_are_applied():
    store, table, reader = make()
    table.slot(b"a")
    checkpoint(store, 1)
    first = store.stream.appended_bytes
    assert (first, store.stream.applied_bytes) == (store.stream.bytes_waiting, 0)
    everything(reader)
    table.slot(b"b")
    checkpoint(store, 2)
    assert store.stream.appended_bytes == 2 * first
    assert store.stream.applied_bytes == first
    everything(reader)
    assert store.stream.applied_bytes == 2 * first


def test_a_row_that_cannot_be_written_stays_pending():
    failing = FailingField("failing")
    store, table, reader = make(IntField("n"), failing)
    for key in (b"a", b"b", b"c"):
        table.slot(key)
    store.begin_checkpoint(1)
    failing.fail_write = True
    with pytest.raises(ValueError, match="told to fail"):
        store.drain_some(100)
    failing.fail_write = False
    assert store.drain_some(100)
    *rows, mark = everything(reader)
    assert (sorted(rows), mark) == ([(b"a", 0), (b"b", 0), (b"c", 0)], 1)


def test_long_values_and_keys():
    store, table, reader = make(BytesField("text"))
    key, value = b"k" * 70_000, b"v" * 3_000_000
    table.set_bytes(table.slot(key), 0, value)
    checkpoint(store, 1)
    pass_journal(reader)
    [(stored_key, stored)] = reader.peek_database(10)
    assert (stored_key[4:], stored[6:]) == (key, value)


def test_little_stays_in_the_stream_until_it_is_much_or_somebody_waits_for_it():
    store, table, _ = make()
    reader = StreamReader(store.stream, gather=600)

    def change(keys, checkpoint_id):
        for key in keys:
            slot = table.slot(b"%04d" % key)
            table.touch(slot)
            table.set_int(slot, 0, key)
        store.begin_checkpoint(checkpoint_id)
        assert not store.drain_some(5)

    change(range(9), 7)  # 5 rows of 34 bytes, no MARK yet
    assert reader.peek_journal(1000) is None
    assert not store.drain_some(2) and reader.peek_journal(1000) is None
    want_applied(store.stream)
    assert len(decoded(reader.peek_journal(1000))) == 7, "the database is to come nearer"
    pass_journal(reader)
    assert store.drain_some(5)
    assert decoded(reader.peek_journal(1000)) == [(b"%04d" % key, key) for key in (7, 8)], "a MARK stands behind them"
    reader.confirm_journal()
    assert reader.peek_journal(1000) == 7
    reader.confirm_journal()
    assert len(applied(reader)) == 9
    change(range(30), 8)
    assert reader.peek_journal(1000) is None
    while not store.drain_some(5):
        if (passed := reader.peek_journal(10_000)) is not None:
            assert store.stream.appended - 10 >= len(decoded(passed)) >= 600 // 36, "enough"
            break
    else:
        pytest.fail("nothing came before the MARK")
    reader.confirm_journal()


def test_segments_are_used_again():
    store, table, reader = make(BytesField("text"))
    for round in range(1, 9):
        for key in range(40):
            slot = table.slot(b"%04d" % key)
            table.touch(slot)
            table.set_bytes(slot, 0, bytes([round, key]) * 50_000)
        store.begin_checkpoint(round)
        while not store.drain_some(1):
            pass_journal(reader)
        pass_journal(reader)
        found = []
        while (head := reader.peek_database(3)) is not None:
            found += [value[6:] for _, value in head]
            reader.confirm_database()
        assert sorted(found) == [bytes([round, key]) * 50_000 for key in range(40)]  # they come by shard
        assert store.stream.bytes_waiting == 0
