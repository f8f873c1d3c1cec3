"""A topology of Protobuf topics, for the comparison with PyFlink.

STREAMDSL_PROTOBUF_APP has the broker, the registry, and a word that the names of the topics end with, as JSON.
"""

import json
import os
from typing import Any, Final

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from streamdsl import Topology, col, count, kafka, tumbling

#: Numbers of Protobuf for types of fields.
TYPES: Final = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
GIVEN: Final = {
    "broker": "127.0.0.1:1",
    "registry": "http://127.0.0.1:1",
    "side": "there",
    **json.loads(os.environ.get("STREAMDSL_PROTOBUF_APP", "{}")),
}


def _messages() -> dict[str, Any]:
    """Make messages without generated code: a type that ends with "?" has presence, one with "*" is repeated."""
    described = {
        "Row": {"id": "int64", "k": "string?", "at": "int64", "x": "double?", "n": "int32?", "u": "uint64", "ok": "bool", "b": "bytes?"},
        "Sums": {"k": "string", "n": "int64", "x": "double?"},
        "Last": {"id": "int64", "k": "string?", "at": "int64", "n": "int32?"},
    }
    described["Row"] |= {"ns": "int64*", "names": "string*", "day": "int32?", "moment": "int64?"}
    file = descriptor_pb2.FileDescriptorProto(name="of_flink_tests.proto", package="of.flink.tests", syntax="proto3")
    for name, fields in described.items():
        message = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(fields.items(), 1):
            one = message.field.add(name=field, number=number, type=TYPES[type_.rstrip("?*")], label=3 if type_.endswith("*") else 1)
            if type_.endswith("?"):
                one.proto3_optional, one.oneof_index = True, len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field}")
    pairs = file.message_type[0].nested_type.add(name="MEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    pairs.field.add(name="key", number=1, type=TYPES["string"], label=1)
    pairs.field.add(name="value", number=2, type=TYPES["int64"], label=1)
    file.message_type[0].field.add(name="m", number=30, type=11, type_name=".of.flink.tests.Row.MEntry", label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"of.flink.tests.{name}")) for name in described}


MESSAGES: Final = _messages()
COLUMNS: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("k", pa.string()),
        pa.field("at", pa.int64(), nullable=False),
        ("x", pa.float64()),
        ("n", pa.int16()),
        ("u", pa.uint64()),
        ("ok", pa.bool_()),
        ("b", pa.binary()),
        ("ns", pa.list_(pa.int64())),
        ("names", pa.list_(pa.string())),
        ("day", pa.date32()),
        ("moment", pa.timestamp("ms", tz="UTC")),
        ("m", pa.map_(pa.string(), pa.int64())),
    ]
)
#: What the sinks write, by the names of their topics.
OUTPUTS: Final = {"rows": "Row", "windows": "Sums", "mixed": "Row", "own": "Sums", "last": "Last"}


def build(broker: str, registry: str, side: str) -> Topology:
    """Return the topology: rows, windows of them, records of which many are bad, the records' own times, and a table."""
    topology = Topology(f"protobuf-{side}")

    def source(topic: str, **more: Any) -> Any:
        given = {"format": "protobuf", "registry": registry, "message": MESSAGES["Row"], "broker": broker, "until": "latest"}
        return kafka(topic, COLUMNS, idle_timeout=None, max_ahead=None, **given, **more)

    def sink(name: str, **more: Any) -> Any:
        message = MESSAGES[OUTPUTS[name]]
        return kafka(f"protobuf-{name}-{side}", format="protobuf", registry=registry, message=message, broker=broker, **more)

    rows = topology.stream(source("protobuf-in"), name="rows", timestamp="at", disorder="2s")
    plain = ("id", "k", "at", "x", "u", "ok", "b", "ns", "names", "m")
    kept = rows.filter(col("id") % 5 != 0)
    kept.select(*plain, n=col("n").cast(pa.int32()), day=col("day").cast(int), moment=col("moment").cast(int)).to(
        sink("rows", key="k"), name="rows-out"
    )
    sums = rows.key_by("k").window(tumbling("10s")).aggregate(n=count(), x=col("x").sum())
    sums.select("k", "n", "x").to(sink("windows", key="k"), name="windows-out")
    mixed = topology.stream(source("protobuf-bad"), name="mixed", timestamp="at", errors="skip")
    mixed.select("id", "k", "at").to(sink("mixed", timestamps="arrival"), name="mixed-out", errors="fail")
    own = topology.stream(source("protobuf-bad"), name="own", errors="skip")
    counted = own.key_by("k").window(tumbling("10s")).aggregate(n=count(), x=col("x").sum(), name="counted")
    counted.select("k", "n", "x").to(sink("own", timestamps="arrival"), name="own-out", errors="fail")
    table = topology.table(source("protobuf-in"), key="id", name="last", timestamp="at")
    table.filter(col("ok")).select("id", "k", "at", n=col("n").cast(pa.int32())).to(sink("last"), name="last-out")
    return topology


topology = build(**GIVEN)
