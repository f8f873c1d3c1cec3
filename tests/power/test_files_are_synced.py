"""What a manifest names is durable before the manifest is: asked of RocksDB's files, which no recording of our own writes sees."""

from __future__ import annotations

from pathlib import Path

from streamdsl.checkpoint.recovery import StateDirectory
from tests.state.state_job import StateJob
from tests.trust.filesystems import FailingFileSystem


def test_every_file_that_a_manifest_names_was_synced_before_it(tmp_path):
    filesystem = FailingFileSystem()
    state = StateDirectory(tmp_path / "state", "job", filesystem)
    (tmp_path / "live").mkdir()
    job = StateJob(state.storage, "rocksdb", tmp_path / "live")
    try:
        for change in range(3):
            for i in range(40):
                job.tasks[0].rows.set_int(job.tasks[0].rows.slot(b"key-%d" % i, i % 8), 0, change * 1000 + i)
            job.checkpoint()
            published = max(i for i, (call, path) in enumerate(filesystem.calls) if call == "rename" and path.endswith("manifest.json.tmp"))
            synced = {Path(path).name for call, path in filesystem.calls[:published] if call in ("sync_file", "write_new")}
            files = {file.name for store in job.completed[-1].stores for file in store.files}
            assert any(name.endswith(".sst") for name in files)
            assert files <= synced
    finally:
        job.close()
        state.close()
