"""Look-ups whose server goes away and comes back: each row has its answer, or the error names the server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from streamdsl import StreamError, Topology, http, memory, postgres, redis
from tests.contract.link import Link

IDS = range(200)
NAME = {"name": str}


@pytest.fixture(params=["postgres", "redis", "http"])
def asked(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Link]]:
    """A look-up of names by id, and the link to its server."""
    place = f"t_{uuid.uuid4().hex[:12]}"
    server = request.getfixturevalue({"postgres": "database", "redis": "redis_server", "http": "receiver"}[request.param])
    link = Link(server.port)
    here, there = f":{server.port}", f":{link.port}"
    if request.param == "postgres":
        with psycopg.connect(server.dsn) as connection:
            connection.execute(f"CREATE TABLE {place} (id bigint PRIMARY KEY, name text)")
            connection.execute(f"INSERT INTO {place} SELECT i, 'name of ' || i FROM generate_series(0, 199) AS i")
        lookup: Any = postgres(server.dsn.replace(str(server.port), str(link.port)), place, schema={"id": int, **NAME})
    elif request.param == "redis":
        for i in IDS:
            server.client().hset(f"{place}:{i}", "name", f"name of {i}")
        lookup = redis(server.url.replace(here, there), place + ":{id}", schema=NAME)
    else:
        lookup = http(f"http://127.0.0.1{there}/names/{{id}}", schema=NAME)
    yield lookup, link
    link.close()


def job(lookup: Any, link: Link, retry: int, leaves_at: int = 60, back_after_s: float | None = None) -> tuple[Topology, Any]:
    """Return a job that asks for each row; at one of them the server leaves, and so long after that it comes back."""
    out, topology = memory("out"), Topology("asks")

    def leave(row: Any) -> None:
        if row.id == leaves_at:
            link.leave()
            if back_after_s is not None:
                threading.Timer(back_after_s, link.come_back).start()

    rows = topology.stream(memory("rows", {"id": int}, [{"id": i} for i in IDS])).peek(leave)
    rows.join_lookup(lookup, on="id", capacity=8, timeout="2s", retry=retry, on_miss="fail").to(out, name="out")
    return topology, out


def test_a_server_that_comes_back_is_asked_again(asked: tuple[Any, Link]) -> None:
    lookup, link = asked
    topology, out = job(lookup, link, retry=12, back_after_s=1.0)
    topology.run()
    assert [(row["id"], row["name"]) for row in out.rows()] == [(i, f"name of {i}") for i in IDS]


def test_a_server_that_stays_away_ends_the_run_by_name(asked: tuple[Any, Link]) -> None:
    lookup, link = asked
    topology, _ = job(lookup, link, retry=1)
    with pytest.raises(StreamError) as failed:
        topology.run()
    assert "join_lookup" in str(failed.value) and f"127.0.0.1:{link.port}" in str(failed.value)
