"""Processes that work for another one: how they begin, and that they end with it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

_SAFE_PATH, _FOR_WORKERS = "PYTHONSAFEPATH", "workers of wm_gym"


@contextmanager
def starting_workers() -> Iterator[None]:
    """Workers never hear of an interrupt, as their parent stops them; and until they begin they
    import nothing from the current folder, which may hold a `pickle.py` of anybody's."""
    os.environ.setdefault(_SAFE_PATH, _FOR_WORKERS)
    try:
        with _interrupts_held():
            yield
    finally:
        _restore_path()


def _restore_path() -> None:
    """For Python that is started from now on, unless its user wants it safe."""
    if os.environ.get(_SAFE_PATH) == _FOR_WORKERS:
        del os.environ[_SAFE_PATH]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started meanwhile inherits a mask, and never hears of an interrupt. One that another
    thread took in is told at the end, where this is the main thread, which alone may say so."""
    held = list[int]()
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number)) if main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if main:
            signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


def begin_as_worker() -> None:
    """To be called first in each of them."""
    _restore_path()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers, so they watch it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
