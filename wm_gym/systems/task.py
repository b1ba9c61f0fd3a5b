"""Tasks of a system: what is asked of it, and when that is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Task:
    name: str
    """Short, as `reset(options={"task": name})` takes it."""

    description: str
    """A sentence, as LeRobot's datasets and policies have it."""

    success_threshold: float | None = None
    """Progress beyond which it is done; None: the system's."""

    def __post_init__(self) -> None:
        for name in ("name", "description"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"a task's {name} is {getattr(self, name)!r}, expected a string")
        if self.success_threshold is not None:
            check_threshold(self.success_threshold, f"the success_threshold of task {self.name!r}")


def as_task(given: Any) -> Task:
    """A sentence alone is a task of that name, as systems had them once."""
    if not isinstance(given, (Task, str)):
        raise ValueError(f"a task is {given!r}, expected a Task, or a sentence that describes it")
    return Task(given, given) if isinstance(given, str) else given


def check_threshold(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{what} is {value!r}, expected 0 to 1")


def task_index(tasks: Sequence[Task], wanted: Any) -> int:
    """Of the task of this index, name or description."""
    for index, task in enumerate(tasks):
        if isinstance(wanted, str) and wanted in (task.name, task.description):
            return index
    whole = isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool)
    if not whole or not 0 <= wanted < len(tasks):
        raise ValueError(
            f"task is {wanted!r}, expected 0 to {len(tasks) - 1} or one of "
            f"{[task.name for task in tasks]}"
        )
    return int(wanted)


def success_of(
    progress: Float[np.ndarray, "*n"],
    task: Int[np.ndarray, "*n"] | int = 0,
    *,
    thresholds: Sequence[float],
) -> Bool[np.ndarray, "*n"]:
    """Whether the progress is beyond the task's threshold; where it is NaN nobody knows: False."""
    return np.asarray(np.asarray(progress) > np.asarray(thresholds, np.float64)[task])
