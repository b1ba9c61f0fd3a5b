"""The door for snapshots: all that is in one is looked at before anything is restored."""

from typing import Any

import numpy as np

_LARGEST = 2**63 - 1


def check_finite(snapshot: Any, *names: str) -> None:
    for name in names:
        values = np.asarray(getattr(snapshot, name))
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise ValueError(
                f"the snapshot has a {name} with numbers that are not finite: {values}"
            )


def check_counts(snapshot: Any, *names: str) -> None:
    for name in names:
        value = getattr(snapshot, name)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole and 0 <= value <= _LARGEST):
            raise ValueError(f"the snapshot's {name} is {value!r}, expected a whole number ≥ 0")


def check_episode(state: Any) -> None:
    """An EnvState, but for its world. A progress of NaN is one that nobody knows."""
    if not hasattr(state, "progress"):
        raise ValueError("the snapshot is of an older wm_gym, which this one cannot go on from")
    check_counts(state, "episode", "elapsed", "first")
    if state.seed is not None:
        check_counts(state, "seed")
    for name in ("progress", "best_progress"):
        if not isinstance(value := getattr(state, name), (float, np.floating)):
            raise ValueError(f"the snapshot's {name} is {value!r}, expected a number")
    for name in ("over", "success"):
        if not isinstance(value := getattr(state, name), (bool, np.bool_)):
            raise ValueError(f"the snapshot's {name} is {value!r}, expected True or False")
    if not isinstance(state.rng, np.random.Generator):
        raise TypeError(f"the snapshot's rng is a {type(state.rng).__name__}, expected a Generator")
