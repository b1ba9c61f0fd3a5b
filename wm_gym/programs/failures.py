"""How programs end that cannot go on, and what to do where a machine ran out of something."""

import errno
import re

from wm_gym.storage.text import printable

STOPPED = 130
"""Exits of a program that was stopped by Ctrl-C, as shells have it."""

_MEMORY = re.compile("CUDA out of memory|allocate memory|unable to allocate", re.IGNORECASE)
_TOLD = re.compile("not enough memory|the disk is full")
"""Whoever knew more has said it."""

_DISK_FULL, _TOO_MANY_FILES = (errno.ENOSPC, errno.EDQUOT), (errno.EMFILE, errno.ENFILE)
_NO_PROCESS = (errno.EAGAIN, errno.ENOMEM)


def said(error: BaseException) -> str:
    """The error's own words, and before them what to do where they name only what is used up."""
    words = printable(str(error)) or type(error).__name__
    advice = None if _TOLD.search(words) else _advice(error, words)
    return words if advice is None else f"{advice} ({words})"


def _advice(error: BaseException, words: str) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if number in _DISK_FULL:
        return "the disk is full: free some space and run this again"
    if number in _TOO_MANY_FILES:
        return (
            "too many files are open: ask for fewer workers or environments at once, or allow "
            "more files with `ulimit -n`"
        )
    if number in _NO_PROCESS or "start new thread" in words:
        return "no more processes can be started: ask for fewer workers at once"
    if isinstance(error, MemoryError) or _MEMORY.search(words):
        return "there is not enough memory: ask for fewer environments or workers at once"
    return None
