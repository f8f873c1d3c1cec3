"""State in RocksDB, by way of rocksdict in raw mode.

The live database is scratch: it is made at every start, it has no log, and it is thrown away. What lasts is a flush
and a hard-linked `Checkpoint`.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, Checkpoint, DBCompressionType, Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from streamdsl._native.includes.faults import fault
from streamdsl._native.state.backend import CheckpointFiles, CheckpointTarget
from streamdsl.errors import StateError

__all__ = ["RocksDBBackend"]

#: The first RocksDB that syncs every file of a checkpoint.
OLDEST = (9, 4)
WRITE_BUFFER_BYTES = 6 << 20
#: Flushed buffers that one compaction takes: it rewrites the level below whatever their number. From 20 on RocksDB slows writes down.
FLUSHED_BUFFERS = 16
#: Where rows may take much memory, a write buffer may be as large as a part of it: what is flushed in larger pieces is rewritten less.
BUFFER_SHARE = 64
MOST_BUFFER_BYTES = 64 << 20
LARGE_BUFFERS = 8
#: So much of a write buffer is a filter of its keys: about ten bits for each of 60 bytes.
BUFFER_FILTER = 0.02
#: Of hardly any use: what is asked for often is in the tables.
BLOCK_CACHE_BYTES = 1 << 20
#: While a file is written, its keys' hashes are held for its filter.
FILE_BYTES = 32 << 20
#: So much is written until malloc is asked for what the buffers of files and flushed rows have left in its arenas; a write buffer
#: where that is more. What goes back to the system has to be cleared before it is used again.
TRIM_BYTES = 2 << 20
#: Of each file that a compaction reads, all of them at once.
READ_AHEAD_BYTES = 256 << 10
#: Keys of one read, each of which may hold a block until all are there.
READ_KEYS = 64
#: Of glibc; other libraries keep less for later.
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_MARKER = "rocksdict-config.json"
_VERSION = re.compile(r"RocksDB version: (\d+)\.(\d+)")
_REMEDY = "see the file LOG beside the database, and whether the disk is full"


class RocksDBBackend:
    """One RocksDB database.

    Parameters
    ----------
    directory : Path
        Where the database is made; does not exist yet.
    files : CheckpointFiles, optional
        The files of a checkpoint to begin with.

    Raises
    ------
    StateError
        The database cannot be opened, its RocksDB is too old, or it was not written in raw mode.
    """

    incremental = True

    def __init__(self, directory: Path, files: CheckpointFiles | None = None) -> None:
        self._directory = directory
        self._db: Rdict | None = None
        self._untrimmed, self._trim_bytes = 0, TRIM_BYTES
        self._read = False
        if files is not None:
            files.place(directory)
            _check_marker(directory)
        else:
            _make(directory)
        opening = f"the database {directory} cannot be opened"
        with _errors(opening):
            self._db = Rdict(str(directory), _options())
        try:
            with _errors(opening):
                self._check()
                self._write_options = WriteOptions()
                self._write_options.disable_wal = True
                self._db.set_write_options(self._write_options)
                _restrict(directory)
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        _check_marker(self._directory)
        match = _VERSION.search((self._directory / "LOG").read_text(errors="replace")[:4096])
        if match and (int(match[1]), int(match[2])) < OLDEST:
            raise StateError(
                f"rocksdict brings RocksDB {match[1]}.{match[2]}, whose checkpoints can lose files in a crash",
                remedy=f"install a rocksdict with RocksDB {OLDEST[0]}.{OLDEST[1]} or newer",
            )

    @property
    def _open(self) -> Rdict:
        if self._db is None:
            raise StateError(f"the database {self._directory} is closed")
        return self._db

    def apply(self, entries: Sequence[tuple[bytes, bytes | None]]) -> None:
        """See `StateBackend.apply`."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in entries:
            if value is None:
                delete(key)
            else:
                put(key, value)
        with _errors("rows cannot be written", reopen=True):
            self._untrimmed += batch.size_in_bytes()
            self._open.write(batch, self._write_options)
        if _malloc_trim is not None and self._untrimmed >= self._trim_bytes:
            self._untrimmed = 0
            _malloc_trim(0)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """See `StateBackend.get_many`."""
        with _errors("rows cannot be read"):
            if not self._read:
                self._open.set_options({"memtable_prefix_bloom_size_ratio": str(BUFFER_FILTER)})
                self._read = True
            found: list[bytes | None] = []
            for at in range(0, len(keys), READ_KEYS):
                found += self._open.get(keys[at : at + READ_KEYS])
        return found

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StateBackend.scan`."""
        options = ReadOptions()
        end = _after(prefix)
        if end is not None:
            options.set_iterate_upper_bound(end)
        start, last = after + b"\0" if after else prefix, None
        with _errors("rows cannot be read"):
            while True:
                # The fast iterator ends at a damaged block as if it were the end of the data: the other one tells. It is the older
                # of the two, so that rows that are written meanwhile are no reason to suspect anything.
                rest, begun = self._open.iter(options), last
                for key, value in self._open.items(from_key=start, read_opt=options):
                    if key != last:
                        start = last = key
                        yield key, value
                rest.seek(start)
                if rest.valid() and rest.key() == last:
                    rest.next()
                rest.status()
                if not rest.valid() or self._open.get(rest.key()) is None:
                    return
                if last == begun:
                    raise StateError("a scan of the database ended too early", remedy=_REMEDY)

    def expect(self, memory: int) -> None:
        """See `StateBackend.expect`."""
        size = min(memory // BUFFER_SHARE, MOST_BUFFER_BYTES)
        self._trim_bytes = max(size, TRIM_BYTES)
        if size > WRITE_BUFFER_BYTES:
            with _errors("the database cannot be set up"):
                self._open.set_options({"write_buffer_size": str(size), "level0_file_num_compaction_trigger": str(LARGE_BUFFERS)})

    def checkpoint(self, target: CheckpointTarget) -> None:
        """See `StateBackend.checkpoint`."""
        if target.path is None:
            raise StateError("RocksDB checkpoints need a directory", remedy='use state_backend="memory" without one')
        with _errors("a checkpoint of the database cannot be made", reopen=True):
            fault("FP04")
            self._open.flush(True)
            fault("FP06")
            Checkpoint(self._open).create_checkpoint(str(target.path))
            _restrict(self._directory)

    def close(self) -> None:
        """See `StateBackend.close`."""
        if self._db is None:
            return
        db, self._db = self._db, None
        db.cancel_all_background(True)
        try:
            db.close()
        except Exception as error:
            # Closing flushes, which a database that is shutting down refuses: it is closed all the same, and what
            # it has not flushed is not wanted.
            if type(error) is not Exception or "Shutdown in progress" not in str(error):
                raise


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_level_zero_file_num_compaction_trigger(FLUSHED_BUFFERS)
    options.set_target_file_size_base(FILE_BYTES)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(1)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_manifest_preallocation_size(64 << 10)
    options.set_compaction_readahead_size(READ_AHEAD_BYTES)
    options.set_max_open_files(256)
    # A row that comes back is read from a place of its own: unpacking a whole block for it costs more than the disk it saves.
    options.set_compression_type(DBCompressionType.none())
    # The filter of write buffers begins with the first read: where all rows are in memory there is none.
    options.set_memtable_whole_key_filtering(True)
    # What is asked for is nearly always there (see cold_filter.pxd): where all keys are in the end, a filter would be asked in vain.
    options.set_optimize_filters_for_hits(True)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    # Keys of the index by what they differ in: it is held in memory as a whole.
    table.set_index_block_restart_interval(16)
    options.set_block_based_table_factory(table)
    return options


@contextmanager
def _errors(what: str, *, reopen: bool = False) -> Iterator[None]:
    # A database that could not write takes no more writes, whatever becomes of the disk: `reopen` says that only opening it anew helps.
    # The binding raises bare Exception (and KeyError for values that are not bytes): nothing narrower can be caught.
    try:
        yield
    except OSError as error:
        raise StateError(f"{what}: {error}", remedy=_REMEDY, reopen=reopen) from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise StateError(f"{what}: {str(error).strip()}", remedy=_REMEDY, reopen=reopen) from error


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise StateError(
            f"the directory {directory} of a database cannot be made: {error.strerror}",
            remedy="check that the state directory can be written and that its disk has room",
        ) from error


def _check_marker(directory: Path) -> None:
    # In any other mode the binding may unpickle stored values.
    try:
        marker = json.loads((directory / _MARKER).read_bytes())
        raw = isinstance(marker, dict) and marker.get("raw_mode") is True
    except (OSError, ValueError, RecursionError):
        raw = False
    if not raw:
        raise StateError(
            f"the database {directory} was not written in raw mode: it is not streamdsl's",
            remedy="use another state directory, or restore from another checkpoint",
        )


def _restrict(directory: Path) -> None:
    # RocksDB makes files as the umask says. The directory is closed to others either way.
    directory.chmod(0o700)
    for entry in os.scandir(directory):
        try:
            if entry.stat(follow_symlinks=False).st_mode & 0o077:
                os.chmod(entry.path, 0o600)
        except FileNotFoundError:
            continue  # a compaction was faster


def _after(prefix: bytes) -> bytes | None:
    """Return the smallest key above all that start with `prefix`; None: there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None
