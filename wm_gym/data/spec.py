"""What every episode of one dataset has in common, and what was asked for when it was made."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from wm_gym.data.episode import Episode
from wm_gym.systems import Bounds
from wm_gym.systems.origin import bounds_from_json, names_from_json, rate

_FACT_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "float32", "float64"),
)

_LISTS = ("proprio_names", "tasks")

PROGRESS = ("progress", "coverage")
"""Facts that tell progress; the second is what it was called, and is in Push-T."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """The dtype and the shape, without the time axis, of one truth about each frame."""

    dtype: str
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _counts("a fact's shape", self.shape))
        if self.dtype not in _FACT_DTYPES:
            raise ValueError(f"a fact has dtype {self.dtype!r}, expected one of {_FACT_DTYPES}")
        if min(self.shape, default=1) < 1:
            raise ValueError(f"a fact has shape {self.shape}, expected positive axes")


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    env_id: str
    fps: int | float
    """Control steps a second; an int where it is whole, as LeRobot has it."""
    picture: tuple[int, int, int]
    """(h, w, c), with c either 1 (grey) or 3 (RGB)."""
    action_size: int
    facts: Mapping[str, Fact] = field(default_factory=dict)
    robot_type: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for (behaviours, seed, counts, versions), as JSON holds it."""
    bounds: Bounds | None = None
    """What ±1 of an action stands for in the environment; None: it takes [−1, 1] itself."""
    has_reward: bool = True
    """False where nobody logged one: rewards are then zeros."""
    proprio_names: tuple[str, ...] = ()
    """One for each number of proprioception; none where it is not logged."""
    tasks: tuple[str, ...] = ()
    """All sentences that a task may be, by index; none: whatever comes, in order of appearance."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture", _counts("picture", self.picture))
        object.__setattr__(self, "facts", dict(sorted(self.facts.items())))
        try:  # as it will be read back, so that specs can be compared
            recipe = json.loads(json.dumps(dict(self.recipe), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"recipe holds what JSON cannot: {error}") from error
        object.__setattr__(self, "recipe", recipe)
        if len(self.picture) != 3 or min(self.picture) < 1 or self.picture[2] not in (1, 3):
            raise ValueError(f"picture is {self.picture}, expected (h, w, c) with 1 or 3 channels")
        object.__setattr__(self, "fps", rate(self.fps))
        texts = {"env_id": self.env_id, "robot_type": self.robot_type}
        for name, text in texts.items():
            if not isinstance(text, str) and not (name == "robot_type" and text is None):
                raise ValueError(f"{name} is {reprlib.repr(text)}, expected a text")
        if not isinstance(self.has_reward, bool):
            raise ValueError(f"has_reward is {self.has_reward!r}, expected True or False")
        object.__setattr__(self, "action_size", *_counts("action_size", (self.action_size,)))
        if self.action_size < 1:
            raise ValueError(f"action_size is {self.action_size}, expected at least 1")
        if self.bounds is not None and len(self.bounds.low) != self.action_size:
            raise ValueError(
                f"bounds are of {len(self.bounds.low)} numbers, expected {self.action_size}"
            )
        for what in _LISTS:
            names = getattr(self, what)
            object.__setattr__(self, what, tuple(names))
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{what} are {names!r}, expected strings")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks are {self.tasks}, expected each once")
        for name in self.facts:
            if not name.isidentifier():
                raise ValueError(f"fact {name!r} names a column: expected letters, digits and _")

    @property
    def progress_fact(self) -> str | None:
        """The fact that tells progress, if one does: `coverage` is what it was called."""
        return next((name for name in PROGRESS if name in self.facts), None)

    def check(self, episode: Episode) -> None:
        """Raises ValueError where the episode is not of this dataset's kind."""
        _expect("frames", episode.frames.shape[1:], self.picture)
        _expect("action", episode.action.shape[1:], (self.action_size,))
        felt = 0 if episode.proprio is None else episode.proprio.shape[1]
        _expect("proprio (numbers)", felt, len(self.proprio_names))
        if self.tasks and episode.task not in self.tasks:
            raise ValueError(
                f"the episode has task {episode.task!r}, but the dataset's spec has {self.tasks}"
            )
        _expect("facts", sorted(episode.facts), list(self.facts))
        for name, fact in self.facts.items():
            _expect(f"fact {name!r} (dtype)", episode.facts[name].dtype, np.dtype(fact.dtype))
            _expect(f"fact {name!r} (shape)", episode.facts[name].shape[1:], fact.shape)

    def differences(self, other: "DatasetSpec") -> list[str]:
        """One line for each field, or entry of the recipe, that differs."""
        names = [f.name for f in fields(self) if f.name != "recipe"]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        keys = [*self.recipe, *(key for key in other.recipe if key not in self.recipe)]
        pairs += [(f"recipe's {k}", self.recipe.get(k), other.recipe.get(k)) for k in keys]
        return [f"{name}: {mine!r}, found {its!r}" for name, mine, its in pairs if mine != its]

    def to_json(self) -> dict[str, Any]:
        """What came later is left out where it says nothing, so that older data is the same."""
        content = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in content.items() if value or name not in _LISTS}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DatasetSpec":
        facts = {
            name: Fact(dtype=fact["dtype"], shape=tuple(fact["shape"]))
            for name, fact in content["facts"].items()
        }
        bounds = bounds_from_json(content.get("bounds"))
        picture = tuple(content["picture"])
        lists = {name: names_from_json(content[name], name) for name in _LISTS if name in content}
        return cls(**{**content, **lists, "facts": facts, "picture": picture, "bounds": bounds})


def _counts(what: str, numbers: Sequence[Any]) -> tuple[int, ...]:
    """As plain ints; a size of 4.0 or '4' is none."""
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in numbers):
        raise ValueError(f"{what} is {reprlib.repr(numbers)}, expected whole numbers")
    return tuple(map(int, numbers))


def _expect(what: str, came: object, expected: object) -> None:
    if came != expected:
        raise ValueError(f"the episode has {what} {came}, but the dataset's spec has {expected}")
