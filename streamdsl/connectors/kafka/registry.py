"""Avro and Protobuf by a schema registry: confluent-kafka's own serializers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from streamdsl.connectors.kafka.avro_bounds import AvroBounds
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.secret import Secret

__all__ = ["Away", "away", "bounds_of", "deserializer", "refused", "schema_id_of", "serializer"]

#: The client's own patience: it is asked again here, between two records, where a stop and a checkpoint find their turn.
_CLIENT: Final = {"timeout": 2.0, "max.retries": 0}
_REFUSED: Final = frozenset({401, 403, 407})
_NOT_FOUND, _TOO_MANY = 404, 429


@dataclass(frozen=True, slots=True)
class Away:
    """Why a value cannot be judged now; `unknown`: the registry does not know its schema yet."""

    why: str
    unknown: bool = False


def away(error: BaseException) -> Away | None:
    """Return why an error says nothing of the value: the registry does not answer, or does not know the schema yet."""
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    for cause in _causes(error):
        if isinstance(cause, OSError) or _is_of_http_client(cause):
            return Away(f"it cannot be reached: {type(cause).__name__}: {cause}")
        if isinstance(cause, SchemaRegistryError):
            if cause.http_status_code == _NOT_FOUND:
                return Away(f"it does not know a schema: {cause.error_message}", unknown=True)
            if cause.http_status_code >= 500 or cause.http_status_code == _TOO_MANY:
                return Away(f"it has answered with HTTP status {cause.http_status_code}")
    return None


def refused(error: BaseException) -> str | None:
    """Return what a registry says that does not know us, or does not allow what is asked."""
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

    for cause in _causes(error):
        if isinstance(cause, SchemaRegistryError) and cause.http_status_code in _REFUSED:
            return f"HTTP status {cause.http_status_code}"
        if isinstance(cause, OAuthTokenError):
            return "no token was given out"
    return None


def _is_of_http_client(error: BaseException) -> bool:
    """Whether an error is of the registry client's HTTP library, which has had several names."""
    return any(base.__module__.startswith(("httpx", "httpcore")) for base in type(error).__mro__)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def schema_id_of(value: bytes) -> int | None:
    """Return the number of a value's schema, as its first five bytes say; None if they do not."""
    return int.from_bytes(value[1:5], "big") if len(value) >= 5 and value[0] == 0 else None


def _client(described: Topic) -> Any:
    if described.registry is None:
        raise TopologyError(f"kafka({described.topic!r}, format={described.format!r}) needs a schema registry", remedy="give registry=")
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise _missing(described) from error
    return SchemaRegistryClient({**_CLIENT, **{k: v.reveal() if isinstance(v, Secret) else v for k, v in described.registry.items()}})


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


def bounds_of(described: Topic) -> AvroBounds | None:
    """Return what looks at Avro values before they are decoded."""
    if described.format != "avro":
        return None
    client = _client(described)

    def parsed(number: int) -> tuple[Any, dict[str, Any]]:
        from fastavro.schema import parse_schema

        named: dict[str, Any] = {}
        schema = client.get_schema(number)
        for text in (*_references(client, schema), schema.schema_str):
            found = parse_schema(json.loads(text), named_schemas=named)
        return found, named

    return AvroBounds(parsed, schema_id_of)


def _references(client: Any, schema: Any) -> list[str]:
    """Return the texts of the schemas that one refers to, each behind those that it needs."""
    found: list[str] = []
    for reference in schema.references or ():
        other = client.get_version(reference.subject, reference.version).schema
        found += [text for text in (*_references(client, other), other.schema_str) if text not in found]
    return found


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
