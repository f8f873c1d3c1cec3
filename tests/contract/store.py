"""An S3-compatible server in a process of its own, behind a link: ``python -m tests.contract.store`` is that process.

The library of Delta Lake holds the interpreter while it opens a file, so neither may be a thread of who writes.
"""

from __future__ import annotations

import subprocess
import sys

from tests.contract.link import Link


class StoreLink:
    """The link of the other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._told())

    def _told(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._told().strip() == word

    def cut(self) -> None:
        """Break all connections."""
        self._tell("cut")

    def leave(self) -> None:
        """Break all connections, and every new one."""
        self._tell("leave")

    def come_back(self) -> None:
        """Let connections through again."""
        self._tell("come_back")

    def slow(self, delay_s: float) -> None:
        """Have each piece take so long."""
        self._tell(f"slow {delay_s}")

    def refuse(self, yes: bool) -> None:
        """Answer that the key is none."""
        self._tell(f"refuse {int(yes)}")


class Store:
    """Started at once; `options` are those of deltalake, `fsspec` those of s3fs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.store"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.link = StoreLink(self._process)
        where = f"http://127.0.0.1:{self.link.port}"
        self.fsspec = {"endpoint_url": where, "key": "k", "secret": "hunter2", "config_kwargs": {"retries": {"max_attempts": 1}}}
        self.options = {
            "AWS_ENDPOINT_URL": where,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    link = Link(server.get_host_and_port()[1])
    print(link.port, flush=True)
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word == "slow":
            link.slow(float(value))
        elif word == "refuse":
            link.refuse(value == "1")
        else:
            getattr(link, word)()
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main()
