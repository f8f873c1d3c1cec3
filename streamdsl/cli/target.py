"""-A: which topology is meant, ``module:attribute`` or ``path/to/file.py:attribute``."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from streamdsl.dsl.topology import Topology
from streamdsl.errors import ConfigError, StreamError
from streamdsl.schema import nearest

__all__ = ["load", "located", "split_target"]

_log = logging.getLogger("streamdsl")

#: The attribute where none is named.
ATTRIBUTE = "topology"
_REMEDY = "write -A module:topology or -A path/to/file.py:topology"


def load(target: str | None) -> Topology:
    """Return the topology that `target` names; the working directory is on the path.

    Raises
    ------
    ConfigError
        There is no such module, file or attribute, or it is no topology.
    """
    return located(target)[0]


def located(target: str | None) -> tuple[Topology, ModuleType, str]:
    """Return the topology that `target` names, its module, and its name there. Raises as `load`."""
    if not target:
        raise ConfigError("which topology? -A names it", remedy="streamdsl -A module:topology worker")
    place, attribute = split_target(target)
    _add_to_path(Path.cwd())
    if ":" not in target and not place.endswith(".py"):
        place, attribute = _as_colon(place) or (place, attribute)
    module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{place} has no attribute {part!r}", remedy=_suggestion(module, part))
        found = getattr(found, part)
    if not isinstance(found, Topology):
        raise ConfigError(
            f"{place}:{attribute} is not a Topology, it is of type {type(found).__name__}", remedy=_suggestion(module, attribute)
        )
    return found, module, attribute


def split_target(target: str) -> tuple[str, str]:
    """Return module or file, and attribute."""
    place, colon, attribute = target.rpartition(":")
    if not colon:
        place, attribute = target, ATTRIBUTE
    names = attribute.split(".") if place.endswith(".py") else [*place.split("."), *attribute.split(".")]
    if not place or not all(name.isidentifier() for name in names):
        raise ConfigError(f"-A {target}: that names no topology", remedy=_REMEDY)
    return place, attribute


def _suggestion(module: ModuleType, wanted: str) -> str:
    topologies = sorted(name for name, value in vars(module).items() if isinstance(value, Topology))
    if topologies:
        near = nearest(wanted, topologies)
        return f"topologies there: {', '.join(topologies)}" + (f"; did you mean {near!r}?" if near and len(topologies) > 1 else "")
    return f'nothing there is a topology: assign it in the module, {ATTRIBUTE} = Topology("name")'


def _add_to_path(directory: Path) -> None:
    text = str(directory)
    if text not in sys.path:
        sys.path.insert(0, text)


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # What the module itself imports is another matter.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"there is no module {error.name!r} in {Path.cwd()} or on Python's path",
                remedy=f"start from the directory that holds it, or name the file: -A {name.replace('.', '/')}.py",
            ) from None
        raise _broken(name, error) from error
    except StreamError:
        raise
    except Exception as error:
        raise _broken(name, error) from error


def _as_colon(name: str) -> tuple[str, str] | None:
    """Return module and attribute of ``module.attribute``, where that is no module and what stands in front of its last dot is one."""
    module, _, attribute = name.rpartition(".")
    try:
        found = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    # Only a package has modules in it; it is not imported to find out.
    inside = [Path(place) / attribute for place in found.submodule_search_locations or ()]
    return None if any(path.is_dir() or path.with_suffix(".py").is_file() for path in inside) else (module, attribute)


def _from_file(path: Path) -> ModuleType:
    """Import a file as the module that it is: in its package, if it is in one."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path} (from {Path.cwd()})", remedy=_REMEDY)
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    _add_to_path(root)
    name = ".".join(parts)
    known = sys.modules.get(name)
    if known is not None and _is(known, path):
        return known
    if len(parts) > 1:
        module = _from_name(name)
        if _is(module, path):
            return module
        raise ConfigError(f"{name} is {module.__file__}, not {path}", remedy=f"start from {root}")
    # A file alone may be called as some library is: it gets a name of its own then.
    name = name if importlib.util.find_spec(name) is None or _is_spec(name, path) else f"_streamdsl_app_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except StreamError:
        raise
    except Exception as error:
        raise _broken(str(path), error) from error
    return module


def _is(module: ModuleType, path: Path) -> bool:
    return module.__file__ is not None and Path(module.__file__).resolve() == path


def _is_spec(name: str, path: Path) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _broken(name: str, error: Exception) -> ConfigError:
    """Say what went wrong in the user's module, and in which of its lines."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    own = [frame for frame in frames if not frame.filename.startswith(os.path.dirname(__file__)) and "importlib" not in frame.filename]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    _log.debug("importing %s failed", name, exc_info=error)
    remedy = "install what is missing" if isinstance(error, ModuleNotFoundError) else "mend it; --loglevel DEBUG shows the traceback"
    return ConfigError(f"{name} cannot be imported: {type(error).__name__}: {error}{where}", remedy=remedy)
