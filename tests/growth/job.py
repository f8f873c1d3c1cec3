"""The grown job on the topics of a broker, to its end: ``python -m tests.growth.job BROKER STATE RATE``."""

from __future__ import annotations

import sys

from examples.fraud.records import Transaction
from examples.fraud.topology import PARTITIONS, TRANSACTIONS, with_parts
from streamdsl import Config, kafka

PARTS = ("critical", "postgres", "redis", "webhook")

if __name__ == "__main__":
    broker, state, rate = sys.argv[1:]
    source = kafka(TRANSACTIONS, Transaction, partitions=PARTITIONS, until="latest", rate=float(rate))
    config = Config(broker=broker, state_dir=state, checkpoint_interval="100ms")
    with_parts("all", PARTS).run(config, bind={"transactions": source})
