"""``streamdsl -A … topics``: the topics that a topology needs, and whether the broker has them."""

from __future__ import annotations

from typing import Any

import click

from streamdsl.cli import kafka
from streamdsl.cli.options import connection_options, settings_of
from streamdsl.cli.printing import echo
from streamdsl.cli.target import load
from streamdsl.errors import ConfigError

__all__ = ["command"]


@click.command("topics")
@click.option("--create", is_flag=True, help="Create those that are missing; existing ones are never changed.")
@click.option("--partitions", type=click.IntRange(1), metavar="N", help="Of topics for which the topology says no number.")
@connection_options
@click.pass_obj
def command(target: str | None, /, create: bool, partitions: int | None, **flags: Any) -> int:
    """Show the topics that the topology needs. Exit code 1: one is missing, or has another number of partitions."""
    settings = settings_of(flags)
    found = kafka.topics_of(load(target), settings.config)
    if not found:
        echo("the topology names no Kafka topic")
        return 0
    wrong = 0
    for broker, topics in kafka.brokers(found).items():
        client = kafka.admin(topics[0].options)
        there = kafka.metadata(client, broker).topics
        for topic in topics:
            known = there.get(topic.name)
            if known is not None:
                wrong += not _show(topic, len(known.partitions))
            elif create:
                _create(topic, partitions)
            else:
                wrong += 1
                echo(f"{topic.name}  missing, {topic.used_as}; --create makes it")
    return 1 if wrong else 0


def _show(topic: kafka.Topic, partitions: int) -> bool:
    right = topic.partitions is None or topic.partitions == partitions
    wanted = "" if right else f", the topology says {topic.partitions}: it is left as it is"
    echo(f"{topic.name}  {partitions} partitions, {topic.used_as}{wanted}")
    return right


def _create(topic: kafka.Topic, partitions: int | None) -> None:
    number = topic.partitions or partitions
    if number is None:
        raise ConfigError(
            f"how many partitions shall {topic.name!r} have?",
            remedy="say kafka(..., partitions=N), or --partitions N: it cannot be changed later",
        )
    kafka.create(topic, number)
    echo(f"{topic.name}  created with {number} partitions, {topic.used_as}")
