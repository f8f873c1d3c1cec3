"""The errors of streamdsl: one tree, each class says whose fault it is.

::

    StreamError
    ├── TopologyError     user: the topology is wrong; raised at the line that wrote it
    ├── ConfigError       user: a setting is wrong or settings contradict each other
    ├── UserCodeError     user: a function or processor raised
    ├── DataError         external: a record is bad
    ├── ConnectorError    external: a source or sink cannot be opened, read or written
    ├── StateError        external: state directory, checkpoint or codec
    └── InternalError     streamdsl: a broken promise of the library itself

    RecordError           inside the data plane only; leaves a task as a DataError
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "ConfigError",
    "ConnectorError",
    "DataError",
    "InternalError",
    "RecordError",
    "StateError",
    "StreamError",
    "TopologyError",
    "UserCodeError",
]


#: So much of a bad record is shown; it comes from outside and may be anything.
SHOWN_BYTES: Final = 200


def in_one_line(text: str) -> str:
    """Return text that holds values of records, or what others say: nothing of it may steer a terminal or forge a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(raw: bytes | None) -> str:
    """Return the beginning of a record in one printable line."""
    if raw is None:
        return "null"
    text = raw[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return ascii(text) + ("…" if len(raw) > SHOWN_BYTES else "")


class StreamError(Exception):
    """Base of every error that streamdsl raises on purpose.

    Parameters
    ----------
    message : str
        What happened.
    remedy : str, optional
        What to do next; shown on its own line.
    **context
        Known facts, kept in `context` and shown where the class says so.

    Attributes
    ----------
    message : str
    remedy : str | None
    context : dict

    Examples
    --------
    >>> try:
    ...     Topology("t").stream(memory("rows", {"amount": int})).filter(col("amonut") > 0)
    ... except StreamError as error:
    ...     print(error)
    filter: unknown column 'amonut'
      did you mean 'amount'? known: amount
    """

    def __init__(self, message: str, *, remedy: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.context: dict[str, Any] = context

    def _facts(self) -> str:
        """Return the known context as one short text (empty by default)."""
        return ""

    def __str__(self) -> str:
        text = self.message
        facts = self._facts()
        if facts:
            text = f"{text} ({facts})"
        text = in_one_line(text)
        if self.remedy:
            text = f"{text}\n  {self.remedy}"
        return text

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.message, self.remedy, self.context)


def _rebuild(cls: type[StreamError], message: str, remedy: str | None, context: dict[str, Any]) -> StreamError:
    return cls(message, remedy=remedy, **context)


class TopologyError(StreamError):
    """The user's topology is wrong: an unknown column, a wrong type, a clash of names.

    Examples
    --------
    >>> Topology("t").stream(memory("rows", {"amount": int})).select(col("amonut"))
    Traceback (most recent call last):
        ...
    streamdsl.errors.TopologyError: select: unknown column 'amonut'
      did you mean 'amount'? known: amount
    """


class ConfigError(StreamError):
    """A setting is out of range, or settings contradict each other.

    Examples
    --------
    >>> Config(parallelism=0)
    Traceback (most recent call last):
        ...
    streamdsl.errors.ConfigError: parallelism=0 is out of range
      use an int from 1 to 128
    """


class _PositionedError(StreamError):
    """An error that knows the operator and the record it belongs to."""

    _shown = ("operator", "field", "topic", "partition", "offset", "reason")

    def _fact(self, name: str) -> Any:
        return self.context.get(name)

    @property
    def operator(self) -> str | None:
        """Name of the operator, if known."""
        value = self.context.get("operator")
        return None if value is None else str(value)

    @property
    def field(self) -> str | None:
        """Column of the record, if known."""
        value = self.context.get("field")
        return None if value is None else str(value)

    @property
    def topic(self) -> str | None:
        """Topic or file of the record, if known."""
        value = self.context.get("topic")
        return None if value is None else str(value)

    @property
    def partition(self) -> int | None:
        """Partition of the record, if known."""
        value = self.context.get("partition")
        return None if value is None else int(value)

    @property
    def offset(self) -> int | None:
        """Offset of the record, if known."""
        value = self.context.get("offset")
        return None if value is None else int(value)

    @property
    def reason(self) -> str | None:
        """Why the record was refused, if known."""
        value = self.context.get("reason")
        return None if value is None else str(value)

    def _facts(self) -> str:
        """Return all known facts, in a fixed order."""
        known = ((name, self.context.get(name)) for name in self._shown)
        # A reason that the message tells already is not told twice.
        return ", ".join(f"{name}={value}" for name, value in known if value is not None and not self._told(name, value))

    def _told(self, name: str, value: Any) -> bool:
        return name == "reason" and str(value) in self.message


class DataError(_PositionedError):
    """A record is bad. Keywords: operator, field, topic, partition, offset, reason.

    Examples
    --------
    >>> try:
    ...     evaluate(col("s").cast(int), s=["7", "x"])
    ... except DataError as error:
    ...     print(error.operator, error.field, error.reason, sep=" | ")
    project.1 | value | 'x' is no int64
    """


class UserCodeError(_PositionedError):
    """A user's function raised; the original is `__cause__`. Same keywords as `DataError`.

    Examples
    --------
    >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 0}]))
    >>> try:
    ...     rows.map(lambda row: {"y": 1 / row.x}, schema={"y": float}).collect()
    ... except UserCodeError as error:
    ...     print(repr(error.__cause__), error.operator, error.field, error.reason)
    ...     print(error.topic, error.partition, error.offset)
    ZeroDivisionError('division by zero') map.<lambda>.1 None ZeroDivisionError: division by zero
    rows 0 0
    """


class StateError(StreamError):
    """State directory, checkpoint or codec cannot be used.

    Examples
    --------
    >>> topology = Topology("t")
    >>> topology.stream(memory("rows", rows=[{"x": 0}])).to(memory("out"))
    >>> topology.run(Config(restore_from="nowhere"))
    Traceback (most recent call last):
        ...
    streamdsl.errors.StateError: nowhere is not a savepoint
      name a directory that Run.savepoint has made
    """


class ConnectorError(StreamError):
    """A source or sink cannot be opened, read or written.

    Examples
    --------
    >>> Topology("t").stream(files("missing/*.csv", {"x": int})).collect()
    Traceback (most recent call last):
        ...
    streamdsl.errors.ConnectorError: no file matches 'missing/*.csv' (working directory ...)
      check the path; relative paths start from the working directory
    """


class InternalError(StreamError):
    """A broken promise of the library itself; please report it.

    Examples
    --------
    >>> issubclass(InternalError, StreamError)
    True
    """


def connector_failure(doing: str, error: Exception) -> Exception:
    """Return what is raised for an error of a source or sink: its own if it raised one of ours, else a `ConnectorError`."""
    if isinstance(error, StreamError | MemoryError):
        return error
    said = ConnectorError(f"{doing}: {type(error).__name__}: {error}", remedy="see the cause above; what was committed stays")
    said.__cause__ = error
    return said


class RecordError(Exception):
    """Row `row` of the batch at hand failed. Raised in the data plane, completed with the position by the task.

    Parameters
    ----------
    row : int
        Index in the batch that the operator was given.
    reason : str
    field : str, optional
        Column at fault.
    operator : str, optional
        Operator at fault.
    """

    def __init__(self, row: int, reason: str, *, field: str | None = None, operator: str | None = None) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason
        self.field = field
        self.operator = operator

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"
