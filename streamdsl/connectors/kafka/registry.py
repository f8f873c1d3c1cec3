"""Avro and Protobuf by a schema registry: confluent-kafka's own serializers."""

from __future__ import annotations

from typing import Any

from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.secret import Secret

__all__ = ["deserializer", "serializer"]


def _client(described: Topic) -> Any:
    if described.registry is None:
        raise TopologyError(f"kafka({described.topic!r}, format={described.format!r}) needs a schema registry", remedy="give registry=")
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise _missing(described) from error
    return SchemaRegistryClient({k: v.reveal() if isinstance(v, Secret) else v for k, v in described.registry.items()})


def _missing(described: Topic) -> ConnectorError:
    return ConnectorError(
        f"kafka(format={described.format!r}) needs more of confluent-kafka",
        remedy=f"pip install 'confluent-kafka[schemaregistry,{described.format}]'",
    )


def _message(described: Topic) -> Any:
    if described.message is None:
        raise TopologyError(f'kafka({described.topic!r}, format="protobuf") needs the class of its messages', remedy="give message=")
    return described.message


def deserializer(described: Topic) -> Any:
    """Return what makes a dictionary (Avro) or a message (Protobuf) of a value."""
    client = _client(described)
    try:
        if described.format == "avro":
            from confluent_kafka.schema_registry.avro import AvroDeserializer

            return AvroDeserializer(client)
        from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
    except ImportError as error:
        raise _missing(described) from error
    return ProtobufDeserializer(_message(described), {"use.deprecated.format": False}, client)


def serializer(described: Topic) -> Any:
    """Return what makes a value of a dictionary."""
    client = _client(described)
    try:
        if described.format == "avro":
            from confluent_kafka.schema_registry.avro import AvroSerializer

            if described.subject_schema is None:
                raise TopologyError(f'kafka({described.topic!r}, format="avro") is written with a schema', remedy="give subject_schema=")
            return AvroSerializer(client, described.subject_schema)
        from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    except ImportError as error:
        raise _missing(described) from error
    message = _message(described)
    encode = ProtobufSerializer(message, client, {"use.deprecated.format": False})
    return lambda row, context: encode(message(**{name: value for name, value in row.items() if value is not None}), context)
