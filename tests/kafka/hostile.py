"""Hostile records among good ones: whoever writes into a topic must not stop the job, nor lose a row of somebody else.

``python -m tests.kafka.hostile --records 100000 --seed 7``. What is good and what is bad is decided here, by Python's own JSON; each
good row must come out once and each bad record must be in the dead-letter topic once, as it came, although the run is left in the
middle and started again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamdsl import Config, Topology, col, dead_letter, kafka
from tests.kafka.broker import Broker
from tests.kafka.topics import Record, consume_all, create_topic, produce, wait_until_settled

SCHEMA = {"id": "int64 | None", "at": "int64 | None", "name": "string | None", "amount": "float64 | None", "ok": "bool | None"}
LIMIT = 700_000
#: Deeper than any parser that recurses goes.
DEEP = 100_000
DAY_MS = 86_400_000
#: So much of a bad record is kept, see `connectors/kafka/reader.py`.
KEPT = 900_000
_TYPES = {"id": int, "at": int, "name": str, "amount": (int, float), "ok": bool}

# ------------------------------------------------------------------ what is written


class Hostile:
    """Makes records; about half of them are bad."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._now = int(time.time() * 1000)
        small: list[Callable[[], bytes | None]] = [
            self._random_bytes, self._mutated, self._mutated, self._mutated, self._truncated, self._numbers, self._twice, self._not_utf8,
            self._far, self._joined, self._not_finite, lambda: None, lambda: b"", lambda: b" \n\t ", self._blanks_or_not, self._texts,
        ]  # fmt: skip
        self._kinds = small
        self._large: list[Callable[[], bytes]] = [self._bomb, self._bomb, self._bomb, self._oversized, self._long_number]

    def records(self, count: int) -> Iterator[dict[str, Any]]:
        """Return what `produce` takes."""
        for number in range(count):
            draw = self._chance.random()
            if draw < 0.5:
                value: bytes | None = self._good(number)
            elif draw < 0.998:
                value = self._chance.choice(self._kinds)()
            else:
                value = self._chance.choice(self._large)()
            yield {"key": self._key(number), "value": value, "timestamp": self._timestamp()}

    def _key(self, number: int) -> bytes | None:
        return self._chance.choice([f"k{number}".encode(), f"k{number}".encode(), None, b"", self._chance.randbytes(9)])

    def _timestamp(self) -> int:
        return self._now if self._chance.random() < 0.9 else self._now + self._chance.randrange(10**13)

    def _row(self, number: int | None = None) -> dict[str, Any]:
        chance = self._chance
        row = {
            "id": chance.randrange(-(2**63), 2**63) if number is None else number,
            "at": self._now - chance.randrange(DAY_MS),
            "name": chance.choice([None, "", "Zoë", "\U0001f600", "a\nb\t\u0000\u2028", '"{"}', "}{", "x" * chance.randrange(300)]),
            "amount": chance.choice([None, 0, -0.0, 1e308, 5e-324, 0.1, chance.uniform(-1e6, 1e6), chance.randrange(10**17)]),
            "ok": chance.choice([None, True, False]),
            "more": chance.choice([1, None, [[]], {"id": "other"}, [{"a": [1, "x", None]}], 10**40, "}\n{"]),
        }
        return {name: row[name] for name in chance.sample(list(row), len(row)) if name == "at" or chance.random() < 0.9}

    def _good(self, number: int) -> bytes:
        chance = self._chance
        text = json.dumps(
            self._row(number),
            ensure_ascii=chance.random() < 0.5,
            indent=chance.choice([None, None, 0, 2, "\t"]),
            separators=chance.choice([None, (",", ":"), (" , ", " : ")]),
        )
        if chance.random() < 0.1:
            text = chance.choice([" ", "\n", "\r\n\t"]) + text.replace("\n", "\r\n") + chance.choice([" ", "\n", "\r\n\n"])
        return text.encode()

    def _random_bytes(self) -> bytes:
        return self._chance.randbytes(self._chance.randrange(200))

    def _mutated(self) -> bytes:
        """A good record with a few bytes changed, taken out, put in, or said twice: some stay good."""
        value = bytearray(self._good(0))
        for _ in range(self._chance.choice([1, 1, 1, 2, 5])):
            at, kind = self._chance.randrange(len(value)), self._chance.randrange(5)
            if kind == 0:
                value[at] = self._chance.randrange(256)
            elif kind == 1:
                del value[at : at + self._chance.randrange(1, 9)]
            elif kind == 2:
                value[at:at] = value[at : at + self._chance.randrange(1, 40)]
            elif kind == 3:
                value[at:at] = bytes(
                    self._chance.choices(b'{}[]",:\\ \n\r\t0123456789eE+-.truefalsn\x00\xff', k=self._chance.randrange(1, 4))
                )
            else:
                value[at:at] = self._chance.choice([b"null", b"NaN", b"{}", b'"id":', b"\\ud800", b"\\u0000", b"1e999", b"}\n{", b"/*"])
            if not value:
                break
        return bytes(value)

    def _truncated(self) -> bytes:
        value = self._good(0)
        return value[: self._chance.randrange(len(value))]

    def _with(self, name: str, literal: str) -> bytes:
        """Return a row in which `name` is written like this."""
        row = self._row()
        row[name] = 0
        return json.dumps({**row, name: "@@"}).replace('"@@"', literal).encode()

    def _numbers(self) -> bytes:
        literals = ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e999", "-1e999", "1e-999", "01", "1.", ".5"]
        literals += [
            "+1",
            "0x1f",
            "1_000",
            "1.0",
            "1e2",
            "-0",
            "9" * 400,
            "-" + "9" * 5000,
            "0." + "0" * 400 + "1",
            "1e+30",
            "--1",
            "\u0661",
        ]
        return self._with(self._chance.choice(["id", "at", "amount", "more"]), self._chance.choice(literals))

    def _not_finite(self) -> bytes:
        return self._with(self._chance.choice(["id", "amount", "more"]), self._chance.choice(["NaN", "Infinity", "-Infinity", "nan"]))

    def _texts(self) -> bytes:
        literals = [
            '"\\ud800"',
            '"\\udc00"',
            '"\\ud83d\\ude00"',
            '"\\ude00\\ud83d"',
            '"\\u12"',
            '"\\x41"',
            '"a\tb"',
            '"a\nb"',
            '"\x7f"',
            "'a'",
        ]
        return self._with(self._chance.choice(["name", "more", "id"]), self._chance.choice(literals))

    def _twice(self) -> bytes:
        name = self._chance.choice([*SCHEMA, "more"])
        return self._good(0).strip()[:-1] + f',"{name}":{self._chance.choice(["1", "null", "true"])}}}'.encode()

    def _not_utf8(self) -> bytes:
        wrong = self._chance.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f"])
        return self._with("name", '"@"').replace(b'"@"', b'"' + wrong + b'"')

    def _far(self) -> bytes:
        """A time that is far ahead, or none."""
        ahead = [self._now + 2 * DAY_MS, self._now + 10**13, 2**63 - 1, 2**62]
        return self._with("at", self._chance.choice([*map(str, ahead), "null", "0", "-1", str(-(2**63)), str(-(2**62))]))

    def _joined(self) -> bytes:
        """Several values in one, or what looks like it."""
        first, second = self._good(0).strip(), self._good(0).strip()
        whole = [
            first + second,
            first + b"\n" + second,
            b"[" + first + b"," + second + b"]",
            first + b",",
            first + b"\x00",
            b"\xef\xbb\xbf" + first,
        ]
        return self._chance.choice([*whole, first[:-1] + b',"x":\n' + second + b"}", first + b"\n", b"null", b"7", b'"x"', b"true", b"{}"])

    def _blanks_or_not(self) -> bytes:
        blank = self._chance.choice([b"\r", b"\x0b", b"\x0c", b"\xc2\xa0", b"\xe2\x80\xa8", b"\n", b"\t"])
        return blank + self._good(0) if self._chance.random() < 0.5 else self._good(0).replace(b",", b"," + blank, 1)

    def _bomb(self) -> bytes:
        depth = self._chance.choice([900, 1_100, DEEP])
        opened, closed = self._chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
        inner = opened * depth + (b"1" + closed * depth) * self._chance.randrange(2)
        return self._chance.choice([inner, self._with("more", "@@").replace(b"@@", inner), self._with("id", "@@").replace(b"@@", inner)])

    def _oversized(self) -> bytes:
        return self._with("name", '"' + "x" * self._chance.choice([LIMIT, LIMIT + 250_000, LIMIT - 1000]) + '"')

    def _long_number(self) -> bytes:
        return self._with(self._chance.choice(["id", "amount", "more"]), "1" * 20_000)


# ------------------------------------------------------------------ what is expected of it


class _Twice(ValueError):
    pass


def row_of(value: bytes | None) -> dict[str, Any] | None:
    """Return the row that a value holds; None if it is bad. To be called with room on the stack, see `expected`.

    It is JSON as Python reads it, with four differences, each legitimate (RFC 8259 leaves them open, or forbids what Python allows) and the
    same for every neighbourhood of the record: a declared column that is there twice is bad, and so are a surrogate without
    its other half and a number whose exponent no double has; `Inf` and `-NaN` are read as `Infinity` and `NaN` are.
    """
    if value is None or len(value) > LIMIT:
        return None
    try:
        text = value.strip(b" \t\r\n").decode("utf-8")
        if not text.startswith("{"):
            return None
        found = json.loads(_NOT_FINITE.sub(_as_python, text), object_pairs_hook=_Object, parse_float=_float)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except ValueError:
        return None
    if any(found.named[name] > 1 for name in SCHEMA):
        return None
    row = {name: found.get(name) for name in SCHEMA}
    return row if all(given is None or _fits(given, name) for name, given in row.items()) else None


#: Texts, or what pyarrow takes for a number and Python does not.
_NOT_FINITE = re.compile(r'"(?:[^"\\]|\\.)*"|-NaN|Inf(?!inity)', re.DOTALL)


def _as_python(found: re.Match[str]) -> str:
    return {"-NaN": "NaN", "Inf": "Infinity"}.get(found[0], found[0])


class _Object(dict[str, Any]):
    """An object that knows how often each name stood in it."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.named = Counter(name for name, _ in pairs)


def _float(literal: str) -> float:
    digits, _, exponent = literal.lower().partition("e")
    if exponent and int(exponent) > 308 + len(digits.partition(".")[2]):
        raise ValueError(f"no double has the exponent of {literal[:40]}")
    return float(literal)


def _fits(given: Any, name: str) -> bool:
    if isinstance(given, bool) and name != "ok":
        return False
    return isinstance(given, _TYPES[name]) and (name not in ("id", "at") or -(2**63) <= given < 2**63)


def as_written(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row as JSON can hold it: NaN and infinities as texts, and with what a double makes of a long number."""
    try:
        amount = None if row["amount"] is None else float(row["amount"])
    except OverflowError:
        amount = math.inf if row["amount"] > 0 else -math.inf
    if amount is None or math.isfinite(amount):
        return {**row, "amount": amount}
    return {**row, "amount": "NaN" if math.isnan(amount) else "Infinity" if amount > 0 else "-Infinity"}


@dataclass
class Expected:
    """By partition and offset: rows that come out, and what does not, as it came; of some it is said that their time is why."""

    rows: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    dead: dict[tuple[int, int], bytes | None] = field(default_factory=dict)
    of_another_time: set[tuple[int, int]] = field(default_factory=set)


def expected(records: list[Record]) -> Expected:
    """Return what must become of records."""
    found, latest = Expected(), int(time.time() * 1000) + DAY_MS

    def look() -> None:
        for record in records:
            row, at = row_of(record.value), (record.partition, record.offset)
            if row is None or row["at"] is None or row["at"] > latest:
                found.dead[at] = None if record.value is None else record.value[:KEPT]
                if row is not None:
                    found.of_another_time.add(at)
            else:
                found.rows[at] = as_written(row)

    limits = sys.getrecursionlimit(), sys.get_int_max_str_digits(), threading.stack_size(512 << 20)
    sys.setrecursionlimit(10**6)
    sys.set_int_max_str_digits(0)
    try:
        # Python's own parser goes as deep as its stack is: it must say what a bomb is, and not end of it.
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limits[0])
        sys.set_int_max_str_digits(limits[1])
        threading.stack_size(limits[2])
    if len(found.rows) + len(found.dead) != len(records):
        raise RuntimeError("the oracle has failed")
    return found


# ------------------------------------------------------------------ the run


def topology(source: str, rate: float | None) -> Topology:
    """Return what copies the rows of `source` into ``source-out`` and the bad records into ``source-dead``."""
    made = Topology(f"hostile-{source}")
    letters = dead_letter(kafka(f"{source}-dead", partitions=2, options={"compression.type": "lz4"}))
    described = kafka(source, SCHEMA, until="latest", errors=letters, max_record_bytes=LIMIT, rate=rate)
    rows = made.stream(described, timestamp="at", max_ahead="1d", name="in")
    rows = rows.select(*SCHEMA, where=col("_partition"), offset=col("_offset"))
    rows.to(kafka(f"{source}-out", partitions=2, timestamps="arrival"), name="out")
    return made


@dataclass
class Report:
    """What was written, what became of it, and what is wrong with that."""

    seed: int
    records: int
    good: int = 0
    dead: int = 0
    lives: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        line = f"seed {self.seed}: {self.records} records, {self.good} rows out, {self.dead} dead letters, {self.lives} lives"
        return "\n".join([f"{line}, {self.seconds:.1f} s in them; {len(self.problems)} problems", *self.problems[:20]])


def campaign(bootstrap: str, source: str, state: Path, records: int, seed: int, lives: int = 3, timeout_s: float = 300.0) -> Report:
    """Write so many records, run over them in so many lives, and compare."""
    report = Report(seed, records, lives=lives)
    create_topic(bootstrap, source, 3, **{"message.timestamp.after.max.ms": str(10**15), "retention.ms": "-1"})
    produce(bootstrap, source, Hostile(seed).records(records), **{"compression.type": "lz4"})
    chance = random.Random(seed)
    config = Config(broker=bootstrap, state_dir=state, checkpoint_interval="50ms")
    began = time.monotonic()
    for _ in range(lives - 1):
        # So that the lives that are left read about half of it, in about a second each.
        run = topology(source, records / 2 / max(lives - 1, 1)).start(config)
        run.wait(chance.uniform(0.3, 1.7))
        if not run.abandon(60):
            raise RuntimeError("a run that was left does not end")
    run = topology(source, None).start(config)
    if not run.wait(timeout_s):
        report.problems.append(f"it stalls: {run.metrics()['tasks']}")
        if not run.abandon(60):
            raise RuntimeError("a run that was left does not end")
    report.seconds = time.monotonic() - began
    _compare(bootstrap, source, report)
    return report


def _compare(bootstrap: str, source: str, report: Report) -> None:
    wanted = expected(consume_all(bootstrap, source))
    for kind in ("out", "dead"):
        wait_until_settled(bootstrap, f"{source}-{kind}")
    out: dict[tuple[int, int], list[Any]] = defaultdict(list)
    dead: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for record in consume_all(bootstrap, f"{source}-out"):
        row = json.loads(record.value or b"")
        out[row.pop("where"), row.pop("offset")].append(row)
    for record in consume_all(bootstrap, f"{source}-dead"):
        told = {name: (value or b"").decode() for name, value in record.headers}
        dead[int(told["streamdsl.partition"]), int(told["streamdsl.offset"])].append((told["streamdsl.error"], record.value))
    report.good, report.dead = sum(map(len, out.values())), sum(map(len, dead.values()))
    if len(wanted.rows) + len(wanted.dead) != report.records:
        report.problems.append(f"{len(wanted.rows) + len(wanted.dead)} records in the topic")
    for at in {*wanted.rows, *wanted.dead, *out, *dead}:
        rows, letters = [wanted.rows[at]] if at in wanted.rows else [], [wanted.dead[at]] if at in wanted.dead else []
        if (
            out[at] != rows
            or [value for _, value in dead[at]] != letters
            or any(("event time" in error) is not (at in wanted.of_another_time) for error, _ in dead[at])
        ):
            report.problems.append(
                f"{at}: expected {_short(rows)} and dead {_short(letters)}, found {_short(out[at])} and {_short(dead[at])}"
            )


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) < 300 else f"{text[:300]}… ({len(text)})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--lives", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    faulthandler.enable()
    with Broker() as broker, tempfile.TemporaryDirectory() as state:
        report = campaign(broker.bootstrap, "hostile", Path(state), asked.records, seed, asked.lives)
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
