"""The decoders, each as a function that takes bytes from outside, and what must hold of it whatever they are.

``python -m tests.fuzz.targets`` writes the first seeds of each into `seeds/`.
"""

from __future__ import annotations

import base64
import io
import json
import resource
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from streamdsl.connectors.kafka import kafka
from streamdsl.connectors.kafka.values import ValueDecoder, decoder_of
from streamdsl.formats.decode import Csv
from streamdsl.schema import Schema
from tests.fuzz.mutator import SEEDS

__all__ = ["TARGETS", "Target"]

#: What one record may take, of the processor.
MOST_S: Final = 5.0
MOST_KIB: Final = 400 << 10

PLAIN_FIELDS: Final = [("id", pa.int64()), ("name", pa.string()), ("amount", pa.float64()), ("ok", pa.bool_())]
PLAIN: Final = pa.schema(PLAIN_FIELDS)
SCHEMA: Final = pa.schema(
    [
        *PLAIN_FIELDS,
        ("at", pa.timestamp("ms", "UTC")),
        ("price", pa.decimal128(12, 2)),
        ("tags", pa.list_(pa.string())),
        ("inner", pa.struct([("a", pa.int64()), ("b", pa.string())])),
    ]
)


class Target(ABC):
    """A decoder. `seeds` are values that mean something to it; the first is good."""

    name: str

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Return the first seeds."""

    @abstractmethod
    def judge(self, value: bytes) -> None:
        """Decode a value; raise if anything is wrong with what comes."""

    def check(self, value: bytes) -> None:
        """Decode a value in bounded time and memory."""
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        self.judge(value)
        took, grown = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert took < MOST_S, f"it took {took:.1f} s"
        assert grown < MOST_KIB, f"it took {grown >> 10} MiB"

    def stored(self) -> list[bytes]:
        """Return the seeds of the tree."""
        return [file.read_bytes() for file in sorted((SEEDS / self.name).iterdir())]


class Values(Target):
    """Values of records: each is good or bad by itself, and its neighbours come out as they are."""

    @cached_property
    def decoder(self) -> ValueDecoder:
        return self.made()

    @abstractmethod
    def made(self) -> ValueDecoder:
        """Return the decoder."""

    @cached_property
    def good(self) -> bytes:
        return self.seeds()[0]

    @cached_property
    def alone(self) -> list[Any]:
        found = self.decoder.decode([self.good])
        assert not found.bad and found.rows.num_rows
        return list(found.rows.to_pylist())

    def judge(self, value: bytes) -> None:
        alone = self.alone
        found = self.decoder.decode([self.good, value, self.good])
        found.rows.validate(full=True)
        of = list(range(found.rows.num_rows)) if found.of is None else list(found.of)
        if found.away is not None:
            assert found.taken == 1 and of == [0] * len(alone), found
            return
        assert of == sorted(of) and len(of) == found.rows.num_rows, of
        for neighbour in (0, 2):
            assert neighbour not in found.bad, found.bad
            rows = [row for row, number in enumerate(of) if number == neighbour]
            assert str(found.rows.take(rows).to_pylist()) == str(alone), "a neighbour comes out otherwise"
        assert not (1 in found.bad and 1 in of)
        by_itself = self.decoder.decode([value])
        assert by_itself.bad.get(0) == found.bad.get(1), "what is bad depends on the neighbours"
        assert by_itself.rows.num_rows == of.count(1)


class Json(Values):
    def __init__(self, name: str, schema: pa.Schema) -> None:
        self.name, self._schema = name, schema

    def made(self) -> ValueDecoder:
        topic = kafka("t", self._schema)
        return decoder_of(topic, topic.schema.fields)

    def seeds(self) -> list[bytes]:
        rows: list[Any] = [
            {"id": 1, "name": "a", "amount": 0.5, "ok": True},
            {
                "id": -(2**63),
                "name": 'Zo\u00eb \U0001f600\n"',
                "amount": 1e308,
                "ok": None,
                "at": "2024-02-29T12:00:00.123Z",
                "price": "1.20",
            },
            {"tags": ["x", "", "{"], "inner": {"a": 7, "b": "[["}, "at": 1_700_000_000_000, "price": 3},
            {"id": "7", "ok": "true", "name": 5},
            {"name": "\ud800"},
            {},
            [],
            None,
        ]
        texts = [json.dumps(row).encode() for row in rows]
        return [
            *texts,
            b"{}{}",
            b'{"id": 1, "id": 2}',
            b'{"amount": NaN}',
            b'{"id": 1e400}',
            b" \t{ }\r\n",
            b"[" * 300,
            b'{"id": 00}',
            b'{"\\u0069d": 3}',
        ]


class Raw(Values):
    name = "raw"

    def made(self) -> ValueDecoder:
        topic = kafka("t", {"value": str}, format="raw")
        return decoder_of(topic, topic.schema.fields)

    def seeds(self) -> list[bytes]:
        return [b"text", "Zo\u00eb \U0001f600".encode(), b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\0", b"x" * 1000]


class Arrow(Values):
    name = "arrow"

    def made(self) -> ValueDecoder:
        topic = kafka("t", SCHEMA, format="arrow")
        return decoder_of(topic, topic.schema.fields)

    def seeds(self) -> list[bytes]:
        row = {"id": 1, "name": "a", "amount": 0.5, "ok": True, "tags": ["x"], "inner": {"a": 1, "b": "c"}}
        whole = pa.RecordBatch.from_pylist([row, {}], schema=SCHEMA)
        words = pa.RecordBatch.from_pydict({"name": pa.array(["a", "b", "a"]).dictionary_encode(), "id": pa.array([1, 2, 3], pa.int32())})
        views = pa.RecordBatch.from_pydict({"name": pa.array(["a" * 20, "b"], pa.string_view())})
        return [
            _ipc(whole),
            _ipc(whole, compression="zstd"),
            _ipc(whole, compression="lz4"),
            _ipc(words),
            _ipc(views),
            _ipc(pa.record_batch([pa.nulls(100)], ["id"])),
            _ipc(whole, whole),
        ]


def _ipc(*batches: pa.RecordBatch, **options: Any) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return bytes(out.getvalue().to_pybytes())


class Registered(Values):
    """A format that a schema registry describes; the registry is in this process."""

    format: str
    message: Any = None

    @abstractmethod
    def register(self, registry: Any) -> None:
        """Give the registry the schemas."""

    def made(self) -> ValueDecoder:
        from tests.kafka.registry import Registry

        registry = Registry().__enter__()  # for as long as the process lives
        self.register(registry)
        more = {"message": self.message} if self.message is not None else {}
        topic = kafka("t", self.schema(), format=self.format, registry=registry.url, **more)
        return decoder_of(topic.configured(_config(), "job"), topic.schema.fields)

    def schema(self) -> pa.Schema:
        return SCHEMA


def _config() -> Any:
    from streamdsl import Config

    return Config()


class Avro(Registered):
    name = format = "avro"

    ROW: Final[dict[str, Any]] = {
        "type": "record",
        "name": "Row",
        "fields": [
            {"name": "id", "type": ["null", "long"]},
            {"name": "name", "type": ["null", "string"]},
            {"name": "amount", "type": ["null", "double"]},
            {"name": "ok", "type": ["null", "boolean"]},
            {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
            {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
            {"name": "tags", "type": ["null", {"type": "array", "items": "string"}]},
            {
                "name": "inner",
                "type": [
                    "null",
                    {"type": "record", "name": "I", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]},
                ],
            },
        ],
    }
    TREE: Final[dict[str, Any]] = {
        "type": "record",
        "name": "Tree",
        "fields": [{"name": "next", "type": ["null", "Tree"]}, {"name": "all", "type": {"type": "array", "items": "null"}}],
    }

    def register(self, registry: Any) -> None:
        for subject, schema in (("row", self.ROW), ("tree", self.TREE)):
            registry.register(subject, {"schema": json.dumps(schema)})

    def seeds(self) -> list[bytes]:
        row = {"id": 5, "name": "a", "amount": 0.5, "ok": True, "at": 1_700_000_000_000, "tags": ["x", "y"], "inner": {"a": 1, "b": "z"}}
        return [
            self._written(1, self.ROW, row),
            self._written(1, self.ROW, {}),
            self._written(2, self.TREE, {"next": {"next": None, "all": []}, "all": [None] * 3}),
            b"\0\0\0\0\2" + b"\2" * 300,
            b"\0\0\0\0\2\0" + b"\xff" * 9 + b"\1",
            b"\0\0\0\0\3x",
            b"\1\0\0\0\1",
        ]

    def _written(self, number: int, schema: Any, row: Any) -> bytes:
        from fastavro import parse_schema, schemaless_writer

        out = io.BytesIO()
        schemaless_writer(out, parse_schema(schema), row)
        return struct.pack(">bI", 0, number) + out.getvalue()


class Protobuf(Registered):
    name = format = "protobuf"

    def __init__(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

        file = descriptor_pb2.FileDescriptorProto(name="fuzz_row.proto", package="fuzz", syntax="proto3")
        row = file.message_type.add(name="Row")
        kinds = descriptor_pb2.FieldDescriptorProto
        wanted = [("id", kinds.TYPE_INT64), ("name", kinds.TYPE_STRING), ("amount", kinds.TYPE_DOUBLE), ("ok", kinds.TYPE_BOOL)]
        for number, (name, kind) in enumerate(wanted, 1):
            row.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._file = file.SerializeToString()
        self.message = message_factory.GetMessageClass(pool.FindMessageTypeByName("fuzz.Row"))

    def schema(self) -> pa.Schema:
        return PLAIN

    def register(self, registry: Any) -> None:
        text = base64.b64encode(self._file).decode()
        registry.register("row", {"schema": text, "schemaType": "PROTOBUF"})

    def seeds(self) -> list[bytes]:
        head = b"\0\0\0\0\1\0"
        whole = self.message(id=5, name="a", amount=0.5, ok=True).SerializeToString()
        return [
            head + whole,
            head,
            head + b"\x12\x02\xff\xfe",
            b"\0\0\0\0\1\2\0" + whole,
            b"\0\0\0\0\1" + b"\xff" * 12,
            head + whole + whole,
            b"\1x",
        ]


class CsvBlock(Target):
    """A block of lines; a quote that is left open takes in what follows, so neighbours are no matter of one record."""

    name = "csv"

    @cached_property
    def decoder(self) -> Csv:
        schema = Schema.of(PLAIN)
        return Csv(schema.fields, [field.name for field in schema.fields], "in.csv")

    def judge(self, value: bytes) -> None:
        found = self.decoder.decode_block(value)
        found.rows.validate(full=True)
        assert found.rows.num_rows + len(found.bad) == found.records
        assert all(0 <= bad.before_row <= found.rows.num_rows for bad in found.bad)

    def seeds(self) -> list[bytes]:
        return [
            b"1,a,0.5,true\n2,,,\n",
            b'3,"a ""b"", c",1e5,false\n',
            b'4,"line\nbreak",nan,1\n',
            b"x,y\n,,,,,\n\n",
            b'5,"open,0,true\n6,b,0,true\n',
            "7,Zo\u00eb,1,0\r\n".encode(),
            b"8,\xff\xfe,1,0\n",
        ]


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "json": lambda: Json("json", SCHEMA),
    "flat_json": lambda: Json("flat_json", PLAIN),
    "csv": CsvBlock,
    "raw": Raw,
    "arrow": Arrow,
    "avro": Avro,
    "protobuf": Protobuf,
}


def main() -> None:
    """Write the first seeds."""
    for name, make in TARGETS.items():
        place = SEEDS / name
        place.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(make().seeds()):
            (place / f"{number:02}").write_bytes(seed)


if __name__ == "__main__":
    main()
