"""evaluate: what an expression gives for a few values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from streamdsl.connectors.memory import memory
from streamdsl.dsl.topology import Topology
from streamdsl.errors import TopologyError
from streamdsl.expr import Operand, lit
from streamdsl.logical.expression import aggregations
from streamdsl.testing.driver import TopologyTestDriver

__all__ = ["evaluate"]


def evaluate(expression: Operand, /, **columns: Sequence[Any] | pa.Array) -> list[Any]:
    """Return the value of an expression for each row; an aggregate takes all rows for one key and gives one value.

    Parameters
    ----------
    expression : Expr
        With `.over(...)`, and `lag`, an aggregate gives a value for each row. The event time of row i is i ms.
    **columns : list or pyarrow.Array
        What it reads, equally long; the types are those that Arrow infers. Without columns there is one row.

    Raises
    ------
    TopologyError
        The expression, or the columns, are wrong.
    DataError
        It fails for a row.

    Examples
    --------
    >>> evaluate(col("price") * col("n"), price=[2.5, None], n=[2, 3])
    [5.0, None]
    >>> evaluate(col("n").sum(), n=[2, None, 3])
    [5]
    >>> evaluate(col("n").sum().over(expanding()), n=[2, None, 3])
    [2, 2, 5]
    """
    value = lit(expression).alias("value")
    try:
        rows = pa.table({name: pa.array(values) for name, values in (columns or {"row": [0]}).items()})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TopologyError(f"evaluate: the columns make no table: {error}", remedy="give lists of one type, equally long") from None
    topology = Topology("evaluate")
    stream = topology.stream(memory("rows", rows=rows))
    found = aggregations(value.node)
    summed = [one for one in found if one.frame is None and one.kind != "lag"]
    if summed:
        stream.key_by().aggregate(value, emit="batch").to(memory("values"))
    else:
        (stream.key_by() if found else stream).select(value).to(memory("values"))
    driver = TopologyTestDriver(topology, batch_rows=max(rows.num_rows, 1))
    driver.send_batch("rows", rows, timestamps=range(rows.num_rows))
    return [row["value"] for row in driver.read("values")]
