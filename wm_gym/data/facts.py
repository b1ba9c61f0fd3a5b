"""Truths about frames, as environments tell them in `info`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wm_gym.data.spec import Fact

FACTS = ("coverage", "progress", "state", "contact")
"""Entries of `info` that are logged with each frame where the environment has them as numbers.
Where there is `coverage`, it is the progress."""


def facts_told(info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Copies, as an environment may go on writing to what it gave."""
    values = {name: np.array(info[name]) for name in FACTS if name in info}
    told = {name: value for name, value in values.items() if value.dtype.kind in "biuf"}
    return told if "coverage" not in told else {k: v for k, v in told.items() if k != "progress"}


def facts_in_common(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> dict[str, Fact]:
    """What both tell, in one shape and in the dtype that holds both."""
    return {
        name: Fact(dtype=np.result_type(value, other[name]).name, shape=value.shape)
        for name, value in one.items()
        if name in other and other[name].shape == value.shape
    }


def fact_columns(
    facts: Mapping[str, Fact], told: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Of each fact, a row for each frame."""
    return {
        name: _column(name, fact, [one.get(name) for one in told]) for name, fact in facts.items()
    }


def _column(name: str, fact: Fact, values: Sequence[np.ndarray | None]) -> np.ndarray:
    for step, value in enumerate(values):
        if value is None or value.shape != fact.shape or not _fits(value.dtype, fact.dtype):
            came = "no number" if value is None else f"{value.dtype} of shape {value.shape}"
            raise ValueError(
                f"info[{name!r}] is {came} after {step} steps, expected {fact.dtype} of shape "
                f"{fact.shape}, as a reset and a first step tell it: let the environment tell the "
                "same kind of number always, or never"
            )
    return np.stack([value for value in values if value is not None]).astype(fact.dtype)


def _fits(came: np.dtype, wanted: str) -> bool:
    return np.can_cast(came, wanted, casting="same_kind")
