"""Verbs of a stream that take lists and structs apart, drop equal rows, or keep the last ones as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from streamdsl.dsl.deduplicating import deduplicated
from streamdsl.dsl.exploding import exploded, unnested
from streamdsl.dsl.updates import last_rows, table_keys
from streamdsl.dsl.written import Written, arguments
from streamdsl.durations import Duration
from streamdsl.expr import Expr
from streamdsl.logical.node import Node

if TYPE_CHECKING:
    from streamdsl.dsl.keyed import KeyedStream
    from streamdsl.dsl.stream import Stream
    from streamdsl.dsl.table import Table
    from streamdsl.dsl.topology import Topology

__all__ = ["Reshaping"]


class Reshaping:
    """What a `Stream` has of such verbs."""

    _keyed = False

    if TYPE_CHECKING:
        _topology: Topology
        _node: Node
        _scope: str

        def _says(self, verb: str, text: str = "", *others: Stream) -> Written: ...
        def _plain(self, node: Node, written: Written) -> Stream: ...
        def _next(self, node: Node, written: Written) -> Self: ...
        def key_by(self, *columns: str | Expr) -> KeyedStream: ...

    def explode(self, column: str, *, index: str | None = None, empty_as_null: bool = False, keep_nulls: bool = True) -> Stream:
        """Make a row of each item of a list; the rows have no key afterwards.

        Parameters
        ----------
        column : str
            Holds the list, and the item afterwards.
        index : str, optional
            A new column: the item's place in the list, from 0; null in a row that stands for no item.
        empty_as_null : bool
            A list without items makes a row with null, otherwise none.
        keep_nulls : bool
            A null in place of a list makes a row with null, otherwise none.

        Examples
        --------
        >>> lists = [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}, {"id": 3, "tags": None}]
        >>> rows = Topology("t").stream(memory("rows", rows=lists)).explode("tags", index="place")
        >>> [tuple(row.values()) for row in rows.collect().to_pylist()]
        [(1, 'a', 0), (1, 'b', 1), (3, None, None)]
        """
        node = exploded(self._node, column, empty_as_null=empty_as_null, keep_nulls=keep_nulls, index=index)
        return self._plain(node, self._says("explode", arguments(column, index=index)))

    def unnest(self, *columns: str) -> Stream:
        """Put the fields of structs in place of the structs, under their own names; the rows have no key afterwards.

        Parameters
        ----------
        *columns : str
            Hold structs. Where one is null, so are its fields. One field is ``col("address").struct.field("city")``.

        Examples
        --------
        >>> rows = Topology("t").stream(memory("rows", rows=[{"id": 1, "home": {"city": "Lima"}}, {"id": 2, "home": None}]))
        >>> rows.unnest("home").collect().to_pylist()
        [{'id': 1, 'city': 'Lima'}, {'id': 2, 'city': None}]
        """
        return self._plain(unnested(self._node, columns), self._says("unnest", arguments(*columns)))

    @overload
    def deduplicate(self, *, on: None = None, within: Duration | None = None, name: str | None = None) -> Self: ...

    @overload
    def deduplicate(self, *, on: str | Expr | Sequence[str | Expr], within: Duration | None = None, name: str | None = None) -> Stream: ...

    def deduplicate(
        self, *, on: str | Expr | Sequence[str | Expr] | None = None, within: Duration | None = None, name: str | None = None
    ) -> Any:
        """Keep the first of equal records, by arrival; the others are dropped and counted.

        Parameters
        ----------
        on : str, Expr or a sequence of them
            What makes records equal; the rows have no key afterwards. Left out, the key of the stream does.
        within : duration
            A record is dropped if one that was kept lies less than this away in event time, before or after it. The state is freed as
            the watermark passes, and a record at or below the watermark is late: ``stream.output("late")`` has it. Without a
            time, a key is remembered for ever.
        name : str, optional
            Identity of the state.

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> rows = [{"id": 1, "at": 0}, {"id": 1, "at": 5}, {"id": 2, "at": 6}]
        >>> events = Topology("t").stream(memory("events", schema={"id": int, "at": int}, rows=rows), timestamp="at")
        >>> events.deduplicate(on="id", within="10m").collect().num_rows
        2
        """
        node, keyed = self._node, self._keyed
        if on is not None:
            columns = (on,) if isinstance(on, str | Expr) else tuple(on)
            node, keyed = self.key_by(*columns)._node, True
        node = deduplicated(node, keyed, within, name, self._scope)
        written = self._says("deduplicate", arguments(on=on, within=within, name=name))
        return self._next(node, written) if on is None else self._plain(node, written)

    def to_table(self, *, key: str | Sequence[str] | None = None, name: str | None = None) -> Table:
        """Keep the last row of each key, by arrival: a table. All that is made of it stays exact when a row takes another's place.

        Parameters
        ----------
        key : str or sequence of str, optional
            Columns of the key. Default: of windows that show their rows early the key's columns and the window's bounds, else the
            key of the stream.
        name : str, optional
            Identity of the state: every key's last row, for ever.

        Examples
        --------
        >>> from streamdsl import Topology, col, count, memory, tumbling
        >>> visits = [{"user": "a", "at": 1}, {"user": "b", "at": 2}, {"user": "a", "at": 3}]
        >>> stream = Topology("t").stream(memory("visits", {"user": str, "at": int}, visits), timestamp="at")
        >>> counts = stream.key_by("user").window(tumbling("1s"), emit="update").count()
        >>> most = counts.to_table().group_by("window_end").aggregate(most=col("count").max(), users=count())
        >>> most.collect().select(["most", "users", "op"]).to_pylist()[-1]
        {'most': 2, 'users': 2, 'op': 'replace'}
        """
        from streamdsl.dsl.table import Table

        keys = table_keys(self._node, self._keyed, key)
        node = last_rows(self._node, keys, None if name is None else f"{self._scope}{name}")
        return Table(self._topology, node, keys, self._says("to_table", arguments(key=key, name=name)))
