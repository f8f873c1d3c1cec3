"""The program of a project with processors: its statements, and keyed process functions between them. Imports PyFlink."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, StreamExecutionEnvironment
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.table import DataTypes, Schema, StreamTableEnvironment

from streamdsl.flink.python.function import MODULE
from streamdsl.flink.python.process import PythonProcess
from streamdsl.flink.python.processing import Processing
from streamdsl.flink.python.udf import data_type

if TYPE_CHECKING:
    from streamdsl.flink.job import FlinkJob

__all__ = ["run"]

#: The column with the event time of a row that a processor has made.
_AT = "_at"
#: The state with a row of the key: timers have none.
_KEY_ROW = "row"


def run(job: FlinkJob) -> None:
    """Run the statements of a job, and wait for its end."""
    tables = StreamTableEnvironment.create(StreamExecutionEnvironment.get_execution_environment())
    processes = {one.name: one for one in job.processes}
    for statement in job.statements:
        if statement.kind == "set":
            name, value = re.fullmatch(r"SET '(.*)' = '(.*)'", statement.text, re.S).groups()  # type: ignore[union-attr]
            tables.get_config().set(name, value.replace("''", "'"))
        elif statement.kind == "process":
            _between(tables, processes[statement.name])
        elif statement.kind != "insert":
            tables.execute_sql(statement.text)
    inserts = tables.create_statement_set()
    for statement in job.inserts:
        inserts.add_insert_sql(statement.text)
    inserts.execute().wait()


def _between(tables: Any, made: PythonProcess) -> None:
    """Put a processor between the view of its rows and those of its outputs."""
    width = len(made.given.names)
    keys = [made.given.names.index(name) for name in made.keys]
    rows = tables.to_data_stream(tables.from_path(f"`{made.rows}`"))
    types = {tag: _type_of(schema) for tag, _, schema in made.outputs}
    found = rows.key_by(lambda row: repr([row[at] for at in keys]), Types.STRING()).process(_Called(made.name, width, types), types[""])
    for tag, view, schema in made.outputs:
        stream = found if not tag else found.get_side_output(OutputTag(tag, types[tag]))
        declared = Schema.new_builder()
        for field in schema.fields:
            declared = declared.column(field.name, data_type(field.name, field.type))
        declared = declared.column(_AT, DataTypes.BIGINT())
        declared = declared.column_by_expression("_time", f"TO_TIMESTAMP_LTZ(`{_AT}`, 3)").watermark("_time", "SOURCE_WATERMARK()")
        tables.create_temporary_view(f"`{view}`", stream, declared.build())


def _type_of(schema: Any) -> Any:
    names = [*schema.names, _AT]
    kinds = [*(_stream_type(data_type(field.name, field.type)) for field in schema.fields), Types.LONG()]
    return Types.ROW_NAMED(names, kinds)


def _stream_type(kind: Any) -> Any:
    """Return a type of columns as one of streams."""
    name = type(kind).__name__
    plain = {
        "BigIntType": Types.LONG,
        "VarCharType": Types.STRING,
        "DoubleType": Types.DOUBLE,
        "FloatType": Types.FLOAT,
        "BooleanType": Types.BOOLEAN,
        "VarBinaryType": lambda: Types.PRIMITIVE_ARRAY(Types.BYTE()),
        "TinyIntType": Types.BYTE,
        "SmallIntType": Types.SHORT,
        "IntType": Types.INT,
    }
    if name in plain:
        return plain[name]()
    if name == "ArrayType":
        return Types.OBJECT_ARRAY(_stream_type(kind.element_type))
    if name == "MapType":
        return Types.MAP(_stream_type(kind.key_type), _stream_type(kind.value_type))
    return Types.ROW_NAMED([field.name for field in kind.fields], [_stream_type(field.data_type) for field in kind.fields])


class _Called(KeyedProcessFunction):  # type: ignore[misc]
    """Calls a processor of the topology; what travels to the workers is its name alone."""

    def __init__(self, name: str, width: int, types: dict[str, Any]) -> None:
        self._name, self._width = name, width
        self._tags = {tag: OutputTag(tag, kind) for tag, kind in types.items() if tag}

    def open(self, runtime_context: Any) -> None:
        made: PythonProcess = importlib.import_module(MODULE)._processes[self._name]
        self._keyed = _Keyed(runtime_context)
        self._keyed.declare(_KEY_ROW)
        self._processing = Processing(made, self._keyed, Row)

    def close(self) -> None:
        self._processing.close()

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        values = [value[at] for at in range(self._width)]
        self._keyed.timers = ctx.timer_service()
        if self._keyed.load(_KEY_ROW) is None:
            self._keyed.save(_KEY_ROW, values)
        yield from self._sent(self._processing.row(values, ctx.timestamp(), self._watermark(ctx)))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Any]:
        self._keyed.timers = ctx.timer_service()
        yield from self._sent(self._processing.timer(self._keyed.load(_KEY_ROW), timestamp, self._watermark(ctx)))

    def _sent(self, emitted: Any) -> Iterator[Any]:
        for tag, values, time in emitted:
            row = Row(*values, time)
            yield (self._tags[tag], row) if tag else row

    def _watermark(self, ctx: Any) -> int | None:
        found: int = ctx.timer_service().current_watermark()
        return None if found == -(2**63) else found


class _Keyed:
    """Flink's state and timers of the key at hand."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._states: dict[str, Any] = {}
        self.timers: Any = None

    def declare(self, name: str) -> None:
        self._states[name] = self._runtime.get_state(ValueStateDescriptor(name, Types.PICKLED_BYTE_ARRAY()))

    def load(self, name: str) -> Any:
        return self._states[name].value()

    def save(self, name: str, value: Any) -> None:
        if value is None:
            self._states[name].clear()
        else:
            self._states[name].update(value)

    def set_timer(self, at: int) -> None:
        self.timers.register_event_time_timer(at)

    def drop_timer(self, at: int) -> None:
        self.timers.delete_event_time_timer(at)

    def counter(self, name: str) -> Any:
        return self._runtime.get_metrics_group().counter(name)
