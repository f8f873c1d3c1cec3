"""Which files a path stands for: a file, the files of a directory, or those that a pattern matches."""

from __future__ import annotations

import errno
import fnmatch
import functools
import glob
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

from streamdsl.connectors.files.open_files import unopened
from streamdsl.connectors.files.part_writer import part_names
from streamdsl.connectors.files.partitions import is_partition
from streamdsl.errors import ConnectorError, TopologyError

__all__ = ["CODECS", "Format", "delimiter_of", "expanded", "files_of", "format_of", "is_url", "may_become", "paths_of"]

log = logging.getLogger("streamdsl")

Format = Literal["csv", "json", "parquet", "arrow"]

_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
FORMATS: Final[tuple[Format, ...]] = ("csv", "json", "parquet", "arrow")
#: Endings of compressed files; what they really are, their first bytes tell.
CODECS: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_SHOWN: Final = 5
#: What is in no number, no time and no name of a column, mostly.
_DELIMITERS: Final = ",;\t|^~!#$%&*=?@`\x1f"


def paths_of(given: Any) -> tuple[str, ...]:
    """Return what a user has given as paths as texts, with ``~`` expanded.

    Raises
    ------
    TopologyError
        None is given, one is empty, or something is no path.
    """
    several = (given,) if isinstance(given, (str, bytes, os.PathLike)) else given
    try:
        texts = tuple(_local(os.path.expanduser(os.fsdecode(path))) for path in several)
    except TypeError:
        raise TopologyError(f"files({given!r}): not a path", remedy="give a path, a pattern, or several of them") from None
    if not texts or not all(texts):
        raise TopologyError("files() needs a path")
    for text in texts:
        if "\0" in text:
            raise TopologyError(f"files({text!r}): a path has no NUL character")
    urls = [is_url(text) for text in texts]
    if any(urls) and not all(urls):
        raise TopologyError("files(): some are URLs and some are paths", remedy="make a source of each, and merge the streams")
    if any(re.match("https?://", text) for text in texts):
        raise TopologyError(f"files({texts[0]!r}): a page of the web is no file", remedy="download it first")
    return texts


def _local(text: str) -> str:
    """Return a path of this machine for a URL of this machine: by two names, a file would be taken for two."""
    found = re.match(r"(?:file|local)://(?:localhost)?(.*)", text, re.DOTALL)
    if found is None:
        return text
    if not found[1].startswith("/"):
        raise TopologyError(f"files({text!r}): the path of a file:// URL begins with a slash", remedy="give file:///... or a plain path")
    return found[1]


def is_url(text: str) -> bool:
    """Whether a path is that of an object store."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def format_of(paths: Sequence[str], given: str | None) -> Format:
    """Return the format of `paths`: as given, by their endings, or by those of the files in a directory.

    Raises
    ------
    TopologyError
        It is not known, or there are several.
    """
    if given is not None:
        for known in FORMATS:
            if given in (known, f"{known}l") or _SUFFIXES.get(f".{given}") == known:
                return known
        raise TopologyError(f"files(format={given!r}) is unknown", remedy=f"known: {', '.join(FORMATS)}, debezium-json")
    formats: dict[Format | None, str] = {}
    for path in paths:
        for name in _names_that_tell(path):
            formats.setdefault(suffix_format(name), name)
    if len(formats) > 1:
        raise TopologyError(
            f"files of several formats: {', '.join(formats.values())}",
            remedy="make one source per format and merge the streams, or say which: files(..., format=)",
        )
    ((found, name),) = formats.items()
    if found is None:
        raise TopologyError(f"the suffix of {name!r} does not tell the format", remedy=f"give format=: {', '.join(FORMATS)}")
    return found


def _names_that_tell(path: str) -> list[str]:
    """Return the path; for a directory without an ending, the files in it whose endings are known."""
    if suffix_format(path) is None and os.path.isdir(path):
        try:
            return [name for name in _visible(path) if suffix_format(name)] or [path]
        except OSError:
            pass  # its files are listed, and the error is told, when it is read
    return [path]


def suffix_format(path: str) -> Format | None:
    """Return the format that an ending means; one of a compressed file is looked behind."""
    return _SUFFIXES.get(_ending(path))


def _ending(path: str) -> str:
    stem, suffix = os.path.splitext(path.rstrip("/").lower())
    return os.path.splitext(stem)[1] if suffix in CODECS else suffix


def delimiter_of(paths: Sequence[str], format: Format, given: str | None) -> str:
    """Return what stands between the fields of CSV: as given, or by the endings of `paths`.

    Raises
    ------
    TopologyError
        It is no such character, or there are no such fields.
    """
    if given is None:
        found = {_ending(name) == ".tsv" for path in paths for name in _names_that_tell(path)} if format == "csv" else {False}
        if len(found) > 1:
            raise TopologyError("files with commas and files with tabs", remedy="make a source of each, and merge the streams")
        return "\t" if found == {True} else ","
    if format != "csv":
        raise TopologyError(f"files({paths[0]!r}, delimiter={given!r}): {format} has no delimiter", remedy="leave it out")
    if not isinstance(given, str) or len(given) != 1 or given not in _DELIMITERS:
        raise TopologyError(
            f"files(delimiter={given!r}): not a character that may stand between fields",
            remedy=f"one of {' '.join(map(repr, _DELIMITERS))}",
        )
    return given


def _visible(directory: str) -> list[str]:
    """Return the names in a directory that are data: Hadoop's kin leave ``_SUCCESS`` and the like beside it."""
    return sorted(name for name in os.listdir(directory) if not name.startswith((".", "_")))


def expanded(paths: Sequence[str], format: Format, *, present: bool = True) -> tuple[str, ...]:
    """Return the files of `paths`, each once: of one file that has several names, the first. With `present`, each path has some.

    Raises
    ------
    ConnectorError
        A file does not exist or is not regular, nothing matches a pattern, or a directory cannot be read.
    """
    found: dict[tuple[int, int], str] = {}
    for path in paths:
        for name in files_of(path, format, present=present):
            try:
                state = os.stat(name)
            except OSError as error:
                raise _unlisted(name, error) from error
            first = found.setdefault((state.st_dev, state.st_ino), name)
            if os.path.normpath(first) != os.path.normpath(name):
                log.warning("%s and %s are the same file: it is read once", first, name)
    return tuple(found.values())


def files_of(path: str, format: Format, *, present: bool = True) -> list[str]:
    """Return the files that one path stands for: what exists under this very name, else what the pattern matches."""
    try:
        if os.path.isdir(path):
            return _of_directory(path, format, present)
        if os.path.lexists(path):
            os.stat(path)
            matches = [path]
        else:
            matches = [name for name in matching(path) if not os.path.isdir(name)] if glob.has_magic(path) else []
    except OSError as error:
        raise _unlisted(path, error) from error
    if not matches and present:
        raise ConnectorError(
            f"no file matches {path!r} (working directory {os.getcwd()})",
            remedy="check the path; relative paths start from the working directory",
        )
    for found in matches:
        if not os.path.isfile(found):
            raise ConnectorError(f"{found} is not a regular file", remedy="a source must be able to seek in it")
    return matches


def _of_directory(path: str, format: Format, present: bool) -> list[str]:
    # Our own parts stand in the order in which they were written.
    listed = dict.fromkeys([*part_names(path), *_visible(path)])
    names = [name for name in listed if suffix_format(name) == format and not os.path.isdir(os.path.join(path, name))]
    for name in _visible(path):
        if is_partition(name) and os.path.isdir(os.path.join(path, name)):
            names += [os.path.relpath(found, path) for found in _of_directory(os.path.join(path, name), format, False)]
    if names or not present:
        return [os.path.join(path, name) for name in names]
    there = _visible(path)
    shown = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
    raise ConnectorError(
        f"{path} is a directory without files of {format}" + (f"; in it: {shown}" if there else ": it is empty"),
        remedy=f"name its files by a pattern: {os.path.join(path, '*')} or, with those of its directories, {os.path.join(path, '**', '*')}",
    )


def _unlisted(path: str, error: OSError) -> ConnectorError:
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else path
    return unopened(where, error)


# ---------------------------------------------------------------------- patterns


def matching(pattern: str) -> list[str]:
    """Return what exists and matches, sorted. Unlike `glob.glob`, a directory that cannot be read is an error."""
    root, parts = _parts(pattern)
    return sorted(set(_walk(root, parts)))


def _parts(pattern: str) -> tuple[str, list[str]]:
    pure = pathlib.PurePath(pattern)
    parts = list(pure.parts)
    if pattern.startswith("./"):
        parts.insert(0, ".")
    root = parts.pop(0) if pure.anchor else ""
    return root, parts


def _walk(base: str, parts: Sequence[str]) -> Iterator[str]:
    if not parts:
        if os.path.lexists(base):
            yield base
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        if rest:
            yield from _walk(base, rest)
        for name, is_directory in _entries(base, directories=False):
            below = os.path.join(base, name)
            if name.startswith("."):
                continue
            if is_directory and not _leads_back(below, base):
                yield from _walk(below, parts)
            elif not rest:
                yield below
    elif _is_pattern(base, part):
        fits = _fits(part)
        for name, _ in _entries(base, directories=bool(rest)):
            if fits(name):
                yield from _walk(os.path.join(base, name), rest)
    else:
        yield from _walk(os.path.join(base, part), rest)


def _is_pattern(base: str, part: str) -> bool:
    """Whether a part of a path is a pattern: what exists under this very name is not (a build job's directory ``run[1]``)."""
    return glob.has_magic(part) and (part == "**" or not os.path.lexists(os.path.join(base, part)))


def _leads_back(link: str, base: str) -> bool:
    if not os.path.islink(link):
        return False
    target = os.path.realpath(link)
    return os.path.commonpath([target, os.path.realpath(base or ".")]) == target


@functools.lru_cache(64)
def _fits(part: str) -> Callable[[str], bool]:
    """Return whether a name matches a part of a pattern; hidden ones are asked for by their point."""
    match = re.compile(fnmatch.translate(part)).match
    hidden = part.startswith(".")
    return lambda name: (hidden or not name.startswith(".")) and match(name) is not None


def _entries(base: str, *, directories: bool) -> list[tuple[str, bool]]:
    try:
        with os.scandir(base or ".") as found:
            return [(entry.name, entry.is_dir()) for entry in found if not directories or entry.is_dir()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return []
        raise


def may_become(path: str, file: str, format: Format) -> bool:
    """Whether `file` (absolute, without links), which need not exist, would be among those that `path` stands for."""
    folder, name = os.path.split(file)
    real = os.path.realpath(path)
    if os.path.isdir(path) or (real == folder and not os.path.lexists(path)):
        return real == folder and not name.startswith((".", "_")) and suffix_format(name) == format
    if os.path.lexists(path) or not glob.has_magic(path):
        return real == file
    root, parts = _parts(path)
    base, fixed = root or ".", 0
    while fixed < len(parts) and not _is_pattern(base, parts[fixed]):
        base, fixed = os.path.join(base, parts[fixed]), fixed + 1
    base = os.path.realpath(base)
    if _would_match(pathlib.PurePath(file).parts, (*map(glob.escape, pathlib.PurePath(base).parts), *parts[fixed:])):
        return True
    # A link may lead elsewhere from within the pattern.
    if parts[-1] != "**" and not _fits(parts[-1])(name):
        return False
    return any(os.path.realpath(found or ".") == folder for found in _walk(root, parts[:-1]) if os.path.isdir(found or "."))


def _would_match(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return _would_match(names, parts[1:]) or (bool(names) and not names[0].startswith(".") and _would_match(names[1:], parts))
    return bool(names) and _fits(parts[0])(names[0]) and _would_match(names[1:], parts[1:])
