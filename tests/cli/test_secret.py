"""A secret shows itself to nobody but the one who asks for it."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import pprint
import traceback

import pytest

from streamdsl import Config, ConfigError, Secret
from streamdsl.secret import names_secret, redacted, wrapped

CANARY = "canary-5f1d"


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        ascii,
        pprint.pformat,
        "{!r:>20}".format,
        lambda secret: f"{secret:>12}|{secret!s}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - what logging does
        lambda secret: json.dumps({"password": secret}, default=str),
        lambda secret: repr({"sasl.password": secret}),
        lambda secret: str(copy.deepcopy([secret])) + str(copy.copy(secret)),
    ],
)
def test_a_secret_is_not_shown(show):
    shown = show(Secret(CANARY))
    assert "***" in shown and CANARY not in shown


@pytest.mark.parametrize("refuse", [pickle.dumps, json.dumps, hash, lambda s: s + "", len, iter, lambda s: setattr(s, "_value", ""), vars])
def test_what_a_secret_refuses_does_not_tell_it(refuse):
    with pytest.raises((TypeError, AttributeError)) as caught:
        refuse(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_a_traceback_with_local_variables_does_not_show_it():
    def connect(secret):
        raise RuntimeError(f"no connection with {secret}")

    try:
        connect(Secret(CANARY))
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret(***)" in shown and CANARY not in shown.replace(f'Secret("{CANARY}")', "")


def test_a_log_line_does_not_show_it(caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("streamdsl").debug("with %s and %r", Secret(CANARY), {"p": Secret(CANARY)})
    assert "***" in caplog.text and CANARY not in caplog.text


def test_equal_secrets_are_equal_and_give_themselves_when_asked():
    assert Secret(CANARY) == Secret(CANARY) != Secret("other")
    assert Secret(CANARY) != CANARY
    assert Secret(CANARY).reveal() == CANARY
    with pytest.raises(TypeError, match="a secret is a str, not int"):
        Secret(1234)


SECRET_OPTIONS = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.jaas.config",
    "basic.auth.user.info",
]


@pytest.mark.parametrize("option", SECRET_OPTIONS)
def test_options_that_are_secrets_are_wrapped(option):
    assert names_secret(option)
    assert wrapped({option: CANARY})[option] == Secret(CANARY)


def test_options_that_are_none_are_left_alone():
    options = {"bootstrap.servers": "a:1", "linger.ms": 5, "ssl.ca.location": "/ca.pem", "sasl.oauthbearer.token.endpoint.url": "https://a"}
    assert wrapped(options) == options


def test_only_what_is_known_to_be_harmless_is_shown():
    options = dict.fromkeys([*SECRET_OPTIONS, "sasl.username", "sasl.kerberos.kinit.cmd", "ssl.ca.location", "no.such.option"], CANARY)
    shown = redacted({**options, "bootstrap.servers": "a:1", "linger.ms": 5, "client.id": Secret(CANARY)})
    assert shown.pop("bootstrap.servers") == "a:1"
    assert shown.pop("linger.ms") == 5
    assert set(shown.values()) == {"***"}


def test_a_config_does_not_show_its_kafka_options():
    config = Config(broker="a:9092", kafka={"sasl.password": CANARY, "ssl.key.password": Secret(CANARY), "sasl.username": CANARY})
    assert CANARY not in repr(config) + str(config) and "a:9092" in repr(config)
    assert config.kafka["sasl.password"] == config.kafka["ssl.key.password"] == Secret(CANARY)
    assert CANARY not in repr(dataclasses.asdict(config)["kafka"]["sasl.password"])
    assert dataclasses.replace(config, parallelism=2).kafka == config.kafka


def test_a_config_is_not_changed_through_the_mapping_it_was_given():
    options = {"linger.ms": 5}
    config = Config(kafka=options)
    options["linger.ms"] = 6
    assert config.kafka == {"linger.ms": 5}


@pytest.mark.parametrize("broker", ["a:9092", "a:1,b:2", "127.0.0.1:19092", "[::1]:9092", "localhost", "SASL_SSL://a.example:9092"])
def test_a_broker_is_an_address(broker):
    assert Config(broker=broker).broker == broker


@pytest.mark.parametrize("broker", ["", " ", f"user:{CANARY}@host:9092", "a:port", "a:1,,b:2", "http://a/b", 9092])
def test_what_is_no_address_is_refused_and_not_repeated(broker):
    with pytest.raises(ConfigError, match="broker is not an address") as caught:
        Config(broker=broker)
    assert CANARY not in str(caught.value)


def test_two_brokers_contradict_each_other():
    with pytest.raises(ConfigError, match="different brokers"):
        Config(broker="a:1", kafka={"bootstrap.servers": "b:1"})


@pytest.mark.parametrize("value", [-1, True, "3", 1.0])
def test_accepted_duplicates_begin_with_a_checkpoint(value):
    with pytest.raises(ConfigError, match="accept_duplicates_from"):
        Config(accept_duplicates_from=value)


@pytest.mark.parametrize("options", [[("a", 1)], {1: "a"}, {"": 1}, "linger.ms=5"])
def test_kafka_options_are_a_mapping(options):
    with pytest.raises(ConfigError, match="kafka is a mapping"):
        Config(kafka=options)
