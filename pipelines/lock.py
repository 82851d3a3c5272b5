"""One run per directory: a lock that dies with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from provabgs.core.errors import InputError

LOCK_NAME = "run.lock"
HEARTBEAT_S = 20.0
STALE_S = 180.0
"""A lock of another host that has not been touched for this long belongs to a dead run."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""How file systems say that they have no locks (Lustre mounted without them)."""


class DirectoryLock:
    """Exclusive use of a directory while the context is open.

    The kernel's advisory lock (released by any death of the process) guards against runs on this host and on file
    systems that pass locks on; a heartbeat in the file guards where they do not.

    Raises
    ------
    InputError
        On entry, when another run holds the directory; names its host and process.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._file: IO[str] | None = None
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> DirectoryLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+")
        try:
            self._take()
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(0)
        self._file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        self._file.flush()
        self._beat = threading.Thread(target=self._keep_alive, daemon=True, name="run-lock")
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()

    def _keep_alive(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            os.utime(self.path)

    def _holder(self) -> dict[str, object]:
        try:
            return dict(json.loads(self.path.read_text() or "{}"))
        except (OSError, ValueError):
            return {}

    def _take(self) -> None:
        """Take the kernel's lock, or raise; where there is none, go by the heartbeat alone."""
        assert self._file is not None
        holder = self._holder()
        alive = bool(holder) and time.time() - self.path.stat().st_mtime < STALE_S
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(holder) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if alive and holder.get("host") == socket.gethostname() and _runs(holder.get("pid")):
                raise self._refusal(holder) from None
        if alive and holder.get("host") != socket.gethostname():
            raise self._refusal(holder)

    def _refusal(self, holder: dict[str, object]) -> InputError:
        return InputError(
            f"{self.path.parent}: another run is at work on it (host {holder.get('host', 'unknown')}, process "
            f"{holder.get('pid', 'unknown')}); wait for it, stop it, or choose another output"
        )


def _runs(pid: object) -> bool:
    """Whether a process of this host is alive."""
    try:
        os.kill(int(str(pid)), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
