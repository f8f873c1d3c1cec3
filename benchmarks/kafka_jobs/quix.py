"""The three rules on Quix Streams: a function with a state per account. Runs in an environment of its own, which `python` makes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.kafka_jobs.work import Work, report
from examples.fraud.cities import CITIES
from examples.fraud.data import distance_km

VERSION: Final = "3.28.1"
DISTANCE: Final = {(a, b): distance_km(CITIES[a], CITIES[b]) for a in CITIES for b in CITIES}


def python() -> str:
    """Return the interpreter that has Quix Streams, made by the first call outside the tree."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamdsl-benchmarks"
    home = cache / f"quixstreams-{VERSION}"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(home / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", f"quixstreams=={VERSION}"]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (home / "complete").touch()
    return str(home / "bin" / "python")


def judge(row: dict[str, Any], last: list[Any] | None) -> tuple[list[str], list[Any]]:
    """Return the rules that the transaction breaks, and the account's new state.

    The state is [time, time before, number, mean, sum of squares, city]: an account's times never go back, so two earlier ones
    within a minute is a question about the last but one.
    """
    now, amount, city = row["event_time"], row["amount"], row["city"]
    time1, time2, n, mean, squares, before = last or [-1 << 60, -1 << 60, 0, 0.0, 0.0, city]
    rules = []
    if now - time2 < 60_000:
        rules.append("VELOCITY")
    if n >= 5 and squares > 0 and abs(amount - mean) > 3 * math.sqrt(squares / n):
        rules.append("AMOUNT_ANOMALY")
    if before != city:
        km = DISTANCE[before, city]
        if km > 50 and km / (max(abs(now - time1) / 1000, 1.0) / 3600) > 900:
            rules.append("GEO_IMPOSSIBLE")
    delta = amount - mean
    learned = mean + delta / (n + 1)
    return rules, [now, time1, n + 1, learned, squares + delta * (amount - learned), city]


def main() -> None:
    """Run the job; the clock runs from the first record in the rules to the end of `run`, which commits."""
    from quixstreams import Application, State

    work = Work.told()
    application = Application(
        broker_address=work.broker,
        consumer_group=work.name,
        auto_offset_reset="earliest",
        commit_interval=work.interval_ms / 1000,
        state_dir=work.directory,
        processing_guarantee="exactly-once" if work.guarantee == "exactly_once" else "at-least-once",
        loglevel="WARNING",
    )
    transactions = application.topic(work.transactions, key_deserializer="str", value_deserializer="json")
    alerts = application.topic(work.alerts, key_serializer="str", value_serializer="json")
    began, seen = 0.0, 0

    def rules(row: dict[str, Any], state: State) -> list[dict[str, Any]]:
        nonlocal began, seen
        began, seen = began or time.perf_counter(), seen + 1
        if seen == work.records:
            # Behind this one. The `count` of `run` would be one of alerts.
            application.stop()
        found, account = judge(row, state.get("account"))
        state.set("account", account)
        named = {name: row[name] for name in ("transaction_id", "account_number", "event_time")}
        return [named | {"rule": rule} for rule in found]

    application.dataframe(transactions).apply(rules, stateful=True, expand=True).to_topic(alerts)
    application.run()
    report(seen, time.perf_counter() - began, version=VERSION)


if __name__ == "__main__":
    main()
