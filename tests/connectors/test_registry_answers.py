"""Whatever answers in the place of a schema registry: only what is wrong with a value makes it a bad record."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

from streamdsl import Config, ConnectorError, kafka
from streamdsl.connectors.kafka import registry as registry_client
from streamdsl.connectors.kafka import registry_values
from streamdsl.connectors.kafka.layout import Layout
from streamdsl.connectors.kafka.limits import Limits
from streamdsl.connectors.kafka.values import decoder_of
from streamdsl.errors import DataError
from streamdsl.schema import Schema

AVRO = json.dumps({"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}]})
SCHEMA = Schema.of({"id": "int64"})
GOOD = json.dumps({"schema": AVRO}).encode()
MISSING = b'{"error_code": 40403, "message": "no such schema"}'


def of_type(kind: str) -> bytes:
    return json.dumps({"schema": "{}", "schemaType": kind}).encode()


#: Status and body of an answer that says nothing of a record.
NO_ANSWERS = {
    "empty": (200, b""),
    "no content": (204, b""),
    "a page of a proxy": (200, b"<html>please log in</html>"),
    "null": (200, b"null"),
    "a list": (200, b"[]"),
    "no schema": (200, b"{}"),
    "a number for a schema": (200, b'{"schema": 7}'),
    "no Avro": (200, b'{"schema": "{nonsense"}'),
    "a type that is not there": (200, b'{"schema": "{\\"type\\": \\"what\\"}"}'),
    "no UTF-8": (200, b"\xff\xfe{}"),
    "cut": (200, GOOD[:20]),
    "elsewhere": (302, b""),
    "bad request": (400, b"{}"),
    "another server's not found": (404, b"<html>not found</html>"),
    "not allowed": (405, b""),
    "time is over": (408, b""),
    "gone": (410, b""),
    "unprocessable": (422, b'{"error_code": 42201, "message": "what?"}'),
    "too many": (429, b""),
    "broken": (500, b"<html>"),
    "away": (503, b""),
}


class Answers:
    """A server that gives one answer to whoever asks for a schema by its number, or registers one. `drip`: seconds a byte."""

    def __init__(self) -> None:
        self.status, self.body, self.drip = 200, GOOD, 0.0
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                own = self.path.startswith("/schemas/ids/") or self.command == "POST"
                status, body = (answers.status, answers.body) if own else (404, MISSING)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    for at in range(len(body)) if answers.drip else ():
                        self.wfile.write(body[at : at + 1])
                        time.sleep(answers.drip)
                    if not answers.drip:
                        self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def answers():
    one = Answers()
    yield one
    one.drip = 0.0
    one.server.shutdown()
    one.server.server_close()


def described(answers, **more):
    return kafka("t", SCHEMA, format="avro", registry=answers.url, **more).configured(Config(), "job")


@pytest.fixture
def decoder(answers):
    topic = described(answers)
    return decoder_of(topic, topic.schema.fields)


def value(number: int, id_: int) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + bytes([2 * id_])


@pytest.mark.parametrize("name", list(NO_ANSWERS))
def test_what_is_no_answer_is_waited_out(answers, decoder, name):
    answers.status, answers.body = NO_ANSWERS[name]
    found = decoder.decode([value(1, 5)])
    assert found.away and not found.bad and found.taken == 0
    answers.status, answers.body = 200, GOOD
    found = decoder.decode([value(1, 5), value(1, 6)])
    assert found.rows.to_pylist() == [{"id": 5}, {"id": 6}] and found.away is None


@pytest.mark.parametrize("status", [401, 403, 407])
def test_who_is_refused_is_told(answers, decoder, status):
    answers.status, answers.body = status, b"<html>"
    with pytest.raises(ConnectorError, match=f"refuses to answer: HTTP status {status}"):
        decoder.decode([value(1, 5)])


@pytest.mark.parametrize("kind", ["JSON", "PROTOBUF"])
def test_a_value_of_another_format_is_bad(answers, decoder, kind):
    answers.body = of_type(kind)
    found = decoder.decode([value(1, 5)])
    assert found.away is None and f"is of type {kind}, not AVRO" in found.bad[0]


def test_an_answer_that_drips_is_not_waited_for(answers, decoder, monkeypatch):
    """The client bounds the silence between two bytes: an answer of a hundred took minutes, and a stop with it."""
    monkeypatch.setattr(registry_client, "ANSWER_S", 0.3)
    answers.drip = 0.02
    began = time.monotonic()
    found = decoder.decode([value(1, 5)])
    assert found.away == "its whole answer has not come within 0.3 s" and time.monotonic() - began < 2
    assert decoder.decode([value(1, 5)]).away
    answers.drip = 0.0
    until = time.monotonic() + 20
    while (found := decoder.decode([value(1, 5)])).away and time.monotonic() < until:
        time.sleep(0.05)
    assert found.rows.to_pylist() == [{"id": 5}]


def test_schemas_that_never_come_are_waited_for_together(answers, decoder, monkeypatch):
    monkeypatch.setattr(registry_values, "UNKNOWN_S", 0.5)
    answers.status, answers.body = 404, MISSING
    values = [value(number, 5) for number in range(2, 12)]
    began = time.monotonic()
    bad: dict[int, str] = {}
    while len(bad) < len(values) and time.monotonic() - began < 20:
        bad = decoder.decode(values).bad
        time.sleep(0.02)
    assert len(bad) == len(values) and time.monotonic() - began < 10 * 0.5


@pytest.mark.parametrize(
    ("status", "body", "said", "recoverable"),
    [
        (401, b"", "HTTP status 401", False),
        (403, b"<html>", "HTTP status 403", False),
        (409, b'{"error_code": 409, "message": "incompatible"}', "does not take the schema: incompatible", False),
        (422, b'{"error_code": 42201, "message": "invalid"}', "does not take the schema: invalid", False),
        (503, b"", "does not answer: it has answered with HTTP status 503", True),
        (200, b"<html>", "no answer of a schema registry", True),
        (429, b"", "HTTP status 429", True),
    ],
)
def test_a_registry_that_fails_makes_no_row_a_bad_one(answers, status, body, said, recoverable):
    answers.status, answers.body = status, body
    layout = Layout(described(answers, subject_schema=AVRO), SCHEMA, (), Limits(1 << 20))
    rows = pa.record_batch({"id": pa.array([5], pa.int64())})
    with pytest.raises(ConnectorError, match=said) as told:
        layout.records(rows, pa.array([0], pa.int64()))
    assert not isinstance(told.value, DataError) and bool(told.value.context.get("recoverable")) is recoverable
