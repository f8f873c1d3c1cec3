"""Functions of PyFlink. With `program` the one module of the package that imports it: Flink's Python runs them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyflink.common import Row
from pyflink.table import DataTypes
from pyflink.table.udf import ScalarFunction, TableFunction, udf, udtf

from streamdsl.flink.python.calls import Calls
from streamdsl.flink.python.function import MODULE, PythonFunction, PythonValues
from streamdsl.flink.python.values import Decoding, Encoding
from streamdsl.flink.python.wire import wire
from streamdsl.logical.types import is_list

if TYPE_CHECKING:
    from streamdsl.flink.job import FlinkJob

__all__ = ["data_type", "functions_of"]


def functions_of(job: FlinkJob) -> dict[str, Any]:
    """Return the functions of a job by their names, under ``_made`` what they are made of, under ``_processes`` its processors."""
    made: dict[str, Any] = {one.name: _values(one) if isinstance(one, PythonValues) else _table_function(one) for one in job.functions}
    made |= {"_made": {one.name: one for one in job.functions}, "_processes": {one.name: one for one in job.processes}}
    return made


class _Called(TableFunction):  # type: ignore[misc]
    """Calls one function of the topology.

    What travels to the workers is its name alone: they import the project's module themselves, as every worker does.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: Calls | None = None

    def open(self, function_context: Any) -> None:
        made: PythonFunction = importlib.import_module(MODULE)._made[self._name]
        self._calls = Calls(made, Row)

    def _rows(self, *values: Any) -> Iterable[tuple[Any, ...]]:
        assert self._calls is not None
        return self._calls(*values)

    #: The name by which PyFlink calls it.
    eval = _rows


class _Rows(TableFunction):  # type: ignore[misc]
    """Makes a row of a value, or none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self, function_context: Any) -> None:
        self._decoding = Decoding(importlib.import_module(MODULE)._made[self._name])

    def _rows(self, *given: Any) -> list[tuple[Any, ...]]:
        row = self._decoding(*given)
        return [] if row is None else [row]

    #: The name by which PyFlink calls it; so below.
    eval = _rows


class _Row(ScalarFunction):  # type: ignore[misc]
    """Makes a row of a value, as one column."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self, function_context: Any) -> None:
        self._decoding = Decoding(importlib.import_module(MODULE)._made[self._name])

    def _row(self, *given: Any) -> Any:
        row = self._decoding(*given)
        return None if row is None else Row(*row)

    eval = _row


class _Value(ScalarFunction):  # type: ignore[misc]
    """Makes a value of a row."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self, function_context: Any) -> None:
        self._encoding = Encoding(importlib.import_module(MODULE)._made[self._name])

    def _value(self, *given: Any) -> bytes:
        return self._encoding(*given)

    eval = _value


def _values(made: PythonValues) -> Any:
    if made.way == "value":
        return udf(_Value(made.name), result_type=DataTypes.BYTES())
    fields = [(field.name, data_type(field.name, field.type)) for field in made.columns.fields]
    if made.way == "rows":
        return udtf(_Rows(made.name), result_types=[type_ for _, type_ in fields])
    return udf(_Row(made.name), result_type=DataTypes.ROW([DataTypes.FIELD(name, type_) for name, type_ in fields]))


def _table_function(made: PythonFunction) -> Any:
    types = [data_type(field.name, field.type) for field in made.made.visible().fields]
    return udtf(_Called(made.name), result_types=types)


def data_type(name: str, type_: pa.DataType) -> Any:
    """Return the type of PyFlink in which a column goes from Python to Flink."""
    found = wire(name, type_).sql
    return _PLAIN[found]() if found in _PLAIN else _nested(type_)


_PLAIN = {
    "BIGINT": DataTypes.BIGINT,
    "STRING": DataTypes.STRING,
    "DOUBLE": DataTypes.DOUBLE,
    "BOOLEAN": DataTypes.BOOLEAN,
    "BYTES": DataTypes.BYTES,
}
_ITEMS = {
    pa.bool_(): DataTypes.BOOLEAN,
    pa.int8(): DataTypes.TINYINT,
    pa.int16(): DataTypes.SMALLINT,
    pa.int32(): DataTypes.INT,
    pa.int64(): DataTypes.BIGINT,
    pa.uint8(): DataTypes.SMALLINT,
    pa.uint16(): DataTypes.INT,
    pa.uint32(): DataTypes.BIGINT,
    pa.float32(): DataTypes.FLOAT,
    pa.float64(): DataTypes.DOUBLE,
    pa.string(): DataTypes.STRING,
    pa.large_string(): DataTypes.STRING,
    pa.binary(): DataTypes.BYTES,
    pa.large_binary(): DataTypes.BYTES,
}


def _nested(type_: pa.DataType) -> Any:
    if pa.types.is_struct(type_):
        fields = (type_.field(i) for i in range(type_.num_fields))
        return DataTypes.ROW([DataTypes.FIELD(field.name, _nested(field.type)) for field in fields])
    if pa.types.is_map(type_):
        return DataTypes.MAP(_nested(type_.key_type), _nested(type_.item_type))
    return DataTypes.ARRAY(_nested(type_.value_type)) if is_list(type_) else _ITEMS[type_]()
