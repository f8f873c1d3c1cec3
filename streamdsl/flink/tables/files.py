"""Files as tables: JSON lines, CSV and Parquet."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.quoting import quoted, text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.tables.declared import Declared
from streamdsl.flink.translation import Translation, conditions
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import failing
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.types import is_decimal, is_string, is_time
from streamdsl.schema import Field, Schema

__all__ = ["sink", "source"]

#: Flink wants decimals of at most so many digits to be whole numbers.
_FEW_DIGITS: Final = 18
#: The format works with classes of Hadoop, which Flink has not.
_PARQUET: Final = (
    "org.apache.flink:flink-sql-parquet:2.2.0",
    "org.apache.hadoop:hadoop-client-api:3.3.6",
    "org.apache.hadoop:hadoop-client-runtime:3.3.6",
)


def source(made: Translation, node: SourceNode, files: Any, skips: bool) -> Declared:
    """Describe files that are read."""
    asked = [name for name in node.columns if name not in node.declared]
    if any(name not in ("_topic", "_key", "_timestamp", "_headers", "_deleted") for name in asked):
        raise Refused("the columns _partition and _offset of files", "Flink does not number the rows of a file: leave them out")
    path = _path_of(files.paths)
    given = {"connector": "filesystem", "path": path}
    if re.search(r"[*?\[]", os.path.basename(path)) and not os.path.exists(path):
        given |= _by_pattern(path)
    # Files have no keys, no headers and no time of their own.
    metadata = {
        "_deleted": "`_deleted` AS FALSE",
        "_topic": "`_topic` STRING METADATA FROM 'file.path' VIRTUAL",
        "_key": "`_key` AS CAST(NULL AS BYTES)",
        "_timestamp": "`_timestamp` AS CAST(NULL AS TIMESTAMP_LTZ(3))",
        "_headers": "`_headers` AS CAST(NULL AS ARRAY<ROW<`name` STRING, `value` STRING>>)",
    }
    if files.format == "json":
        given |= {"format": "json", "json.timestamp-format.standard": "ISO-8601"}
        return Declared(given | ({"json.ignore-parse-errors": "true"} if skips else {}), metadata)
    if files.format == "parquet":
        return _parquet_source(made, node, given, metadata)
    if files.format == "csv":
        return _csv(made, node, given, metadata, skips)
    raise Refused(f"files of the format {files.format!r}", "use JSON lines, CSV or Parquet")


def _parquet(made: Translation, name: str, schema: Schema) -> dict[str, str]:
    made.needs(*_PARQUET)
    if any(is_time(field.type) for field in schema.fields):
        made.differs(f"Times before 1970 in the Parquet files of {name!r} end a Flink job.")
    # Without it, times are those of the clock of the machine.
    return {"format": "parquet", "parquet.utc-timezone": "true"}


def _parquet_source(made: Translation, node: SourceNode, given: Mapping[str, str], metadata: Mapping[str, str]) -> Declared:
    """Flink reads decimals of few digits only where they are whole numbers inside; those of many are bytes, as most writers have them."""
    fields = {field.name: field for field in node.declared.fields if not field.hidden}
    for field in fields.values():
        if pa.types.is_nested(field.type) and _has_decimals(field.type):
            raise Refused(f"the column {field.name!r} ({field.type}) of Parquet, with decimals inside of another type", "use JSON lines")
    few = {name for name, field in fields.items() if is_decimal(field.type) and field.type.precision <= _FEW_DIGITS}
    if few:
        made.differs(
            f"Decimals in the Parquet files of {node.name!r} have the digits of the column, whatever the file says; where they are "
            "whole numbers inside, as Spark writes them, they end a Flink job."
        )

    def typed(field: Field) -> str:
        if field.name not in few:
            return quoted(field.name)
        return f"{_of_digits(field.name, field.type)} AS {quoted(field.name)}"

    return Declared(
        {**given, **_parquet(made, node.name, node.declared)},
        metadata,
        read_type=lambda field: f"DECIMAL(38, {field.type.scale})" if field.name in few else flink_type(field.type),
        typed_column=typed if few else None,
        typed_text=lambda name, type_: _of_digits(name, type_) if name in few else quoted(name),
    )


def _of_digits(name: str, type_: pa.DataType) -> str:
    column, wanted = quoted(name), flink_type(type_)
    lost = failing(f"{name} does not fit {type_}", f"CAST({column} AS STRING)", wanted)
    return f"CASE WHEN {column} IS NULL OR CAST({column} AS {wanted}) IS NOT NULL THEN CAST({column} AS {wanted}) ELSE {lost} END"


def _has_decimals(type_: pa.DataType) -> bool:
    return is_decimal(type_) or any(_has_decimals(type_.field(i).type) for i in range(type_.num_fields))


def _path_of(paths: Sequence[str]) -> str:
    if len(paths) != 1:
        raise Refused(f"a source of {len(paths)} paths", "name their directory, or a pattern")
    return paths[0] if "://" in paths[0] else os.path.abspath(paths[0])


def _by_pattern(path: str) -> dict[str, str]:
    folder, name = os.path.split(path)
    if re.search(r"[*?\[]", folder):
        raise Refused(f"the pattern {path!r}", "put patterns in the file's name, not in that of its folders")
    parts = {"*": "[^/]*", "?": "[^/]"}
    pattern = "".join(parts.get(letter, re.escape(letter) if letter not in "[]" else letter) for letter in name)
    return {"path": folder, "source.path.regex-pattern": f".*/{pattern}"}


def _csv(made: Translation, node: SourceNode, given: Mapping[str, str], metadata: Mapping[str, str], skips: bool) -> Declared:
    """Flink knows no header: all columns are read as texts, and the line that repeats their names is left out."""
    if skips:
        raise Refused('errors="skip" of CSV', 'errors="fail"')
    fields = [field for field in node.declared.fields if not field.hidden]
    made.differs(f"The columns of {node.name!r} stand in the files in the order of the schema: Flink does not look at the header.")
    header = conditions(f"{quoted(field.name)} IS NOT DISTINCT FROM {text(field.name)}" for field in fields)

    def typed(field: Field) -> str:
        if field.name not in node.declared:
            return quoted(field.name)
        made_of = _of_text(field.name, field.type)
        return quoted(field.name) if made_of == quoted(field.name) else f"{made_of} AS {quoted(field.name)}"

    options = {**given, **_csv_options(node.source)}
    return Declared(options, metadata, read_type=lambda field: "STRING", typed_column=typed, where=f"NOT ({header})", typed_text=_tried)


def _csv_options(files: Any) -> dict[str, str]:
    between = {} if files.delimiter == "," else {"csv.field-delimiter": files.delimiter}
    return {"format": "csv", "csv.null-literal": "", **between}


def _of_text(name: str, type_: pa.DataType) -> str:
    if is_string(type_):
        return quoted(name)
    if is_time(type_) and type_.unit not in ("s", "ms"):
        raise Refused(f"the column {name!r} ({type_}) of CSV", "declare it as pa.timestamp('ms', tz='UTC')")
    if is_time(type_):
        return f"CAST(CAST(REPLACE(REPLACE({quoted(name)}, 'T', ' '), 'Z', '') AS TIMESTAMP(3)) AS {flink_type(type_)})"
    if pa.types.is_binary(type_) or pa.types.is_nested(type_):
        raise Refused(f"the column {name!r} ({type_}) of CSV", "use JSON lines or Parquet")
    return f"CAST({quoted(name)} AS {flink_type(type_)})"


def _tried(name: str, type_: pa.DataType) -> str:
    # The header has a time that is none: it must not end the job before it is left out.
    if not is_time(type_):
        return f"COALESCE(TRY_CAST({quoted(name)} AS {flink_type(type_)}), 0)"
    plain = f"REPLACE(REPLACE({quoted(name)}, 'T', ' '), 'Z', '')"
    return f"COALESCE(CAST(TRY_CAST({plain} AS TIMESTAMP(3)) AS TIMESTAMP_LTZ(3)), TO_TIMESTAMP_LTZ(0, 3))"


def sink(made: Translation, node: SinkNode, files: Any) -> Mapping[str, str]:
    """Describe files that are written."""
    if node.changes:
        raise Refused(f"the table that {node.name!r} writes to files: Flink's files take no rows back", "write it to a topic: kafka(...)")
    path = _path_of(files.paths)
    made.differs(f"{path} is a directory of files, which appear at checkpoints; without checkpoints, at the end.")
    given = {"connector": "filesystem", "path": path, "sink.rolling-policy.rollover-interval": "1 min"}
    if files.format == "json":
        return given | {"format": "json", "json.timestamp-format.standard": "ISO-8601"}
    if files.format == "csv":
        made.differs(f"The CSV of {node.name!r} has no header.")
        return given | _csv_options(files)
    if files.format == "parquet":
        exact = {"parquet.write.int64.timestamp": "true", "parquet.timestamp.time.unit": "millis"}
        return given | _parquet(made, node.name, node.inputs[0].schema.visible()) | exact
    raise Refused(f"files of the format {files.format!r}", "use JSON lines, CSV or Parquet")
