"""Settings come from the file, then the environment, then flags, and what is wrong is said by its name."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from streamdsl import Config, ConfigError, Secret
from streamdsl.cli.settings import _INTS, OWN_KEYS, gather, kafka_flags


def written(place: Path, text: str, mode: int = 0o600) -> Path:
    path = place / "streamdsl.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_what_comes_later_wins(tmp_path):
    file = written(
        tmp_path, 'checkpoint_interval = "1s"\nparallelism = 2\nbroker = "file:1"\n[kafka]\n"linger.ms" = 1\n"client.id" = "file"\n'
    )
    environ = {"STREAMDSL_PARALLELISM": "3", "STREAMDSL_BROKER": "environment:1", "STREAMDSL_KAFKA__LINGER_MS": "2", "PATH": "/bin"}
    config = gather({"broker": "flag:1", "kafka": {"linger.ms": "3"}, "state_dir": None}, file, environ).config
    assert config.checkpoint_interval == "1s" and config.parallelism == 3 and config.broker == "flag:1" and config.state_dir is None
    assert config.kafka == {"linger.ms": "3", "client.id": "file"}


def test_the_environment_names_the_file(tmp_path):
    file = written(tmp_path, "restarts = 4")
    assert gather({}, None, {"STREAMDSL_CONFIG": str(file)}).config.restarts == 4


def test_bootstrap_servers_and_broker_are_one_setting(tmp_path):
    file = written(tmp_path, '[kafka]\nbootstrap.servers = "file:1"\n')
    assert gather({}, file, {}).config.broker == "file:1"
    assert gather({"broker": "flag:1"}, file, {}).config.broker == "flag:1"
    assert gather({}, file, {"STREAMDSL_KAFKA__BOOTSTRAP_SERVERS": "environment:1"}).config.broker == "environment:1"


def test_options_may_be_written_with_and_without_quotes(tmp_path):
    file = written(tmp_path, '[kafka]\nsasl.password = "a"\n"ssl.key.password" = "b"\nenable.idempotence = true\n')
    assert gather({}, file, {}).config.kafka == {"sasl.password": Secret("a"), "ssl.key.password": Secret("b"), "enable.idempotence": True}


def test_secrets_are_wrapped_wherever_they_come_from(tmp_path):
    settings = gather({}, written(tmp_path, '[kafka]\n"sasl.password" = "canary"\n'), {"STREAMDSL_KAFKA__SSL_KEY_PASSWORD": "canary"})
    assert settings.config.kafka == {"sasl.password": Secret("canary"), "ssl.key.password": Secret("canary")}
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_with_secrets_that_others_may_read_is_warned_of(mode, warned, tmp_path):
    file = written(tmp_path, '[kafka]\n"sasl.password" = "canary"\n', mode)
    found = gather({}, file, {}).warnings
    assert bool(found) == warned and "canary" not in "".join(found)


def test_a_file_without_secrets_may_be_read_by_anybody(tmp_path):
    assert gather({}, written(tmp_path, '[kafka]\n"linger.ms" = 5\n', 0o644), {}).warnings == ()


def test_every_setting_of_config_can_be_said_in_the_environment():
    assert set(OWN_KEYS) >= {field.name for field in dataclasses.fields(Config)} - {"kafka"}
    values = {
        "broker": "a:1",
        "checkpoint_failure_timeout": "3m",
        "checkpoint_interval": "2s",
        "checkpoint_store": "s3://bucket/job",
        "checkpoint_timeout": "9s",
        "drain": "true",
        "drop_state": "a, b",
        "errors": "skip",
        "keep_state": "c",
        "loglevel": "debug",
        "log_format": "json",
        "plain": "on",
        "rows": "no",
        "metrics_allow_host": "a.example, b.example",
        "metrics_host": "::1",
        "metrics_port": "9100",
        "metrics_tables": "no",
        "otlp_endpoint": "http://c:4318",
        "ui_allow_host": "c.example",
        "ui_host": "::1",
        "ui_port": "8081",
        "ui_rows": "1",
        "restore_from": "r",
        "state_backend": "memory",
        "state_dir": "s",
        "state_memory": "1GiB",
        "stop_timeout": "4s",
        "strict_names": "yes",
    }
    values |= {name: "7" for name in _INTS - {"metrics_port", "ui_port"}}
    assert set(values) == set(OWN_KEYS)
    settings = gather({}, None, {f"STREAMDSL_{name.upper()}": text for name, text in values.items()})
    texts = {name: text for name, text in values.items() if name in {field.name for field in dataclasses.fields(Config)} - _INTS}
    ints = dict.fromkeys(_INTS - {"metrics_port", "ui_port"}, 7)
    assert settings.config == Config(**{**texts, **ints, "strict_names": True, "drop_state": ["a", "b"], "keep_state": ["c"]})
    assert (settings.loglevel, settings.drain, settings.metrics_port, settings.metrics_host) == ("DEBUG", True, 9100, "::1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('brokr = "a:1"', "there is no setting 'brokr'\n  did you mean 'broker'?"),
        ("kafka = 5", "kafka is a table"),
        ("broker = ", "is not TOML"),
        ('parallelism = "2"', "parallelism='2' is out of range"),
        ("state_dir = 5", "state_dir=5 is no text"),
        ("metrics_port = 70000", "metrics_port=70000 is no port"),
        ("drain = 1", "drain=1 is neither true nor false"),
        ('loglevel = "LOUD"', "loglevel='LOUD' is unknown"),
        ('metrics_host = ""', "metrics_host='' is no address"),
        ('checkpoint_interval = "soon"', "checkpoint_interval: "),
        ("[kafka]\nx = [1]", "[kafka] x is of type list"),
        ('[kafka]\n"" = 1', "kafka is a mapping"),
        ("\x00\xff", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text, said, tmp_path):
    with pytest.raises(ConfigError) as caught:
        gather({}, written(tmp_path, text), {})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("STREAMDSL_BROKR", "a:1", "there is no setting 'STREAMDSL_BROKR'"),
        ("STREAMDSL_PARALLELISM", "two", "STREAMDSL_PARALLELISM='two' is not an int"),
        ("STREAMDSL_DRAIN", "perhaps", "is neither true nor false"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(variable, value, said):
    with pytest.raises(ConfigError) as caught:
        gather({}, None, {variable: value})
    assert said in str(caught.value)


@pytest.mark.parametrize("pair", ["linger.ms", "=5", ""])
def test_an_option_on_the_command_line_has_a_name_and_a_value(pair):
    with pytest.raises(ConfigError, match="-X takes name=value"):
        kafka_flags((pair,))


def test_any_bytes_in_a_file_are_an_error_or_settings(tmp_path):
    chance = random.Random(4)
    for _ in range(300):
        path = tmp_path / "any.toml"
        path.write_bytes(bytes(chance.choice(b"ab.=\"[]{}\n #1\x00\xff'") for _ in range(chance.randrange(30))))
        try:
            gather({}, path, {})
        except ConfigError:
            pass
