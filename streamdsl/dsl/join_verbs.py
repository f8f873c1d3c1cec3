"""The verbs of streams that join."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamdsl.dsl.joining import UNSAID, Keys, Sides, Unsaid, asof_joined, check_time_column, interval_joined
from streamdsl.dsl.table_joining import table_joined
from streamdsl.dsl.written import Written, arguments
from streamdsl.durations import Duration
from streamdsl.errors import TopologyError
from streamdsl.logical.node import Node
from streamdsl.windows import Window

if TYPE_CHECKING:
    from streamdsl.dsl.stream import Stream
    from streamdsl.dsl.table import Table
    from streamdsl.dsl.topology import Topology

__all__ = ["JoinVerbs"]


class JoinVerbs:
    """Base of `Stream`."""

    _topology: Topology
    _node: Node
    _written: Written
    _scope: str
    _keyed = False

    if TYPE_CHECKING:

        def _plain(self, node: Node, written: Written) -> Stream: ...

        def _says(self, verb: str, text: str = "", *others: Stream) -> Written: ...

    def join(
        self,
        other: Stream | Table,
        *,
        on: Keys = None,
        how: str = "inner",
        within: Duration | Window | Unsaid | None = UNSAID,
        before: Duration | None = None,
        after: Duration | None = None,
        grace: Duration = 0,
        suffix: str = "_right",
        left_on: Keys = None,
        right_on: Keys = None,
        name: str | None = None,
    ) -> Stream:
        """Pair the rows with those of another stream that have the same key and are near in time, or with the row of a table.

        A pair of two streams' rows is as late as the later of them. The rows have no key afterwards.

        With a table only the stream's rows make rows, each beside the row that the table has for its key then. `on` is the table's
        key, `how` "inner" or "left"; `within`, `before`, `after` and `grace` mean nothing. Bounded inputs are read in event-time
        order, the table first at equal times.

        Parameters
        ----------
        other : Stream or Table
            The right side; the stream itself is welcome.
        on : str or sequence of str
            Columns that are equal in a pair (default: the key that both streams have). Rows in which one is null match nothing.
        how : "inner" | "left" | "right" | "outer"
            Which rows come out although they match nothing, once, with nulls in place of the other side: none, those of the left,
            of the right, of both. They wait until the watermark says that nothing can match them any more.
        within : duration or window, optional
            How far apart in time the two rows may be, both ways, inclusive. None: as far as they like; then all rows are kept.
            ``tumbling("1h")`` or ``hopping("1h", "10m")``: both rows lie in the same window; what matches nothing in a window comes
            out when it closes. In hopping windows two rows meet once in each window that holds both.
        before, after : duration, optional
            In place of `within`: how far before and after the left row the right one may be. Either may be negative.
        grace : duration
            How long behind the watermark a row is still taken.
        suffix : str
            Is added to columns of the right side whose names the left one has too.
        left_on, right_on : str or sequence of str
            In place of `on`, where the columns are called differently. Those of the right side are left out of the output.
        name : str, optional
            Identity of the state.

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> topology = Topology("t")
        >>> orders = memory("orders", {"id": int, "at": int}, [{"id": 1, "at": 1_000}, {"id": 2, "at": 2_000}])
        >>> payments = memory("payments", {"id": int, "at": int, "paid": int}, [{"id": 1, "at": 3_000, "paid": 20}])
        >>> left = topology.stream(orders, timestamp="at")
        >>> right = topology.stream(payments, timestamp="at")
        >>> left.join(right.drop("at"), on="id", how="left", before="0s", after="10s").collect().to_pylist()
        [{'id': 1, 'at': 1000, 'paid': 20}, {'id': 2, 'at': 2000, 'paid': None}]
        """
        from streamdsl.dsl.table import Table

        if isinstance(other, Table):
            times = {"within": None if within is UNSAID else within, "before": before, "after": after, "grace": grace or None}
            return self._join_table(other, on, how, suffix, left_on, right_on, name, times)
        self._check_other("join", other)
        keyed = (self._keyed, other._keyed)
        sides = Sides.of("join", self._node, other._node, keyed, on, left_on, right_on)
        node = interval_joined(sides, how, within, before, after, grace, suffix, name, self._scope)
        given = {
            "on": on,
            "left_on": left_on,
            "right_on": right_on,
            "how": how,
            "before": before,
            "after": after,
            "within": within if isinstance(within, Unsaid) is False else None,
            "grace": grace or None,
            "name": name,
        }
        return self._plain(node, self._says("join", arguments(**given), other))

    def _join_table(
        self,
        other: Table,
        on: Keys,
        how: str,
        suffix: str,
        left_on: Keys,
        right_on: Keys,
        name: str | None,
        times: Mapping[str, Any],
    ) -> Stream:
        for given, value in times.items():
            if value is not None:
                raise TopologyError(
                    f"join: {given}= means nothing where the right side is a table: its row at that moment counts",
                    remedy=f"leave {given}= out, or join with a stream; join_asof takes the latest row at the record's time",
                )
        if other._topology is not self._topology:
            raise TopologyError("join: the stream and the table belong to different topologies")
        node = table_joined(self._node, self._keyed, other._node, other.keys, on, left_on, right_on, how, suffix, name, self._scope)
        shown = arguments(on=on, left_on=left_on, right_on=right_on, how=how, name=name)
        return self._plain(node, Written("join", shown, self._written, (other._written,)))

    def join_asof(
        self,
        other: Stream,
        *,
        by: Keys = None,
        on: str | None = None,
        how: str = "left",
        tolerance: Duration | None = None,
        allow_exact: bool = True,
        suffix: str = "_right",
        left_by: Keys = None,
        right_by: Keys = None,
        name: str | None = None,
    ) -> Stream:
        """Put beside each row the latest row of another stream that has the same key, at or before the row's event time.

        A row leaves when the watermark has reached its time: all rows of the other stream up to it are there then, in whatever
        order they came. The rows have no key afterwards.

        Parameters
        ----------
        other : Stream
            The right side.
        by : str or sequence of str
            Columns that are equal (default: the key that both streams have).
        on : str, optional
            The column of the event time, on both sides. It need not be given: rows are compared by event time.
        how : "left" | "inner"
            Whether rows for which nothing is found come out, with nulls.
        tolerance : duration, optional
            How much earlier the other row may be.
        allow_exact : bool
            Whether the other row may be of the same time.
        suffix : str
            Is added to columns of the right side whose names the left one has too.
        left_by, right_by : str or sequence of str
            In place of `by`, where the columns are called differently.
        name : str, optional
            Identity of the state.

        Examples
        --------
        >>> from streamdsl import Topology, memory
        >>> topology = Topology("t")
        >>> trades = memory("trades", {"ticker": str, "at": int}, [{"ticker": "A", "at": 5}])
        >>> quotes = memory("quotes", {"ticker": str, "at": int, "bid": float}, [{"ticker": "A", "at": 4, "bid": 1.5}])
        >>> left, right = topology.stream(trades, timestamp="at"), topology.stream(quotes, timestamp="at")
        >>> left.join_asof(right, by="ticker", tolerance="2ms").collect().to_pylist()
        [{'ticker': 'A', 'at': 5, 'at_right': 4, 'bid': 1.5}]
        """
        self._check_other("join_asof", other)
        if on is not None:
            check_time_column("join_asof", self._node, on)
            check_time_column("join_asof", other._node, on)
        sides = Sides.of(
            "join_asof", self._node, other._node, (self._keyed, other._keyed), by, left_by, right_by, ("by", "left_by", "right_by")
        )
        node = asof_joined(sides, how, tolerance, allow_exact, suffix, name, self._scope)
        shown = arguments(
            by=by,
            left_by=left_by,
            right_by=right_by,
            how=None if how == "left" else how,
            tolerance=tolerance,
            allow_exact=None if allow_exact else False,
            name=name,
        )
        return self._plain(node, self._says("join_asof", shown, other))

    def _check_other(self, verb: str, other: Any) -> None:
        from streamdsl.dsl.stream import Stream

        if not isinstance(other, Stream):
            remedy = "a table has .to_stream()" if hasattr(other, "to_stream") else "give another stream of the topology"
            raise TopologyError(f"{verb}: {other!r} is not a stream", remedy=remedy)
        if other._topology is not self._topology:
            raise TopologyError(f"{verb}: the streams belong to different topologies")
