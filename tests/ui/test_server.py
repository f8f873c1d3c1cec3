"""What the page's server answers, what it refuses, and what it bears."""

from __future__ import annotations

import http.client
import json
import socket
import time

import pytest

from streamdsl import Config, ConfigError
from streamdsl.ui.server import MOST_CONNECTIONS, MOST_STREAMS
from tests.tables.jobs import BALANCES, ROWS, Held, bank


@pytest.fixture(scope="module")
def served():
    source = Held(ROWS)
    run = bank(source=source).start(Config(checkpoint_interval="200ms", broker="secret-host:9092", kafka={"sasl.password": "hunter2"}))
    with run.ui() as page:
        yield run, page
    source.over.set()
    run.wait()


def get(page, path, method="GET", **headers):
    host, port = page.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_figures_are_those_of_the_run(served):
    run, page = served
    job = json.loads(get(page, "/api/job")[2])
    assert job["job"] == "bank" and len(job["graph"]["boxes"]) == len(run.plan.stages) and next(iter(job["plans"])) == "as typed"
    deadline = time.monotonic() + 60
    while True:
        state = json.loads(get(page, "/api/state")[2])
        metrics = run.metrics()
        if state["metrics"]["sinks"] == metrics["sinks"] == {**metrics["sinks"], "sink-balances": len(ROWS)}:
            break
        assert time.monotonic() < deadline
    assert state["metrics"]["operators"] == json.loads(json.dumps(metrics["operators"])) and state["health"]["healthy"]
    row = json.loads(get(page, "/tables/balances/a3?live=1")[2])["row"]
    assert row["balance"] == BALANCES["a3"]


def test_no_secret_is_in_any_answer(served):
    _, page = served
    for path in ("/api/job", "/api/state", "/"):
        assert b"hunter2" not in get(page, path)[2]


def test_events_come_by_themselves(served):
    _, page = served
    host, port = page.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        while data.count(b"data: ") < 2:
            data += connection.recv(1 << 16)
    assert b"text/event-stream" in data


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example.com"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
    ],
)
def test_strangers_are_refused(served, headers, status):
    _, page = served
    for path in ("/api/state", "/tables"):
        assert get(page, path, **headers)[0] == status


def test_nothing_can_be_changed_and_nothing_else_is_there(served):
    _, page = served
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert get(page, "/api/state", method)[0] == 405
    for path in ("/../pyproject.toml", "/static/app.js", "/app.py", "//etc/passwd", "/%2e%2e/x"):
        assert get(page, path)[0] in (403, 404), path
    assert get(page, "/" + "a" * 100_000)[0] in (400, 404, 414, 431)
    headers = get(page, "/")[1]
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-frame-options"] == "DENY"
    assert not any(name.startswith("access-control") for name in headers) and "server" not in headers


def is_open(connection):
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_many_and_slow_connections_are_bounded(served):
    _, page = served
    host, port = page.address.removeprefix("http://").split(":")
    held = []
    try:
        for number in range(1000):
            connection = socket.create_connection((host, int(port)), timeout=30)
            held.append(connection)
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost:")
        # A request that never becomes whole ends too.
        deadline = time.monotonic() + 30
        while len(left := [connection for connection in held if is_open(connection)]) > MOST_CONNECTIONS or left:
            assert time.monotonic() < deadline, len(left)
            time.sleep(0.1)
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert get(page, "/api/state")[0] == 200
            break
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_so_many_pages_at_most(served):
    _, page = served
    host, port = page.address.removeprefix("http://").split(":")
    held = []
    try:
        for _ in range(MOST_STREAMS):
            connection = socket.create_connection((host, int(port)), timeout=30)
            connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert b"200" in connection.recv(64)
            held.append(connection)
        assert get(page, "/api/events")[0] == 503 and get(page, "/api/state")[0] == 200
    finally:
        for connection in held:
            connection.close()


def test_a_port_that_is_taken_is_said(served):
    run, page = served
    with pytest.raises(ConfigError, match="cannot be served"):
        run.ui(port=int(page.address.rpartition(":")[2]))
    with run.ui(rows=False) as other:
        assert get(other, "/tables")[0] == 403 and json.loads(get(other, "/api/job")[2])["rows"] is False
