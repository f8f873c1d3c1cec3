"""The SQL gateway's REST API: runs statements, and tells what has become of a job, in our words."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from streamdsl.errors import ConfigError, ConnectorError
from streamdsl.flink.job import FlinkJob, Statement

__all__ = ["Gateway", "Submitted"]

_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 0.5
_TIMEOUT_S: Final = 60.0
#: States from which a job does not return.
ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that a gateway has started."""

    id: str
    name: str


class Gateway:
    """A session at a SQL gateway.

    Parameters
    ----------
    url : str
        Where the gateway answers, ``"http://gateway:8083"``.
    """

    def __init__(self, url: str) -> None:
        if not re.fullmatch(r"https?://[^\s/]+/?", url):
            raise ConfigError(f"{url!r} is no address of a SQL gateway", remedy='write it as "http://gateway:8083"')
        self.url = url.rstrip("/")
        self._session = str(self._ask("POST", "/v1/sessions", {"sessionName": "streamdsl"})["sessionHandle"])

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the session; jobs that it has started go on."""
        try:
            self._ask("DELETE", f"/v1/sessions/{self._session}")
        except ConnectorError:
            pass  # a session that nobody uses ends by itself

    def submit(self, job: FlinkJob, *, savepoint: str | None = None, python_files: str | None = None) -> Submitted:
        """Run all statements of a job and return what runs.

        Parameters
        ----------
        job : FlinkJob
        savepoint : str, optional
            Where Flink has the savepoint to begin with.
        python_files : str, optional
            Where the gateway finds the modules of Python functions, unless its configuration says so.

        Raises
        ------
        ConnectorError
            The gateway cannot be reached, or Flink refuses a statement: the error names it.
        """
        if job.processes:
            raise ConfigError(
                f"{job.name} has Processors, which a SQL gateway does not run",
                remedy="write a project with --output DIR, and run its program: flink run --python DIR/python/job.py",
            )
        if savepoint is not None:
            path = savepoint.replace("'", "''")
            self.run(Statement("set", "savepoint", f"SET 'execution.state-recovery.path' = '{path}'"))
        if python_files is not None:
            path = python_files.replace("'", "''")
            self.run(Statement("set", "python.files", f"SET 'python.files' = '{path}'"))
        started = ""
        for statement in job.statements:
            started = self.run(statement) or started
        if not started:
            raise ConnectorError(f"the SQL gateway at {self.url} has started no job", remedy="look into the gateway's log")
        return Submitted(started, job.name)

    def run(self, statement: Statement) -> str:
        """Run one statement to its end; return the id of the job that it started, "" if there is none."""
        found = ""
        for page in self._pages(statement):
            found = page.get("jobID") or found
        return found

    def rows(self, sql: str) -> list[list[Any]]:
        """Return the rows of a query or a SHOW statement."""
        pages = self._pages(Statement("query", "query", sql))
        return [row["fields"] for page in pages for row in page.get("results", {}).get("data", [])]

    def table(self, sql: str, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Run a query to the end of its input, and return its last row of each key.

        Flink may leave out that a row goes where another one of its key comes in its place.
        """
        last: dict[str, dict[str, Any]] = {}
        names: list[str] = []
        for page in self._pages(Statement("query", "query", sql)):
            results = page.get("results", {})
            names = [column["name"] for column in results.get("columns", [])] or names
            for row in results.get("data", []):
                fields = dict(zip(names, row["fields"], strict=True))
                key = json.dumps([fields[name] for name in keys])
                if row["kind"] in ("INSERT", "UPDATE_AFTER"):
                    last[key] = fields
                elif last.get(key) == fields:
                    del last[key]
        return list(last.values())

    def state(self, job: str) -> str:
        """Return the state of a job: RUNNING, FINISHED, FAILED, …"""
        for row in self.rows("SHOW JOBS"):
            if row[0] == job:
                return str(row[2])
        raise ConnectorError(f"Flink knows no job {job}", remedy="it may have restarted: look at its web page")

    def wait(self, job: Submitted, *, until: Iterable[str] = ENDED, timeout_s: float | None = None) -> str:
        """Wait until a job is in one of the states `until`, and return it.

        Raises
        ------
        ConnectorError
            The job has failed: the error has Flink's reason.
        """
        wanted, end, pause = frozenset(until), None if timeout_s is None else time.monotonic() + timeout_s, _WAIT_S
        while True:
            state = self.state(job.id)
            if state == "FAILED":
                raise ConnectorError(f"the job {job.name} ({job.id}) failed on Flink: {self.reason(job.id)}", remedy=_REMEDY)
            if state in wanted or state in ENDED:
                return state
            if end is not None and time.monotonic() > end:
                raise ConnectorError(f"the job {job.name} ({job.id}) is {state} after {timeout_s:g} s", remedy="look at Flink's web page")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_WAIT_S)

    def reason(self, job: str) -> str:
        """Return why a job failed, as the JobManager tells it."""
        properties = self._ask("GET", f"/v1/sessions/{self._session}")["properties"]
        host, port = properties.get("rest.address", "localhost"), properties.get("rest.port", "8081")
        # The gateway's name for the JobManager may be one of containers alone, whose ports are open on the gateway's own host.
        pages = [f"http://{one}:{port}" for one in dict.fromkeys((host, urllib.parse.urlsplit(self.url).hostname))]
        for page in pages:
            try:
                with urllib.request.urlopen(f"{page}/jobs/{job}/exceptions", timeout=_TIMEOUT_S) as answer:
                    entries = json.load(answer)["exceptionHistory"]["entries"]
            except (OSError, ValueError, KeyError):
                continue
            return told(entries[0]["stacktrace"]) if entries else "no reason is known"
        return f"the reason stands on Flink's web page, {pages[0]}"

    def _pages(self, statement: Statement) -> Iterator[dict[str, Any]]:
        base = f"/v1/sessions/{self._session}"
        operation = self._ask("POST", f"{base}/statements", {"statement": statement.text}, statement)["operationHandle"]
        try:
            path, pause = f"{base}/operations/{operation}/result/0?rowFormat=JSON", _WAIT_S
            while path:
                page = self._ask("GET", path, None, statement)
                if page["resultType"] == "NOT_READY":
                    time.sleep(pause)
                    pause = min(pause * 1.5, _LONGEST_WAIT_S)
                    continue
                yield page
                path = page.get("nextResultUri") or ""
        finally:
            self._ask("DELETE", f"{base}/operations/{operation}/close")

    def _ask(self, method: str, path: str, body: Any = None, statement: Statement | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            what = "refuses a request" if statement is None else f"refuses the {statement.kind} {statement.name!r}"
            raise ConnectorError(f"Flink {what}: {told(_stack_of(said))}", remedy=_REMEDY) from None
        except (OSError, ValueError) as error:
            raise ConnectorError(
                f"the SQL gateway at {self.url} cannot be reached: {getattr(error, 'reason', error)}",
                remedy="start it (bin/sql-gateway.sh start), or name another one: --submit http://HOST:8083",
            ) from None


_REMEDY: Final = "the statements are what `streamdsl -A … flink` prints; the gateway's log has the whole trace"
_CAUSE: Final = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)+[\w$]*(?:Exception|Error|Throwable)(?:: (.*))?$", re.M)


def _stack_of(said: str) -> str:
    try:
        return "\n".join(json.loads(said)["errors"])
    except (ValueError, KeyError, TypeError):
        return said


def told(trace: str) -> str:
    """Return the innermost reason of a Java stack trace that says something."""
    reasons = [found for found in _CAUSE.findall(trace) if found.strip()]
    return str(reasons[-1]).strip() if reasons else trace.strip().partition("\n")[0] or "it gives no reason"
