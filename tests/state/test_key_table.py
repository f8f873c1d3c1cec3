"""The key table: lookups, rows, reuse, and what a failing field leaves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl._native.state.store import StateStore
from streamdsl._native.state.testing import BytesField, FailingField, IntField, TableView
from streamdsl.errors import InternalError

KEYS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"a", b"aa", b"\x00", b"\x00\x00", b"12345678", b"1" * 16, b"1" * 17]))


def view(*fields, shards=128):
    return TableView(StateStore("task", shards).add_table("rows", "lookup", "string", fields))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["insert", "insert", "batch", "remove", "set"]), st.lists(KEYS, min_size=1, max_size=5))))
def test_against_a_dict(steps):
    table = view(IntField("n"), BytesField("text"))
    model: dict[bytes, tuple[int, bytes]] = {}
    for step, (action, keys) in enumerate(steps):
        if action == "batch":
            for key, slot in zip(keys, table.lookup(keys), strict=True):
                assert table.key(slot) == key
                model.setdefault(key, (0, b""))
            continue
        for key in keys:
            slot = table.find(key)
            assert (slot is None) == (key not in model)
            if action == "remove" and slot is not None:
                table.remove(slot)
                del model[key]
            elif action != "remove":
                slot = table.slot(key)
                model.setdefault(key, (0, b""))
                if action == "set":
                    table.set_int(slot, 0, step)
                    table.set_bytes(slot, 1, key * step)
                    model[key] = step, key * step
    assert table.table.count == len(model)
    assert {table.key(s): (table.get_int(s, 0), table.get_bytes(s, 1)) for s in table.slots()} == model


def test_many_keys_found_again_after_many_were_removed():
    rng = random.Random(7)
    table = view(IntField("n"))
    keys = [b"account-%d" % i for i in range(30_000)]
    slots = dict(zip(keys, table.lookup(keys), strict=True))
    gone = set(rng.sample(keys, 15_000))
    for key in gone:
        table.remove(slots[key])
    for key in keys:
        assert table.find(key) == (None if key in gone else slots[key])
    new = [b"other-%d" % i for i in range(15_000)]
    assert set(table.lookup(new)) == {slots[key] for key in gone}  # their slots are used again


def test_memory_of_pages_that_have_emptied_is_given_back_and_used_again():
    table = view(IntField("n"), BytesField("text"))
    rng = random.Random(3)
    model = {}

    def put(key):
        slot = table.slot(key)
        assert (table.get_int(slot, 0), table.get_bytes(slot, 1)) == model.get(key, (0, b"")), "a row that is used again is new"
        model[key] = rng.randrange(1 << 60), key * 3
        table.set_int(slot, 0, model[key][0])
        table.set_bytes(slot, 1, model[key][1])
        return slot

    for i in range(60_000):
        put(b"first-%d" % i)
    assert table.released == 0
    for key in rng.sample(sorted(model), 52_000):
        table.remove(table.find(key))
        del model[key]
    # What comes and goes now takes the lowest rows, so that the last pages empty.
    for i in range(60_000):
        assert put(b"second-%d" % i) < 60_000
        for key in (b"first-%d" % i, b"second-%d" % (i - 5_000)):
            if i % 7 and key in model:
                table.remove(table.find(key))
                del model[key]
    for key in [key for key in model if key.startswith(b"first")]:
        if rng.random() < 0.99:  # the others are alone in their pages
            table.remove(table.find(key))
            del model[key]
    assert table.released == 0, "what is wanted between two barriers is kept"
    table.settle()
    table.settle()  # nobody has wanted it since
    assert table.released >= 20 * 1024
    for key in list(model):
        assert (table.get_int(table.find(key), 0), table.get_bytes(table.find(key), 1)) == model[key]
    for i in range(60_000 - len(model)):
        assert put(b"third-%d" % i) < 60_000
    assert table.released == 0
    assert {table.key(s): (table.get_int(s, 0), table.get_bytes(s, 1)) for s in table.slots()} == model


def test_one_batch_may_name_a_new_key_twice():
    table = view()
    keys = [b"a", b"b", b"a"] * 50 + [b"c"]
    slots = table.lookup(keys)
    assert len(set(slots)) == 3
    assert [table.key(slot) for slot in slots] == keys


def test_the_shard_comes_from_the_key_unless_it_is_given():
    table = view(shards=128)
    assert table.shard(table.slot(b"foobar")) == shard_of_key(b"foobar", 128)
    assert table.shard(table.slot(b"window of foobar", 17)) == 17


def test_a_field_that_cannot_begin_leaves_no_row():
    failing = FailingField("failing")
    table = view(IntField("n"), failing)
    table.slot(b"before")
    failing.fail_init = True
    with pytest.raises(ValueError, match="told to fail"):
        table.slot(b"key")
    failing.fail_init = False
    assert table.find(b"key") is None
    assert table.table.count == 1
    assert table.get_int(table.slot(b"key"), 0) == 0


def test_a_reused_row_is_new():
    table = view(IntField("n"), BytesField("text"))
    slot = table.slot(b"old")
    table.set_int(slot, 0, 5)
    table.set_bytes(slot, 1, b"x" * 100)
    table.remove(slot)
    assert table.slot(b"new") == slot
    assert (table.get_int(slot, 0), table.get_bytes(slot, 1)) == (0, b"")


def test_fields_come_before_the_first_key():
    store = StateStore("task", 8)
    table = store.add_table("rows", "lookup", "string", [IntField("n")])
    with pytest.raises(InternalError, match="twice"):
        table.add_field(IntField("n"))
    TableView(table).slot(b"key")
    with pytest.raises(InternalError, match="already holds rows"):
        table.add_field(IntField("m"))
    with pytest.raises(InternalError, match="two rows tables"):
        store.add_table("rows", "lookup")


def test_the_description_names_every_id():
    store = StateStore("task", 8)
    store.add_table("rows", "lookup", "string", [IntField("total"), BytesField("last")])
    store.add_table("timers", "quiet", "time, string")
    assert store.describe() == {
        "tables": [
            {"id": 0, "kind": "rows", "name": "lookup", "key": "string",
             "fields": [{"id": 0, "name": "total", "layout": "int64"}, {"id": 1, "name": "last", "layout": "bytes"}]},
            {"id": 1, "kind": "timers", "name": "quiet", "key": "time, string", "fields": []},
        ]
    }  # fmt: skip


def test_memory_counts_rows_and_keys():
    table = view(BytesField("text"))
    store = StateStore("task", 8)
    before = store.memory_bytes()
    rows = TableView(store.add_table("rows", "lookup", "string", [BytesField("text")]))
    rows.set_bytes(rows.slot(b"key"), 0, b"x" * 1_000_000)
    assert store.memory_bytes() - before >= 1_000_000
    assert table.table.count == 0


def test_closing_a_store_frees_every_row():
    store = StateStore("task", 8)
    rows = TableView(store.add_table("rows", "lookup", "string", [BytesField("text")]))
    for i in range(1000):
        rows.set_bytes(rows.slot(b"key %d" % i), 0, b"x" * i)
    rows.remove(rows.find(b"key 5"))
    store.begin_checkpoint(1)
    store.close()
    store.close()
    assert store.arena.used == 0
    assert store.counts() == {("rows", "lookup"): 0}
    assert store.stream.appended == 0
