"""One run per directory: a lock that dies with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import sys
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

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, 524)
"""How file systems without locks (Lustre mounted so, NFS without lockd) say so; 524 is ENOTSUPP of Linux."""
_HOLDER_SIZE = 1000
_AHEAD_S = 60.0
"""How far the clocks of two hosts may differ."""


class DirectoryLock:
    """Exclusive use of a directory while the context is open.

    The kernel's advisory lock (released by any death of the process) guards against runs on this host and on file
    systems that pass locks on; a heartbeat in the file guards where they do not.

    Raises
    ------
    InputError
        On entry, when another run holds the directory (names its host and process), when the lock is no plain file, or
        when the directory takes no files.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._file: IO[str] | None = None
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> DirectoryLock:
        self._file = self._open()
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

    def _open(self) -> IO[str]:
        """Open the lock file, which must be a plain file: a link would have its target emptied."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if self.path.is_symlink():
                raise InputError(f"{self.path}: is a link, and a lock must be a plain file; remove the link") from None
            raise InputError(
                f"{self.path.parent}: takes no files ({error.strerror}); make it writable, or choose another output"
            ) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            raise InputError(f"{self.path}: is no plain file of this name alone; remove it")
        return os.fdopen(descriptor, "a+")

    def _keep_alive(self) -> None:
        told = False
        while not self._stop.wait(HEARTBEAT_S):
            try:
                assert self._file is not None
                os.utime(self._file.fileno())
                told = False
            except OSError as error:
                if not told:
                    print(
                        f"provabgs: {self.path}: its heartbeat fails ({error.strerror}); another host may take this "
                        f"run for dead after {STALE_S:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
                told = True

    def _holder(self) -> dict[str, object]:
        """What the lock says of the run that took it; nothing where it is empty or damaged."""
        assert self._file is not None
        try:
            self._file.seek(0)
            found = json.loads(self._file.read(_HOLDER_SIZE) or "{}")
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _take(self) -> None:
        """Take the kernel's lock, or raise; where there is none, go by the heartbeat alone."""
        assert self._file is not None
        holder = self._holder()
        age = time.time() - os.fstat(self._file.fileno()).st_mtime
        alive = bool(holder) and age < STALE_S
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
            raise self._refusal(holder) if age > -_AHEAD_S else self._from_the_future(holder, -age)

    def _from_the_future(self, holder: dict[str, object], ahead_s: float) -> InputError:
        return InputError(
            f"{self.path}: is dated {ahead_s / 3600:.1f} hours ahead of this host's clock by host "
            f"{holder.get('host', 'unknown')} (process {holder.get('pid', 'unknown')}), so that nobody can say whether "
            "that run lives; set the clocks right, or, if it does not run any more, remove the file"
        )

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
