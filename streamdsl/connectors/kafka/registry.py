"""Avro and Protobuf by a schema registry: confluent-kafka's own serializers."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from streamdsl.connectors.kafka.avro_bounds import AvroBounds
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.secret import Secret

__all__ = ["Away", "Deadline", "away", "bounds_of", "deserializer", "key_reader", "refused", "schema_id_of", "serializer"]

T = TypeVar("T")

#: The client's own patience: it is asked again here, between two records, where a stop and a checkpoint find their turn.
_CLIENT: Final = {"timeout": 2.0, "max.retries": 0}
_REFUSED: Final = frozenset({401, 403, 407})
#: A schema that is not compatible with those of its subject, or none at all.
_SCHEMA_REFUSED: Final = frozenset({409, 422})
#: What a registry itself says of a schema, a subject or a version that it does not have. Others may answer in its place.
_UNKNOWN_CODES: Final = frozenset({40401, 40402, 40403})
#: How long a whole answer may take: the client bounds the silence between two bytes of it.
ANSWER_S: Final = 3.0


class NoAnswer(Exception):
    """What came back is no answer of a schema registry, or has not come in time. `unknown`: of a schema that may be mended."""

    unknown = False


class NoSchema(NoAnswer):
    """The text that the registry has for a schema is none."""

    unknown = True


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
        if isinstance(cause, NoAnswer):
            return Away(str(cause), cause.unknown)
        if isinstance(cause, SchemaRegistryError):
            if cause.error_code in _UNKNOWN_CODES:
                return Away(f"it does not know a schema: {cause.error_message}", unknown=True)
            return Away(f"it has answered with HTTP status {cause.http_status_code}: {cause.error_message}"[:300])
    return None


def refused(error: BaseException, *, writing: bool = False) -> str | None:
    """Return what a registry says that does not know us, or does not allow what is asked; `writing`: or does not take the schema."""
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

    for cause in _causes(error):
        if isinstance(cause, SchemaRegistryError) and cause.http_status_code in _REFUSED:
            return f"HTTP status {cause.http_status_code}"
        if writing and isinstance(cause, SchemaRegistryError) and cause.http_status_code in _SCHEMA_REFUSED:
            return f"it does not take the schema: {cause.error_message} (HTTP status {cause.http_status_code})"
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


def _client(described: Topic, *kinds: str) -> Any:
    """Return a client that gives schemas of `kinds` alone."""
    if described.registry is None:
        raise TopologyError(f"kafka({described.topic!r}, format={described.format!r}) needs a schema registry", remedy="give registry=")
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise _missing(described) from error
    revealed = {name: value.reveal() if isinstance(value, Secret) else value for name, value in described.registry.items()}
    return _guarded(SchemaRegistryClient({**_CLIENT, **revealed}), kinds)


def _guarded(client: Any, kinds: Sequence[str]) -> Any:
    """Have whatever fails in the client's calls be a failure of the registry: a page of a proxy is no schema, and no bad record."""
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def asked(*given: Any, **named: Any) -> Any:
            try:
                return call(*given, **named)
            except (SchemaRegistryError, OAuthTokenError, NoAnswer, OSError):
                raise
            except Exception as error:
                if _is_of_http_client(error):
                    raise
                raise NoAnswer(f"what it answers is no answer of a schema registry: {type(error).__name__}: {error}"[:300]) from error

        return asked

    for name in dir(client):
        if not name.startswith("_") and name not in ("close", "new_client", "clear_caches", "clear_latest_caches"):
            call = getattr(client, name)
            if callable(call):
                setattr(client, name, guarded(call))
    get = client.get_schema

    def schema_of(number: int, *given: Any, **named: Any) -> Any:
        schema = get(number, *given, **named)
        if not isinstance(schema.schema_str, str) or not schema.schema_str:
            _forget(client)
            raise NoAnswer(f"what it answers for the schema {number} is none")
        if (schema.schema_type or "AVRO") not in kinds:
            raise ValueError(f"its schema, {number}, is of type {schema.schema_type or 'AVRO'}, not {' or '.join(kinds)}")
        return schema

    client.get_schema = schema_of
    return client


def _forget(client: Any) -> None:
    """Have the client ask again for what it has been told."""
    if hasattr(client, "clear_caches"):
        client.clear_caches()


class Deadline:
    """Gives calls that may ask the registry `ANSWER_S`; one that takes longer goes on in its thread, and no other begins meanwhile."""

    def __init__(self) -> None:
        self._late: threading.Thread | None = None

    def call(self, work: Callable[[], T]) -> T:
        """Return what `work` returns.

        Raises
        ------
        NoAnswer
            It takes longer, or the last one still does.
        """
        if self._late is not None and self._late.is_alive():
            raise NoAnswer("it has not answered the last question yet")
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                failed.append(error)

        self._late = threading.Thread(target=run, name="streamdsl-registry", daemon=True)
        self._late.start()
        self._late.join(ANSWER_S)
        if failed:
            raise failed[0]
        if not found:
            raise NoAnswer(f"its whole answer has not come within {ANSWER_S:g} s")
        return found[0]


def _missing(described: Topic) -> ConnectorError:
    more = "protobuf" if described.format == "protobuf" else "avro"
    return ConnectorError(
        f"kafka({described.topic!r}, registry=...) needs more of confluent-kafka",
        remedy=f"pip install 'confluent-kafka[schemaregistry,{more}]'",
    )


def _message(described: Topic) -> Any:
    if described.message is None:
        raise TopologyError(f'kafka({described.topic!r}, format="protobuf") needs the class of its messages', remedy="give message=")
    return described.message


def deserializer(described: Topic) -> Any:
    """Return what makes a dictionary (Avro) or a message (Protobuf) of a value."""
    client = _client(described, described.format.upper())
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
    return _bounds(_client(described, "AVRO"))


def _bounds(client: Any) -> AvroBounds:
    def parsed(number: int) -> tuple[Any, dict[str, Any]]:
        from fastavro.schema import parse_schema

        named: dict[str, Any] = {}
        schema = client.get_schema(number)
        texts = (*_references(client, schema), schema.schema_str)
        try:
            for text in texts:
                found = parse_schema(json.loads(text), named_schemas=named)
        except RecursionError:
            raise  # a schema, but too deep a one
        except Exception as error:
            _forget(client)
            raise NoSchema(f"what it answers for the schema {number} is no Avro schema: {type(error).__name__}: {error}"[:300]) from error
        return found, named

    return AvroBounds(parsed, schema_id_of)


def key_reader(described: Topic) -> Callable[[bytes], Any]:
    """Return what makes a plain value of a record's key that begins with the number of its schema: of Avro, or JSON Schema."""
    client = _client(described, "AVRO", "JSON")
    try:
        from confluent_kafka.schema_registry.avro import AvroDeserializer
        from confluent_kafka.serialization import MessageField, SerializationContext
    except ImportError as error:
        raise _missing(described) from error
    bounds, deserialize = _bounds(client), AvroDeserializer(client)
    context = SerializationContext(described.topic, MessageField.KEY)

    def read(key: bytes) -> Any:
        number = schema_id_of(key)
        if number is None:
            raise ValueError("it begins with a zero byte, and holds no number of a schema")
        if (client.get_schema(number).schema_type or "AVRO") == "JSON":
            return json.loads(key[5:])
        bounds.check(key)
        return deserialize(key, context)

    return read


def _references(client: Any, schema: Any) -> list[str]:
    """Return the texts of the schemas that one refers to, each behind those that it needs."""
    found: list[str] = []
    for reference in schema.references or ():
        other = client.get_version(reference.subject, reference.version).schema
        found += [text for text in (*_references(client, other), other.schema_str) if text not in found]
    return found


def serializer(described: Topic) -> Any:
    """Return what makes a value of a dictionary."""
    client = _client(described, described.format.upper())
    try:
        if described.format == "avro":
            from confluent_kafka.schema_registry.avro import AvroSerializer

            if described.subject_schema is None:
                raise TopologyError(f'kafka({described.topic!r}, format="avro") is written with a schema', remedy="give subject_schema=")
            return _asking(AvroSerializer(client, described.subject_schema))
        from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    except ImportError as error:
        raise _missing(described) from error
    message = _message(described)
    encode = ProtobufSerializer(message, client, {"use.deprecated.format": False})
    return _asking(lambda row, context: encode(message(**{name: value for name, value in row.items() if value is not None}), context))


def _asking(encode: Callable[[Any, Any], bytes]) -> Callable[[Any, Any], bytes]:
    """Return `encode`, whose first row asks the registry for the number of the schema."""
    deadline, known = Deadline(), False

    def encoded(row: Any, context: Any) -> bytes:
        nonlocal known
        if known:
            return encode(row, context)
        found = deadline.call(lambda: encode(row, context))
        known = True
        return found

    return encoded
