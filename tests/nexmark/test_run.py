"""The command line of the example, its generator, and what generated events do not show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

from examples.nexmark.events import SCHEMAS
from examples.nexmark.generator import BASE_TIME, generate
from examples.nexmark.run import main, run
from streamdsl import Config, memory
from tests.nexmark.oracle import answer, answers, rows


def test_the_same_seed_gives_the_same_events() -> None:
    assert list(generate(1_000, seed=3)) == list(generate(1_000, seed=3))
    assert generate(1_000, seed=3).bid != generate(1_000, seed=4).bid


def test_events_are_as_the_benchmark_has_them() -> None:
    events = generate(50_000)
    assert (events.person.num_rows, events.auction.num_rows, events.bid.num_rows) == (1_000, 3_000, 46_000)
    assert events.bid["dateTime"][-1].as_py() == BASE_TIME + 4_999
    known = set(events.auction["id"].to_pylist())
    unknown = [auction for auction in events.bid["auction"].to_pylist() if auction not in known]
    assert 0 < len(unknown) < 100, "a few bids are for auctions that never come"


def test_disorder_moves_arrivals_and_nothing_else() -> None:
    ordered, disordered = generate(10_000), generate(10_000, disorder_ms=200)
    assert disordered.bid != ordered.bid
    assert disordered.bid.sort_by("n") == ordered.bid
    times = disordered.bid["dateTime"].to_pylist()
    highest = 0
    for time in times:
        highest = max(highest, time)
        assert time >= highest - 200


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_the_command_line(tmp_path: Path, suffix: str, capsys: Any) -> None:
    events = generate(5_000, rate=500)
    for name, table in events:
        if suffix == "parquet":
            pq.write_table(table, tmp_path / f"{name}.parquet")
        else:
            lines = [json.dumps(row) for row in table.to_pylist()]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
            assert pj.read_json(tmp_path / f"{name}.jsonl").num_rows == table.num_rows
    output = tmp_path / "out.parquet"
    assert main(["--query", "q5", "--input", str(tmp_path), "--output", str(output), "--parallelism", "2"]) == 0
    assert rows(pq.read_table(output)) == answer(answers(events), "q5")
    assert main(["--query", "q2", "--input", str(tmp_path)]) == 0
    assert "rows in" in capsys.readouterr().out


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no person\.parquet"):
        main(["--query", "q0", "--input", str(tmp_path)])


URLS = ["", "channel_id=7", "https://x/?a=1&channel_id=9&b=2", "https://x/?channel_id=5", "a&channel_id=", "a/b/c/d", "a/b/c/d//f/g"]


@pytest.mark.parametrize("query", ["q21", "q22"])
def test_urls_and_channels_that_the_generator_does_not_make(query: str) -> None:
    channels = ["apple", "GOOGLE", "FaceBook", "Baidu", "channel-1", ""]
    bids = [
        {"n": n, "auction": 1, "bidder": 2, "price": 3, "channel": channel, "url": url, "dateTime": BASE_TIME + n, "extra": ""}
        for n, (channel, url) in enumerate((channel, url) for channel in channels for url in URLS)
    ]
    found = run(query, {"bid": memory("bid", schema=SCHEMAS["bid"], rows=bids)}, Config(state_backend="memory"))
    assert rows(found) == answer(answers([("bid", pa.Table.from_pylist(bids))]), query)
