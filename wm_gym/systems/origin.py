"""Systems that nobody registered, or not as they were logged: what a log tells is all that a dream
needs."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_gym.systems.registry import System, registered_systems, system_named
from wm_gym.systems.task import Task, as_task

LONGEST_TEXT, LARGEST_COUNT = 1000, 10**6
MOST_NAMES = 10_000
SLOWEST, FASTEST = 1e-3, 10**6
"""Control steps a second."""


def rate(fps: Any, what: str = "fps") -> int | float:
    """An int where it is whole: a rate of 10.0 is one of 10, wherever it is written."""
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not SLOWEST <= fps <= FASTEST:
        raise ValueError(
            f"{what} is {reprlib.repr(fps)}, expected a number from {SLOWEST:g} to {FASTEST:,}"
        )
    return int(fps) if fps == int(fps) else float(fps)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What −1 and 1 stand for, entry by entry, where actions are told in [−1, 1]."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.low, *self.high)
        if len(self.low) != len(self.high) or not self.low or not all(map(math.isfinite, numbers)):
            raise ValueError(f"bounds are {self}, expected as many finite lows as highs")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"bounds are {self}, expected each low below its high")

    def to_unit(self, action: Float[np.ndarray, "*n a"]) -> Float[np.ndarray, "*n a"]:
        """What lies beyond the bounds lies beyond ±1."""
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(2 * (action - low) / (high - low) - 1)

    def from_unit(self, unit: Float[np.ndarray, "*n a"]) -> Float[np.ndarray, "*n a"]:
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(low + (unit + 1) / 2 * (high - low))


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a log tells of the system it is of; kept with a model, whose dreams then need no record.

    It may come from anybody's `config.json`, so everything is checked.
    """

    fps: int | float
    horizon: int
    """Transitions of the longest episode that was logged."""

    task: str = ""
    """A sentence; the first where there are several."""

    has_reward: bool = True
    """False: nobody logged one, and dreams say 0."""

    has_coverage: bool = True
    """False: nobody logged one, and dreams say nothing of it, nor of success."""

    bounds: Bounds | None = None
    """None: the system itself takes [−1, 1]."""

    tasks: tuple[str, ...] = ()
    """Sentences, by index, where there are several."""

    proprio_names: tuple[str, ...] = ()
    """What proprioception was logged beside the pictures, number by number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", rate(self.fps, "origin's fps"))
        if not 1 <= self.horizon <= LARGEST_COUNT:
            raise ValueError(f"origin's horizon is {self.horizon}, expected 1 to {LARGEST_COUNT}")
        for text in (self.task, *self.tasks, *self.proprio_names):
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"origin's task is {reprlib.repr(text)}, expected less of it")
        if self.tasks and (len(set(self.tasks)) < max(2, len(self.tasks))):
            raise ValueError(
                f"origin's tasks are {reprlib.repr(self.tasks)}, expected several, each once"
            )
        if self.tasks and self.tasks[0] != self.task:
            raise ValueError(
                f"origin's task is {reprlib.repr(self.task)}, expected the first of its tasks, "
                f"{reprlib.repr(self.tasks[0])}"
            )

    def to_json(self) -> dict[str, Any]:
        """What came later is left out where it says nothing: older readers know no more."""
        content = asdict(self)
        return {k: v for k, v in content.items() if v or k not in _LISTS}

    @classmethod
    def from_json(cls, content: Any) -> "Origin":
        kinds = {"horizon": int, "task": str, "has_reward": bool, "has_coverage": bool}
        known = ["fps", *kinds, "bounds"]
        if not isinstance(content, Mapping) or set(content) - set(_LISTS) != set(known):
            raise ValueError(
                f"origin is {reprlib.repr(content)}, expected a table of {known}, "
                f"and perhaps of {list(_LISTS)}"
            )
        for name, kind in kinds.items():
            if type(content[name]) is not kind:
                raise ValueError(
                    f"origin's {name} is {reprlib.repr(content[name])}, expected a {kind.__name__}"
                )
        lists = {name: names_from_json(content[name], name) for name in _LISTS if name in content}
        return cls(**{**content, **lists, "bounds": bounds_from_json(content["bounds"])})


_LISTS = ("tasks", "proprio_names")


def names_from_json(content: Any, what: str) -> tuple[str, ...]:
    if not isinstance(content, list) or len(content) > MOST_NAMES:
        raise ValueError(
            f"{what} are {reprlib.repr(content)}, expected a list of at most {MOST_NAMES} strings"
        )
    if not all(type(text) is str for text in content):
        raise ValueError(f"{what} are {reprlib.repr(content)}, expected strings")
    return tuple(content)


def bounds_from_json(content: Any) -> Bounds | None:
    match content:
        case None:
            return None
        case {"low": [*low], "high": [*high], **rest} if not rest:
            if all(type(x) in (int, float) for x in (*low, *high)):
                return Bounds(low=tuple(map(float, low)), high=tuple(map(float, high)))
    raise ValueError(f"bounds are {reprlib.repr(content)}, expected numbers low and high")


def registered_as_logged(
    name: str, origin: Origin, *, frame_shape: tuple[int, int, int], action_size: int
) -> System | None:
    """The record of this name, if there is one and the log has its rate, pictures, actions, tasks
    and proprioception, or none of that."""
    if name not in registered_systems():
        return None
    record = system_named(name)
    sizes = (record.fps, record.frame_shape, record.action_size)
    if (origin.fps, frame_shape, action_size) != sizes:
        return None
    sentences = tuple(task.description for task in record.tasks)
    if (len(sentences) > 1 or origin.tasks) and origin.tasks != sentences:
        return None
    if origin.proprio_names not in ((), record.proprio_names):
        return None
    unit = Bounds(low=(-1.0,) * action_size, high=(1.0,) * action_size)
    return record if origin.bounds in (None, unit) else None


def system_from(
    name: str,
    origin: Origin | None,
    *,
    frame_shape: tuple[int, int, int],
    action_size: int,
    context: int,
) -> System:
    """The registered record, where the log is of it as it was registered; else what the log told,
    of no known state."""
    if origin is None:
        return system_named(name)
    sizes: dict[str, Any] = {"frame_shape": frame_shape, "action_size": action_size}
    if (record := registered_as_logged(name, origin, **sizes)) is not None:
        return record
    if origin.bounds is not None and len(origin.bounds.low) != action_size:
        raise ValueError(
            f"the bounds are of {len(origin.bounds.low)} numbers, "
            f"expected one for each of {action_size} of an action"
        )
    tasks = tuple(as_task(text) for text in origin.tasks or (origin.task or name,))
    return System(
        name=name,
        simulators={},
        **sizes,
        state_names=(),
        state_low=(),
        state_high=(),
        reward=_unknown,
        fps=origin.fps,
        context=context,
        horizon=origin.horizon,
        success_threshold=_threshold(name),
        tasks=tuple(_as_registered(name, task) for task in tasks),
        proprioception=_unknown if origin.proprio_names else None,
        proprio_names=origin.proprio_names,
    )


def _threshold(name: str) -> float:
    """Progress means the same at another rate or size."""
    return system_named(name).success_threshold if name in registered_systems() else 0.95


def _as_registered(name: str, task: Task) -> Task:
    """The record's task of that sentence: its name and threshold are in no log."""
    known = system_named(name).tasks if name in registered_systems() else ()
    return next((one for one in known if one.description == task.description), task)


def _unknown(*_: np.ndarray) -> np.ndarray:
    raise ValueError("nobody registered this system: what its states mean is in logs alone")
