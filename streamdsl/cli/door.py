"""How commands speak to a worker that runs: by files in its state directory, which nobody else can enter. Nothing listens.

::

    <state_dir>/control/<id>.request    {"what", …}, written by a command
    <state_dir>/control/<id>.answer     {"ok" or "error", …}, written by the worker, removed by the command
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from streamdsl.errors import StateError, StreamError

__all__ = ["Door", "ask", "owner_of"]

_PLACE: Final = "control"
_POLL_S: Final = 0.05

Act = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


class Door:
    """The worker's side.

    Parameters
    ----------
    state_dir : path
        Its directory.
    acts : mapping
        What may be asked for -> what does it. An act that returns None is answered when the worker ends.
    slow : collection of str
        Those that take long: they are done in a thread of their own.
    """

    def __init__(self, state_dir: str | os.PathLike[str], acts: Mapping[str, Act], slow: tuple[str, ...] = ()) -> None:
        self._place = Path(state_dir) / _PLACE
        self._acts, self._slow = acts, slow
        self._later: list[Path] = []
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._place)  # what was asked of a worker that has gone
        self._place.mkdir(mode=0o700)

    def look(self) -> None:
        """Take what has been asked for; called several times a second."""
        with contextlib.suppress(OSError):  # somebody has removed the directory: nobody can ask then
            for path in sorted(self._place.glob("*.request")):
                self._take(path)

    def _take(self, path: Path) -> None:
        answer = path.with_suffix(".answer")
        try:
            asked = json.loads(path.read_text())
            act = self._acts[asked["what"]]
        except (ValueError, KeyError, TypeError):
            _write(answer, {"error": "this worker does not know what is asked of it", "remedy": "use the same version of streamdsl"})
            return
        finally:
            path.unlink(missing_ok=True)
        if asked["what"] in self._slow:
            threading.Thread(target=self._answer, args=(act, asked, answer), name="streamdsl-control-door", daemon=True).start()
        else:
            self._answer(act, asked, answer)

    def _answer(self, act: Act, asked: Mapping[str, Any], answer: Path) -> None:
        try:
            said = act(asked)
        except StreamError as error:
            said = {"error": error.message, "remedy": error.remedy}
        if said is None:
            self._later.append(answer)
        else:
            with contextlib.suppress(OSError):
                _write(answer, said)

    def close(self, said: Mapping[str, Any]) -> None:
        """Answer who waits for the end."""
        for answer in self._later:
            with contextlib.suppress(OSError):
                _write(answer, said)


def owner_of(state_dir: Path) -> int | None:
    """Return the process that runs the job of a state directory, None if there is none."""
    try:
        process = int((state_dir / "LOCK").read_text().strip() or "0")
        if process <= 0:
            return None
        os.kill(process, 0)
    except (OSError, ValueError):
        return None
    return process


def ask(state_dir: Path, what: str, *, timeout_s: float, **more: Any) -> dict[str, Any]:
    """Ask the worker of a state directory for something and return its answer.

    Raises
    ------
    StateError
        No worker runs there, it does not answer, or it says that it cannot.
    """
    if owner_of(state_dir) is None:
        raise StateError(f"no worker runs in {state_dir}", remedy="streamdsl -A … worker starts one")
    place = state_dir / _PLACE / f"{uuid.uuid4().hex}.request"
    answer = place.with_suffix(".answer")
    try:
        _write(place, {"what": what, **more})
        until = time.monotonic() + timeout_s
        while not answer.exists():
            if owner_of(state_dir) is None and not answer.exists():
                raise StateError(f"the worker in {state_dir} has ended without an answer", remedy="its log says why")
            if time.monotonic() >= until:
                raise StateError(
                    f"the worker in {state_dir} (process {owner_of(state_dir)}) has not answered for {timeout_s:g} s",
                    remedy="it may be starting or stuck: see its log; --timeout waits for longer",
                )
            time.sleep(_POLL_S)
        said: dict[str, Any] = json.loads(answer.read_text())
    except FileNotFoundError:
        raise StateError(
            f"process {owner_of(state_dir)} in {state_dir} takes no commands", remedy="only `worker` and `run` do: use its own process"
        ) from None
    except OSError as error:
        raise StateError(
            f"{place.parent} cannot be used: {error.strerror or error}", remedy="be the user that the worker runs as"
        ) from error
    finally:
        for path in (place, answer):
            with contextlib.suppress(OSError):
                path.unlink()
    if "error" in said:
        raise StateError(said["error"], remedy=said.get("remedy"))
    return said


def _write(path: Path, said: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(said, default=str))
    part.chmod(0o600)
    part.rename(path)
