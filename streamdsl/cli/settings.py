"""Where settings come from: a TOML file, then the environment, then flags; what comes later wins."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streamdsl.config import Config
from streamdsl.errors import ConfigError
from streamdsl.schema import nearest
from streamdsl.secret import Secret, names_secret, wrapped

__all__ = ["OWN_KEYS", "Settings", "gather", "kafka_flags"]

PREFIX: Final = "STREAMDSL_"
_KAFKA: Final = "kafka"
LOG_FORMATS: Final = ("text", "json")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_OF_CONFIG: Final = tuple(field.name for field in dataclasses.fields(Config) if field.name != _KAFKA)
_OF_WORKER: Final[tuple[str, ...]] = (
    *("loglevel", "log_format", "plain", "rows", "drain"),
    *("metrics_port", "metrics_host", "metrics_allow_host", "metrics_tables", "otlp_endpoint"),
    *("ui_port", "ui_host", "ui_allow_host", "ui_rows"),
)
#: Names of our own settings, the same in the file, in the environment (upper case, with the prefix) and, where there are such, as flags.
OWN_KEYS: Final = (*_OF_CONFIG, *_OF_WORKER)
_INTS: Final = frozenset(
    {
        "parallelism",
        "retained_checkpoints",
        "restarts",
        "batch_rows",
        "accept_duplicates_from",
        "metrics_port",
        "ui_port",
    }
)
_TEXTS: Final = ("state_dir", "restore_from", "checkpoint_store", "state_backend", "broker", "otlp_endpoint")
_ARE_BOOLS: Final = frozenset({"strict_names", "drain", "plain", "rows", "metrics_tables", "ui_rows"})
_BOOLS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
#: Variables with our prefix that are no settings: what names the topology and the file, and switches of builds and tests.
_OTHER_VARIABLES: Final = frozenset(
    PREFIX + name
    for name in (
        *("APP", "CONFIG"),
        *(
            "BUILD_ONLY",
            "CHECKED",
            "DEBUG",
            "FAULT",
            "FAULT_LOG",
            "PLANT",
            "REQUIRE_BROKER",
            "SANITIZE",
            "SEEDS",
            "TEST_BROKER",
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a command goes by.

    Attributes
    ----------
    config : Config
    loglevel : str
    log_format : str
        "text" or "json".
    plain : bool
        Whether lines have no colours, in a terminal too.
    rows : bool | None
        Whether rows of sinks are logged once they are committed. None: with "text" only.
    drain : bool
        Whether a signal closes the windows.
    metrics_port : int | None
        None: metrics are not served. 0: any free port.
    metrics_host : str
    metrics_allow_host : tuple of str
        Public names under which clients reach the metrics.
    metrics_tables : bool | None
        Whether the rows of tables are served beside the metrics. None: at a loopback address only.
    otlp_endpoint : str | None
        Collector of OpenTelemetry that figures and spans are sent to. None: to none.
    ui_port, ui_host, ui_allow_host :
        The same of the live page.
    ui_rows : bool
        Whether the page shows rows.
    warnings : tuple of str
        What the user should know about where the settings came from.
    """

    config: Config
    loglevel: str = "INFO"
    log_format: str = "text"
    plain: bool = False
    rows: bool | None = None
    drain: bool = False
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    metrics_allow_host: tuple[str, ...] = ()
    metrics_tables: bool | None = None
    otlp_endpoint: str | None = None
    ui_port: int | None = None
    ui_host: str = "127.0.0.1"
    ui_allow_host: tuple[str, ...] = ()
    ui_rows: bool = False
    warnings: tuple[str, ...] = ()


def gather(flags: Mapping[str, Any], file: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of file, environment and flags.

    Parameters
    ----------
    flags : mapping
        Values by `OWN_KEYS`, and "kafka"; None and empty ones say nothing.
    file : path, optional
        Default: what STREAMDSL_CONFIG names, if it does.
    environ : mapping, optional

    Raises
    ------
    ConfigError
        The file cannot be read, a name is unknown, or a value is wrong.
    """
    environ = os.environ if environ is None else environ
    file = file or environ.get(f"{PREFIX}CONFIG")
    layers = [_of_file(Path(file))] if file else []
    warnings = _exposed(Path(file), layers[0]) if file else ()
    layers += [_of_environment(environ), {key: value for key, value in flags.items() if value is not None and value != ()}]
    merged: dict[str, Any] = {}
    kafka: dict[str, Any] = {}
    for layer in layers:
        layer = dict(layer)
        options = wrapped(layer.pop(_KAFKA, {}))
        # Two names of one thing: the later layer's counts.
        if "bootstrap.servers" in options:
            layer.setdefault("broker", options.pop("bootstrap.servers"))
        merged.update(layer)
        kafka.update(options)
    for key in _TEXTS:
        if not isinstance(merged.get(key, ""), str):
            raise ConfigError(f"{key}={merged[key]!r} is no text", remedy=f'write {key} = "…"')
    own = {key: merged.pop(key) for key in _OF_WORKER if key in merged}
    return Settings(config=Config(**merged, kafka=kafka), warnings=warnings, **_checked(own))


def kafka_flags(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the options of ``-X name=value``; a secret is refused there, since everybody on the machine sees a command line."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError("-X takes name=value", remedy="for instance -X linger.ms=5")
        if names_secret(name):
            variable = f"{PREFIX}KAFKA__{name.upper().replace('.', '_')}"
            raise ConfigError(
                f"-X {name}=…: others can read a command line", remedy=f"put it into the environment ({variable}) or the file of --config"
            )
        options[name] = value
    return options


def _checked(own: Mapping[str, Any]) -> dict[str, Any]:
    level = own.get("loglevel")
    found = dict(own)
    for served in ("metrics", "ui"):
        found.update(_served(own, served))
    if own.get("metrics_port") and own.get("metrics_port") == own.get("ui_port"):
        raise ConfigError(f"metrics_port and ui_port are both {own['ui_port']}", remedy="give them ports of their own")
    if level is not None:
        if not isinstance(level, str) or level.upper() not in _LEVELS:
            raise ConfigError(f"loglevel={level!r} is unknown", remedy=f"use one of {', '.join(_LEVELS)}")
        found["loglevel"] = level.upper()
    if own.get("log_format") not in (None, *LOG_FORMATS):
        raise ConfigError(f"log_format={own['log_format']!r} is unknown", remedy=f"use one of {', '.join(LOG_FORMATS)}")
    for name in _ARE_BOOLS.intersection(own):
        if not isinstance(own[name], bool):
            raise ConfigError(f"{name}={own[name]!r} is neither true nor false", remedy=f"write {name} = true")
    return found


def _served(own: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Check where something is served."""
    port, host, names = own.get(f"{what}_port"), own.get(f"{what}_host"), own.get(f"{what}_allow_host")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535):
        raise ConfigError(f"{what}_port={port!r} is no port", remedy="use an int from 0 (any free one) to 65535")
    if host is not None and (not isinstance(host, str) or not host):
        raise ConfigError(f"{what}_host={host!r} is no address", remedy='for instance "127.0.0.1"')
    if names is None:
        return {}
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{what}_allow_host={names!r} is no list of names", remedy='for instance ["worker.example.com"]')
    return {f"{what}_allow_host": tuple(names)}


def _unknown(where: str, key: str) -> ConfigError:
    near = nearest(key.lower(), OWN_KEYS)
    known = f"known: {', '.join(OWN_KEYS)}, and the table [kafka]"
    return ConfigError(f"{where}: there is no setting {key!r}", remedy=f"did you mean {near!r}? {known}" if near else known)


# ---------------------------------------------------------------------------------------------------- the file


def _of_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror or error}", remedy="check its name") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}", remedy='a line is: name = "value"') from None
    for key, value in found.items():
        if key == _KAFKA:
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: kafka is a table", remedy='write [kafka] and below it "linger.ms" = 5')
        elif key not in OWN_KEYS:
            raise _unknown(str(path), key)
    return {**found, _KAFKA: dict(_flat(found.get(_KAFKA, {}), path))}


def _flat(table: Mapping[str, Any], path: Path, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield options with their whole names: in TOML, sasl.password without quotes is a table in a table."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, path, f"{before}{name}.")
        elif isinstance(value, str | int | float):
            yield before + name, value
        else:
            raise ConfigError(
                f"{path}: [kafka] {before}{name} is of type {type(value).__name__}",
                remedy="librdkafka's options are texts, numbers, true, false",
            )


def _exposed(path: Path, layer: Mapping[str, Any]) -> tuple[str, ...]:
    mode = path.stat().st_mode
    if not mode & 0o077 or not any(isinstance(value, Secret) for value in wrapped(layer[_KAFKA]).values()):
        return ()
    return (f"{path} holds secrets and others may read it: chmod 600 {path}",)


# ---------------------------------------------------------------------------------------------------- the environment


def _of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kafka: dict[str, str] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        table, separator, option = name.partition("__")
        if separator and table == _KAFKA and option:
            kafka[option.replace("_", ".")] = text
        elif name in OWN_KEYS:
            found[name] = _value(variable, name, text)
        else:
            raise _unknown("the environment", variable)
    return {**found, _KAFKA: kafka}


def _value(variable: str, name: str, text: str) -> Any:
    if name in _INTS:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{variable}={text!r} is not an int", remedy="write digits") from None
    if name in _ARE_BOOLS:
        if text.lower() not in _BOOLS:
            raise ConfigError(f"{variable}={text!r} is neither true nor false", remedy=f"write one of {', '.join(_BOOLS)}")
        return _BOOLS[text.lower()]
    if name in ("keep_state", "drop_state", "metrics_allow_host", "ui_allow_host"):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
