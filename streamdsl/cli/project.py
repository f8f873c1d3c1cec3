"""The files of a new project; NAME is its module, TITLE its directory."""

from __future__ import annotations

from typing import Final

__all__ = ["FILES"]

_TOPOLOGY: Final = '''"""What each customer has spent so far, and orders that are unusually large."""

from pathlib import Path

from streamdsl import Topology, col, console, count, files

HERE = Path(__file__).parent

topology = Topology("NAME")
orders = topology.stream(
    files(HERE / "orders.csv", schema={"order_id": int, "customer": str, "amount": float, "at": int}),
    timestamp="at",
    disorder="5s",
    name="orders",
)
totals = orders.key_by("customer").aggregate(orders=count(), spent=col("amount").sum(), name="totals")
totals.to(console(), name="totals")
orders.filter(col("amount") > 500).to(files(HERE / "large.jsonl"), name="large")
'''

_DATA: Final = "order_id,customer,amount,at\n" + "".join(
    f"{number},{customer},{amount},{1735689600000 + 60_000 * number}\n"
    for number, (customer, amount) in enumerate(
        [("ada", 19.5), ("grace", 640.0), ("ada", 5.25), ("alan", 120.0), ("grace", 12.0), ("ada", 800.0), ("alan", 7.75)], 1
    )
)

_TEST: Final = """# The topology without files and without a broker.

from streamdsl.testing import TopologyTestDriver

from NAME import topology


def test_a_customer_s_orders_add_up():
    driver = TopologyTestDriver(topology)
    for number, amount in enumerate([10.0, 600.0], 1):
        driver.send("orders", {"order_id": number, "customer": "ada", "amount": amount, "at": 1_000 * number})
    assert driver.read("totals")[-1] == {"customer": "ada", "orders": 2, "spent": 610.0}
    assert [row["order_id"] for row in driver.read("large")] == [2]


def test_nothing_is_lost_in_a_crash():
    driver = TopologyTestDriver(topology)
    driver.send("orders", {"order_id": 1, "customer": "ada", "amount": 10.0, "at": 1_000})
    driver.checkpoint()
    driver.crash_and_restore(parallelism=3)
    driver.send("orders", {"order_id": 2, "customer": "ada", "amount": 5.0, "at": 2_000})
    assert driver.read("totals")[-1]["spent"] == 15.0
"""

_COMPOSE: Final = """# A broker for this project: after `docker compose up -d` it is at localhost:19092.
# `docker compose down -v` stops it and forgets all that it has kept.
name: TITLE

services:
  redpanda:
    image: docker.io/redpandadata/redpanda:v25.3.6@sha256:ac152ec27adccf9482af2649d293f398eb03c860d7469fc49f86e30d870ea408
    command:
      - redpanda start
      - --mode dev-container
      - --smp 1
      - --kafka-addr internal://0.0.0.0:9092,external://0.0.0.0:19092
      - --advertise-kafka-addr internal://redpanda:9092,external://localhost:19092
    ports: ["127.0.0.1:19092:19092"]
    volumes: ["redpanda:/var/lib/redpanda/data"]
    healthcheck:
      test: ["CMD-SHELL", "rpk cluster health | grep -E 'Healthy:.+true'"]
      interval: 5s
      timeout: 5s
      retries: 20

volumes:
  redpanda: {}
"""

_README: Final = """# TITLE

    streamdsl -A NAME run                 # the orders of orders.csv, to the end
    python -m pytest                      # the topology without files and without a broker
    streamdsl -A NAME explain             # the plan
    streamdsl -A NAME graph --svg > NAME.svg

With a broker: put `kafka("orders", schema=...)` in the place of `files(...)` in `NAME.py`, then

    docker compose up -d
    streamdsl -A NAME topics --create --partitions 3 --broker localhost:19092
    streamdsl -A NAME worker --broker localhost:19092
"""

FILES: Final = {
    "NAME.py": _TOPOLOGY,
    "orders.csv": _DATA,
    "test_NAME.py": _TEST,
    "compose.yml": _COMPOSE,
    "README.md": _README,
    ".gitignore": "__pycache__/\n.pytest_cache/\nlarge.jsonl\n",
}
