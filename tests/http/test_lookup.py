"""Rows that a service is asked for while the stream goes on."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from streamdsl import Config, StreamError, Topology, TopologyError, http, memory

CUSTOMER = {"segment": str, "limit": "float | None"}
NAMES = ["a/b", "ñ ?&#", "plain", "gone"]


class Service:
    def __init__(self):
        self.asked, self.headers, self.lock = Counter(), [], threading.Lock()
        self.answer = lambda name, tries: (
            (404, b"") if name == "gone" else (200, json.dumps({"segment": name, "limit": 3, "x": 1}).encode())
        )


@pytest.fixture
def service():
    kept = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            name = unquote(self.path.split("?")[0].removeprefix("/customers/"))
            with kept.lock:
                kept.asked[name] += 1
                kept.headers.append(dict(self.headers))
            status, body = kept.answer(name, kept.asked[name])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/customers/{{customer}}?token=hunter2secret"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept
    server.shutdown()
    server.server_close()


def joined(lookup, on="customer", **options):
    topology = Topology("orders")
    out = memory("out")
    rows = [{"n": i, "customer": NAMES[i % 4]} for i in range(40)]
    topology.stream(memory("orders", {"n": int, "customer": str}, rows)).join_lookup(lookup, on=on, **options).to(out, name="out")
    topology.run(Config())
    return sorted(out.rows(), key=lambda row: row["n"])


def test_columns_of_the_answer_are_added_and_404_is_a_miss(service, caplog):
    caplog.set_level(logging.INFO)
    rows = joined(http(service.url, schema=CUSTOMER, headers={"Authorization": "Bearer x"}))
    assert [row["segment"] for row in rows[:4]] == ["a/b", "ñ ?&#", "plain", None] and rows[0]["limit"] == 3.0
    assert service.asked == {name: 10 for name in NAMES} or set(service.asked) == set(NAMES)
    assert {headers["Authorization"] for headers in service.headers} == {"Bearer x"}
    assert "hunter2secret" not in caplog.text


def test_answers_are_kept_for_a_while(service):
    joined(http(service.url, schema=CUSTOMER), cache_ttl="1h", capacity=4)
    assert service.asked == {name: 1 for name in NAMES}


@pytest.mark.parametrize("status", [429, 503])
def test_an_answer_that_passes_is_asked_for_again(service, status):
    service.answer = lambda name, tries: (status, b"") if tries == 1 else (200, b'{"segment": "s"}')
    assert {row["segment"] for row in joined(http(service.url, schema=CUSTOMER), cache_ttl="1h")} == {"s"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((503, b"down"), "answers 503"),
        ((401, b"who are you"), "headers="),
        ((400, b"no"), "answers 400 for the key 'a/b'"),
        ((301, b""), "answers 301"),
        ((200, b"[]"), "no JSON object"),
        ((200, b"<html>"), "no row"),
        ((200, b'{"limit": 1}'), "'segment' is missing"),
        ((200, b'{"segment": "a", "limit": "much"}'), "'limit'"),
    ],
)
def test_an_answer_that_is_no_row_is_named(service, answer, words):
    service.answer = lambda name, tries: answer
    with pytest.raises(StreamError, match=words) as failed:
        joined(http(service.url, schema=CUSTOMER), retry=0)
    assert "hunter2secret" not in str(failed.value)


def test_a_service_that_is_not_there_is_named():
    with pytest.raises(StreamError, match=r"http://127.0.0.1:1 does not answer"):
        joined(http("http://127.0.0.1:1/{customer}?token=hunter2secret", schema=CUSTOMER), retry=0)


def test_what_cannot_be_asked_is_refused():
    for lookup, on, words in [
        (http("http://h/{customer}"), "customer", "needs schema="),
        (http("http://h/x", schema=CUSTOMER), "customer", "names no column"),
        (http("http://h/{a.b}", schema=CUSTOMER), "customer", "names no column"),
        (http("http://h/{a}/{b}", schema=CUSTOMER), "customer", "as many, in the same order"),
    ]:
        with pytest.raises(TopologyError, match=words):
            joined(lookup, on=on)
    with pytest.raises(TopologyError, match="is a look-up"):
        Topology("t").stream(memory("orders", {"n": int}, [])).to(http("http://h/", schema=CUSTOMER))
