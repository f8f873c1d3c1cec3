"""The arena: blocks keep their bytes, every byte is counted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdsl._native.state.testing import ArenaView

SIZES = st.one_of(st.integers(0, 300), st.integers(301, 40_000), st.sampled_from([32_768, 32_769, 65_536, 100_000]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["alloc", "alloc", "free", "realloc"]), SIZES, st.integers(0, 255)), max_size=60))
def test_blocks_keep_their_bytes(steps):
    view = ArenaView()
    blocks = []  # [address, size, fill, how many of its bytes are known]
    for action, size, fill in steps:
        if action == "alloc" or not blocks:
            blocks.append([view.alloc(size, fill - 128), size, fill, size])
        elif action == "free":
            address, old, _, _ = blocks.pop(fill % len(blocks))
            view.free(address, old)
        else:
            block = blocks[fill % len(blocks)]
            block[0] = view.realloc(block[0], block[1], size)
            block[1], block[3] = size, min(block[3], size)
        for address, _, value, known in blocks:
            assert address % 8 == 0
            assert view.read(address, known) == bytes([(value - 128) % 256]) * known
    assert view.arena.used >= sum(size for _, size, _, _ in blocks)
    assert view.arena.reserved >= view.arena.used
    for address, size, _, _ in blocks:
        view.free(address, size)
    assert view.arena.used == 0


def test_a_freed_block_is_used_again():
    view = ArenaView()
    address = view.alloc(100, 1)
    view.free(address, 100)
    assert view.alloc(97, 2) == address  # both round to 104 bytes


def test_many_blocks_do_not_take_more_than_they_need():
    view = ArenaView()
    for _ in range(20_000):
        view.alloc(64, 0)
    assert view.arena.used == 20_000 * 64
    assert view.arena.reserved <= view.arena.used + (1 << 20)
