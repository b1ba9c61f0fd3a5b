"""Files that are either whole or absent, whatever kills the process that writes them.

As `fog_agent.files`: these packages do not import each other.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """The file gets its name once it is whole and on the disk; a failure leaves nothing behind, and
    what a killed process left is removed by the next that writes there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_strays(path)
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(6)}.tmp")
    file = _create_locked(temporary)
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # what is still in the buffer, on a full disk
            file.close()
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."


def _remove_strays(path: Path) -> None:
    """Of this file, those that nobody is writing any more."""
    for stray in path.parent.iterdir():
        if not (stray.name.startswith(_prefix(path)) and stray.suffix == ".tmp"):
            continue
        with contextlib.suppress(OSError), stray.open("rb") as file:  # locked by its writer
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stray.unlink()


def _create_locked(path: Path) -> BinaryIO:
    """The lock ends with the process, even a killed one: what is not locked is a stray."""
    while True:
        file = path.open("xb")
        with contextlib.suppress(OSError):  # some network folders have no locks
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink > 0:  # else it was taken for a stray before the lock
            return file
        file.close()
