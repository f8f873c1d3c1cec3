"""Python functions: table functions of PyFlink, which make rows of each row."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from streamdsl.flink.python.function import PythonFunction, function_name
from streamdsl.flink.python.wire import wire
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import Translation, columns, select
from streamdsl.flink.values import Value
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.types import is_float
from streamdsl.schema import Field, Schema

__all__ = ["python_function", "taken_columns"]

#: What filter and peek give for a row that passes.
_PASSED: Final = Field("_passed", pa.bool_(), nullable=False)


def python_function(made: Translation, node: PythonFunctionNode) -> Relation:
    """A row beside those that the function makes of it.

    A table function, also for filters: a function in WHERE would see rows that a filter before it leaves out.
    """
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    if node.mode == "async":
        raise Refused(f"map_async({node.name})", "Flink SQL waits for no coroutines: use map(...) with a plain function, or run it here")
    if source.changes:
        raise Refused(f"the Python function {node.name} of the changes of a table", "compute columns of a table by expressions")
    function = _function_of(made, node, schema)
    made.function(function, f"{node.name}: a Python function, which Flink's Python calls")
    _tell(made, node)
    given = ", ".join(given_columns(function.given, source, "S"))
    names = function.made.names
    called = f"LATERAL TABLE({quoted(function.name)}({given})) AS F({', '.join(map(quoted, names))})"
    if node.output is not None:
        items, nan = taken_columns(function.made, "F")
        items += source.time_columns("S.")
    else:
        items, nan = [f"S.{name}" for name in columns(schema, source)], source.nan
        items += [f"F.{quoted(node.test)}"] if node.mode == "test" else []
    query = select(items, f"{quoted(source.name)} AS S, {called}")
    filled = frozenset() if node.output is not None else source.filled
    return made.view(node, query, like=source, nan=nan, filled=filled, items={} if node.output is not None else source.items)


def _function_of(made: Translation, node: PythonFunctionNode, schema: Schema) -> PythonFunction:
    if node.output is not None:
        output = node.output.visible()
    else:
        output = Schema((Field(node.test, pa.bool_(), nullable=False) if node.mode == "test" else _PASSED,))
    return PythonFunction(
        name=function_name(node.name, made.plan.numbers[id(node)]),
        step=node.name,
        mode=node.mode,
        function=node.function,
        given=schema.visible(),
        made=output,
        skips=node.errors == "skip",
    )


def _tell(made: Translation, node: PythonFunctionNode) -> None:
    if node.mode == "batches":
        made.differs("The function of map_batches gets batches of one row: Flink asks row by row.")
    if node.errors == "skip":
        made.differs('errors="skip" of a Python function: Flink leaves the row out, and logs the first one; nothing counts them.')


def given_columns(schema: Schema, source: Relation, alias: str) -> list[str]:
    """Return the columns of a relation as they go to Python."""
    found = []
    for field in schema.fields:
        type_ = source.items.get(field.name, field.type)
        if type_ != field.type:
            raise Refused(
                f"the column {field.name!r}, an item of a list, in a Python function", "give it its type first: with_columns(...cast(...))"
            )
        found.append(wire(field.name, field.type).given(Value(f"{alias}.{quoted(field.name)}", field.type)))
    return found


def taken_columns(schema: Schema, alias: str) -> tuple[list[str], frozenset[str]]:
    """Return what has come from Python as items of a select list, and the names of the floats: they may be NaN."""
    items = []
    for field in schema.fields:
        own = f"{alias}.{quoted(field.name)}"
        taken = wire(field.name, field.type).taken(own)
        items.append(own if taken == own else f"{taken} AS {quoted(field.name)}")
    return items, frozenset(field.name for field in schema.fields if is_float(field.type))
