"""What a manifest names is durable before the manifest is: asked of RocksDB's files, which no recording of our own writes sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streamdsl.checkpoint.manifest import Manifest
from streamdsl.checkpoint.recovery import StateDirectory
from tests.state.state_job import StateJob
from tests.trust.filesystems import FailingFileSystem


def run(directory: Path, journal_bytes: int) -> Iterator[tuple[Manifest, list[tuple[str, str]]]]:
    """Take three checkpoints; yield each manifest, and the calls of the file system before its name was there."""
    filesystem = FailingFileSystem()
    state = StateDirectory(directory / "state", "job", filesystem)
    (directory / "live").mkdir()
    job = StateJob(state.storage, "rocksdb", directory / "live", journal_bytes=journal_bytes)
    try:
        for change in range(3):
            for i in range(40):
                job.tasks[0].rows.set_int(job.tasks[0].rows.slot(b"key-%d" % i, i % 8), 0, change * 1000 + i)
            job.checkpoint()
            published = max(i for i, (call, path) in enumerate(filesystem.calls) if call == "rename" and path.endswith("manifest.json.tmp"))
            yield job.completed[-1], filesystem.calls[:published]
    finally:
        job.close()
        state.close()


def test_every_file_that_a_manifest_names_was_synced_before_it(tmp_path):
    for manifest, calls in run(tmp_path, journal_bytes=0):
        synced = {Path(path).name for call, path in calls if call in ("sync_file", "write_new")}
        files = {file.name for store in manifest.stores for file in store.files}
        assert any(name.endswith(".sst") for name in files)
        assert files <= synced


def test_a_journal_that_a_manifest_names_was_synced_after_its_last_entry(tmp_path):
    for manifest, calls in run(tmp_path, journal_bytes=1 << 20):
        assert [file.grows for store in manifest.stores for file in store.files] == [True]
        assert [call for call, _ in calls if call in ("append", "sync_open")][-2:] == ["append", "sync_open"]
