"""The fraud rules from topic to topic, to be killed: ``python tests/kafka/fraud_job.py --help``."""

from __future__ import annotations

import argparse
import logging
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from examples.fraud.records import Transaction  # noqa: E402
from examples.fraud.topology import build  # noqa: E402
from streamdsl import Config, StreamError, kafka  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("broker", "source", "sink", "state-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--checkpoint-interval", default="100ms")
    parser.add_argument("--state-memory", default="256MiB")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--delivery", default="exactly_once")
    parser.add_argument("--transaction-timeout-ms", type=int, default=None)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    options = {} if asked.transaction_timeout_ms is None else {"transaction.timeout.ms": asked.transaction_timeout_ms}
    config = Config(
        broker=asked.broker,
        state_dir=asked.state_dir,
        checkpoint_interval=asked.checkpoint_interval,
        state_memory=asked.state_memory,
        parallelism=asked.parallelism,
        kafka=options,
    )
    transactions = kafka(asked.source, Transaction, until="latest", rate=asked.rate)
    alerts = kafka(asked.sink, partitions=3, key="account_number", timestamps="arrival", delivery=asked.delivery)
    topology = build()
    # Every sink is a run from nothing: what another one has committed to the same broker is not this one's.
    topology.name = f"fraud-{asked.sink}"
    try:
        run = topology.run(config, bind={"transactions": transactions, "alerts": alerts})
    except StreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"finished {run.finished}, before {run.already_finished}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
