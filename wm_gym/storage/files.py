"""Files that are either whole or absent, whatever kills the process."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]

UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(RecursionError, OverflowError),  # brackets within brackets, numbers beyond all
)
"""What content that is not as expected may raise while it is read."""

_TEMPORARY = ".tmp"
OLD = ".old"
"""The end of a folder's name while another one takes its place."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """The file gets its name once it is whole and on the disk; a failure leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_TEMPORARY}")
    file = _create_locked(temporary)
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            error.filename = str(path)  # which writing to a file does not tell
        with contextlib.suppress(OSError):  # what is still in the buffer, on a full disk
            file.close()
        temporary.unlink(missing_ok=True)
        raise
    file.close()
    sync_folder(path.parent)


def plain_file(folder: Path, name: str | Path) -> Path:
    """The path of a regular file within the folder; whatever else it is, is refused by name.

    A name comes from a file that may be anybody's: it may lead out, by itself or through a link.
    """
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{path} is refused: it leaves {folder}; get the data anew")
    try:
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} is missing; copy or download the data again") from None
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name with a zero
        raise ValueError(f"{path} is refused: {error}; get the data anew") from error
    if not any(target.is_relative_to(home) for home in _homes(folder.resolve())):
        raise ValueError(
            f"{path} is refused: it is a link that leaves {folder}, to {target}; "
            "put the file itself there"
        )
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is refused: it is not a regular file; get the data anew")
    return path


def _homes(folder: Path) -> list[Path]:
    """Where a folder's files may be: in the Hub's cache they are links to a repository's blobs,
    and since huggingface_hub 2 from there to shared ones."""
    for place in (folder, *folder.parents):
        if place.parent.name == "snapshots":
            repository = place.parent.parent
            return [folder, repository / "blobs", repository.parent / "blobs"]
    return [folder]


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """One beside this folder, to be filled and renamed to it; in the end it is gone, and with it
    what killed processes left of theirs."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stray_folders(folder, _TEMPORARY)
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}{_TEMPORARY}")
    fresh.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, fresh, ignore_errors=True)
        with contextlib.suppress(OSError):  # some network folders have no locks
            stack.enter_context(_held(fresh))
        yield fresh
        shutil.rmtree(fresh, ignore_errors=True)
    _remove_stray_folders(folder, OLD)  # not before there is another in their place


def write_atomically(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def locked(folder: Path, *, patiently: bool = False) -> Iterator[None]:
    """Nobody else who asks for the lock is in this folder meanwhile; waits for it, or refuses."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if patiently else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RuntimeError(
                f"another process is packing {folder}; wait for it, then run this again"
            ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def explain_full_disk(loss: str, remedy: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(error.errno, f"the disk is full: {loss}; {remedy()}") from error


def count_strays(folder: Path) -> int:
    """Files whose writing was never finished, or is under way."""
    return len(_temporaries(folder))


def remove_strays(folder: Path) -> int:
    """Deletes the temporary files that nobody is writing any more, and counts them."""
    removed = 0
    for path in _temporaries(folder):
        with contextlib.suppress(OSError), path.open("rb") as file:  # OSError: locked by its writer
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed += 1
    return removed


def sync_folder(folder: Path) -> None:
    """A file's new name is safe once its folder is."""
    if fcntl is None:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_stray_folders(folder: Path, suffix: str) -> None:
    """Those of this folder that no process holds; without locks nobody knows, and they stay."""
    if fcntl is None:
        return
    for stray in folder.parent.iterdir():
        if not (stray.name.startswith(f".{folder.name}.") and stray.suffix == suffix):
            continue
        if suffix == OLD and stray.with_suffix(_TEMPORARY).exists():
            continue  # which is about to take its place
        with contextlib.suppress(OSError), _held(stray):
            shutil.rmtree(stray)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """As long as the process lives; OSError where another one holds the folder."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _temporaries(folder: Path) -> list[Path]:
    return sorted(folder.glob(f".*{_TEMPORARY}"))


def _create_locked(path: Path) -> BinaryIO:
    """The lock ends with the process, even a killed one: so `remove_strays` knows what is stray."""
    while True:
        file = path.open("xb")
        with contextlib.suppress(OSError):  # some network folders have no locks
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink > 0:  # else it was taken for a stray before the lock
            return file
        file.close()
