"""Where sinks write, each behind the same few words: the sink, what is there, and the server that can be cut off."""

from __future__ import annotations

import errno
import json
import os
import uuid
from abc import ABC, abstractmethod
from typing import Any

import psycopg
from deltalake import DeltaTable, write_deltalake

from streamdsl import Topology, delta, files, http, postgres, redis
from streamdsl.connectors.base import Sink
from streamdsl.connectors.delta import writer as delta_writer
from streamdsl.schema import Schema
from tests.contract.link import Link

#: Columns of every kind of name and with nulls.
SCHEMA = Schema.of({"id": int, "name": "str | None", "Größe №": "float | None", "ok": "bool | None"})
TEXTS = ["plain", None, 'a "quoted", one', "two\nlines\\", "Ñandú – 雪 🦙", "'; drop table x; --", "x" * 300, "%s {id}"]

#: What the tests are run with; `conftest.py` makes them.
PLACES = ["postgres", "postgres by key", "redis", "redis texts", "http", "delta", "delta in S3", "parquet", "parquet in S3"]

Row = dict[str, Any]


def rows(first: int, count: int = 10) -> list[Row]:
    return [
        {"id": i, "name": TEXTS[i % len(TEXTS)], "Größe №": None if i % 7 == 3 else i / 8, "ok": None if i % 5 == 4 else i % 2 == 0}
        for i in range(first, first + count)
    ]


class Place(ABC):
    """One place for a sink. `once`: each row is there once whatever dies; else at least once, and its key tells it apart."""

    once = True
    link: Any = None

    @abstractmethod
    def sink(self) -> Sink: ...

    @abstractmethod
    def anew(self) -> None:
        """Be another place, where nothing is, on the same server."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """Return what is there, by id."""

    def leave(self, patch: Any) -> None:
        """Have the server go away; where there is none, nothing can be written."""
        self.link.leave()

    def come_back(self, patch: Any) -> None:
        """Have it come back."""
        self.link.come_back()

    def wrong(self) -> list[tuple[Sink, Schema, str]]:
        """Return sinks and rows that do not fit each other, and what is said of them."""
        return []

    def locked(self, yes: bool) -> None:
        """Have a server that asks for no password refuse all the same."""

    def refused(self) -> tuple[Sink, str] | None:
        """Return a sink with a wrong password, and what is said of it; None: there are no passwords."""
        return None


class Database(Place):
    """A table of PostgreSQL."""

    delivery = "exactly_once"

    def __init__(self, server: Any) -> None:
        self.server = server
        self.anew()
        self.link = Link(server.port)
        self._dsn = server.dsn.replace(str(server.port), str(self.link.port))

    def anew(self) -> None:
        self.table = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS streamdsl_commits")

    def _made(self, table: str = "", dsn: str = "", **options: Any) -> Sink:
        given = {"delivery": self.delivery, "key": None if self.once else "id", **options}
        return postgres(dsn or self._dsn, table or self.table, **given)

    def sink(self) -> Sink:
        return self._made(create=True)

    def rows(self) -> list[Row]:
        with psycopg.connect(self.server.dsn) as connection:
            cursor = connection.execute(f'SELECT id, name, "Größe №", ok FROM {self.table} ORDER BY id')
            return [dict(zip(SCHEMA.names, row, strict=True)) for row in cursor.fetchall()]

    def wrong(self) -> list[tuple[Sink, Schema, str]]:
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE {self.table}_w (id bigint PRIMARY KEY, name int)")
        return [
            (self._made(f"{self.table}_x"), SCHEMA, "there is no table"),
            (self._made(f"{self.table}_w"), Schema.of({"id": int, "nam": int}), "no column 'nam'.*did you mean 'name'"),
            (self._made(f"{self.table}_w"), Schema.of({"id": int, "name": str}), "column 'name' is integer in the table"),
        ]

    def refused(self) -> tuple[Sink, str]:
        return self._made(dsn=self._dsn.replace("streamdsl:", "streamdsl:not")), "password authentication failed"


class DatabaseByKey(Database):
    """The same, at once and again."""

    once, delivery = False, "at_least_once"


class Keys(Place):
    """Hashes or texts in Redis."""

    once, kind = False, "hash"

    def __init__(self, server: Any) -> None:
        self.server = server
        self.anew()
        self.link = Link(server.port)
        self._url = server.url.replace(str(server.port), str(self.link.port))

    def anew(self) -> None:
        self.name = uuid.uuid4().hex

    def sink(self) -> Sink:
        return redis(self._url, f"{self.name}:{{id}}", kind=self.kind)  # type: ignore[arg-type]

    def rows(self) -> list[Row]:
        client = self.server.client()
        found = [self._row(client, key) for key in client.keys(f"{self.name}:*")]
        return sorted(found, key=lambda row: row["id"])

    def _row(self, client: Any, key: str) -> Row:
        kept = client.hgetall(key)
        read = {"id": int, "name": str, "Größe №": float, "ok": {"true": True, "false": False}.__getitem__}
        return {name: read[name](kept[name]) if name in kept else None for name in SCHEMA.names}  # type: ignore[operator]

    def wrong(self) -> list[tuple[Sink, Schema, str]]:
        self.server.client().lpush(f"{self.name}:0", "mine")
        return [
            (redis(self._url, f"{self.name}:{{nr}}"), SCHEMA, "'nr'"),
            *([(self.sink(), SCHEMA, "WRONGTYPE.*|another program")] if self.kind == "hash" else []),
        ]

    def refused(self) -> tuple[Sink, str]:
        return redis(self._url.replace("//:", "//:not"), "k:{id}"), "refuses the user or the password"


class Texts(Keys):
    kind = "string"

    def _row(self, client: Any, key: str) -> Row:
        found: Row = json.loads(client.get(key))
        return found


class Hook(Place):
    """A webhook; `receiver` is what it got."""

    once = False

    def __init__(self, receiver: Any) -> None:
        self.receiver = receiver
        self.link = Link(receiver.port)
        self.anew()

    def anew(self) -> None:
        self.receiver.clear()

    def sink(self) -> Sink:
        return http(f"http://127.0.0.1:{self.link.port}/hook", key="id", retry="300ms")

    def rows(self) -> list[Row]:
        return sorted(self.receiver.by_key().values(), key=lambda row: row["id"])

    def wrong(self) -> list[tuple[Sink, Schema, str]]:
        where = f"http://127.0.0.1:{self.link.port}"
        return [
            (http(where, key="nr"), SCHEMA, "'nr'"),
            (http(f"{where}/nowhere"), SCHEMA, "404"),
            (http(f"{where}/strict"), SCHEMA, "refuses row.*422.*no name"),
        ]

    def refused(self) -> tuple[Sink, str]:
        return http(f"http://127.0.0.1:{self.link.port}/secret", headers={"Authorization": "hunter2"}), "headers="


class Stored(Place):
    """What lies in files, of this machine or of an object store."""

    #: What writes a file of this machine.
    writes: tuple[Any, str]

    def __init__(self, folder: str, options: dict[str, str] | None = None, link: Any = None) -> None:
        self.folder, self.options, self.link = folder, options, link
        self.anew()

    def leave(self, patch: Any) -> None:
        if self.link is not None:
            self.link.leave()
            return

        def full(*arguments: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self._plain = getattr(*self.writes)
        patch.setattr(*self.writes, full)

    def come_back(self, patch: Any) -> None:
        if self.link is not None:
            self.link.come_back()
        else:
            patch.setattr(*self.writes, self._plain)

    def locked(self, yes: bool) -> None:
        self.link.refuse(yes)

    def refused(self) -> tuple[Sink, str] | None:
        return None if self.link is None else (self.sink(), "rights")


class Lake(Stored):
    """A table of Delta Lake."""

    writes = (delta_writer._File, "finish")

    def anew(self) -> None:
        self.uri = f"{self.folder}/{uuid.uuid4().hex}"

    def sink(self) -> Sink:
        return delta(self.uri, storage_options=self.options)

    def rows(self) -> list[Row]:
        found = DeltaTable(self.uri, storage_options=self.options).to_pyarrow_table().to_pylist()
        return sorted(found, key=lambda row: row["id"])

    def wrong(self) -> list[tuple[Sink, Schema, str]]:
        import pyarrow as pa

        write_deltalake(f"{self.uri}-w", pa.table({"id": [1], "name": [1]}), storage_options=self.options)
        other = delta(f"{self.uri}-w", storage_options=self.options)
        return [
            (other, Schema.of({"id": int, "nam": int}), "no column 'nam'"),
            (other, Schema.of({"id": int, "name": str}), "'name' is int64, and the stream's string"),
        ]


class Parts(Stored):
    """Parquet by partition."""

    writes = (os, "fsync")

    def anew(self) -> None:
        self.url = f"{self.folder}/{uuid.uuid4().hex}.parquet"

    def sink(self) -> Sink:
        return files(self.url, partition_by="ok")

    def rows(self) -> list[Row]:
        found = Topology("read").stream(files(self.url, SCHEMA)).collect().to_pylist()
        return sorted(found, key=lambda row: row["id"])

    def wrong(self) -> list[tuple[Sink, Schema, str]]:
        return [
            (files(self.url, partition_by="nr"), SCHEMA, "'nr'"),
            (files(self.url, partition_by="Größe №"), SCHEMA, "which is double"),
        ]
