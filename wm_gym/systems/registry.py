"""What a *system* is: one frozen record, and the simulators that stand in for its robot.

A new system is one record and one simulator; shells, data and dreams take everything from the
record. `systems/dot.py` is the smallest complete example.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Float32, Int, UInt8

from wm_gym.systems.simulator import (
    CheckingSimulator,
    NoisySimulator,
    Simulator,
    TaskSimulator,
)
from wm_gym.systems.task import as_task, check_threshold, success_of
from wm_gym.types import Info

Pilot: TypeAlias = Generator[np.ndarray | None, Info, None]
"""A behaviour at work: first yields the state to start from (None: the start rule), then actions;
is sent `info` in return."""

Behaviour: TypeAlias = Callable[[np.random.Generator], Pilot]


KEY_PAIRS = ("ad", "ws", "qe", "zc")
"""Keys that undo one another."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What the first two numbers of an action move, right and down: a mouse can lead it there."""

    position: tuple[str, str]
    """Its x and y, by their `state_names`."""

    board: tuple[float, float]
    """Width and height of the picture, in the same units."""

    reach: float
    """How far an action of 1 moves it."""


@dataclass(frozen=True)
class _Alias:
    """Tells a `coverage` that is only the progress from one that somebody gave."""

    progress: Callable[..., Float[np.ndarray, "*n"]]

    def __call__(self, *asked: np.ndarray) -> Float[np.ndarray, "*n"]:
        return self.progress(*asked)


@dataclass(frozen=True, kw_only=True)
class System:
    """Everything that shells, data and dreams need to know about one system."""

    name: str
    """As in the environment ids: `Real-<name>-v0`, `WM-<name>-v0`."""

    simulators: Mapping[str, str]
    """Environment id to entry point ("module:Class") of each stand-in; the first is the default.
    There are none of a system that is known from logs alone."""

    frame_shape: tuple[int, int, int]
    action_size: int
    state_names: tuple[str, ...]
    state_low: tuple[float, ...]
    """What a given start may be; a simulator may go beyond."""

    state_high: tuple[float, ...]
    reward: Callable[..., Float[np.ndarray, "*n"]]
    """r(state, action, next_state), over any leading axes; r(state, action, next_state, task) where
    there are several tasks, with an index for each of those states. Ask for it by `reward_of`."""

    fps: int | float
    """Control steps per second."""

    context: int
    """Frames that a dream of this system looks back on."""

    horizon: int
    """Steps of an episode."""

    success_threshold: float
    """Progress beyond which a task is done that has no threshold of its own."""

    tasks: Sequence[Any]
    """What it can be asked for, by index: a tuple of `Task`s. A sentence alone becomes one."""

    progress: Callable[..., Float[np.ndarray, "*n"]] | None = None
    """Share of the task that is achieved in a state, in [0, 1], over any leading axes;
    progress(state, task) where there are several tasks. Ask for it by `progress_of`. None: nobody
    knows."""

    coverage: Callable[..., Float[np.ndarray, "*n"]] | None = None
    """What `progress` was called, and an alias of it."""

    proprioception: Callable[..., Float[np.ndarray, "*n p"]] | None = None
    """What the robot feels of itself in a state, beside the picture, over any leading axes; never
    the pose of what it handles. Ask for it by `proprio_of`."""

    proprio_names: tuple[str, ...] = ()
    """One for each of its numbers."""

    ended: Callable[[Float[np.ndarray, "*n s"]], Bool[np.ndarray, "*n"]] | None = None
    """Whether an episode is over in a state, for good (`terminated`), over any leading axes. None:
    it never is."""

    solved_for: int = 1
    """Steps in a row in which a task has to be done for an episode to count as solved."""

    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """Keyword arguments of its simulators, which environments take too, and their defaults."""

    in_view: Callable[[UInt8[np.ndarray, "*n h w c"]], Bool[np.ndarray, "*n"]] | None = None
    """Whether what is handled can be seen in a frame, over any leading axes: where a camera moves,
    the card of a dataset tells for how long it was out of sight. None: nobody asks."""

    camera: tuple[tuple[float, ...], ...] = ()
    """Where a camera moves in a plane: how far an action of 1 is meant to move it forward and left
    in a step, and to turn it to the left in radians, for each number of an action. Dreams begin to
    learn from that; it need not be exact. Empty: it stands still, or nobody knows."""

    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What a card draws maps of: by name, the `state_names` of its x and y."""

    packages: tuple[str, ...] = ()
    """Installed packages on whose versions it depends what its simulators do; logs tell them."""

    licences: Mapping[str, str] = field(default_factory=dict)
    """Of what others made and logs show or follow, by what that is."""

    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    """How it can be driven to log data."""

    world_model: str | None = None
    """Name of the packaged model that dreams of it."""

    probe: str | None = None
    """Module that reads states off frames, a `wm_gym.evaluation.probes.Probe`, or says what a
    network is to read, a `Lesson`; dreams of a system without one are judged by their pictures,
    rewards and coverage alone."""

    scenarios: str | None = None
    """Module that stages runs which ask one question of a dream each (`wm_gym.systems.scenarios`).
    None: there are none."""

    play: Mapping[str, float] = field(default_factory=dict)
    """Shares of the behaviours in the play that a world model learns from; they sum to 1."""

    tool: Tool | None = None
    """Where to find what is moved; a system without one is played with keys alone."""

    keys: str = ""
    """Of `wm-gym play`: the key that makes each number of an action more, of W A S D, Q E, Z C; the
    other one of its pair makes it less. Empty: "dwec", or where there is a tool in a picture, whose
    y goes down, "dsec"."""

    def __post_init__(self) -> None:
        if min(self.frame_shape) < 1:
            raise ValueError(
                f"frame_shape is {self.frame_shape}, expected (height, width, channels)"
            )
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}, expected more than 0")
        for name in ("action_size", "context", "horizon", "solved_for"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not len(self.state_names) == len(self.state_low) == len(self.state_high):
            raise ValueError("state_names, state_low and state_high are not of equal length")
        self._settle_tasks()
        self._settle_progress()
        if (self.proprioception is None) == bool(self.proprio_names):
            raise ValueError(
                f"proprio_names are {self.proprio_names} and proprioception is "
                f"{self.proprioception}, expected both or neither: a name for each of its numbers"
            )
        if self.play and abs(sum(self.play.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of play are {dict(self.play)}, expected a sum of 1")
        if not set(self.play) <= set(self.behaviours):
            raise ValueError(
                f"play has {set(self.play) - set(self.behaviours)}, unknown behaviours"
            )
        for name, pair in self.places.items():
            if not set(pair) <= set(self.state_names):
                raise ValueError(f"places[{name!r}] is {pair}, expected two of the state_names")
        self._check_keys()
        if self.camera and [len(row) for row in self.camera] != [self.action_size] * 3:
            raise ValueError(
                f"camera is {self.camera}, expected three rows (forward, left, turn), each of "
                f"{self.action_size} numbers, one for each of an action"
            )
        if self.tool is not None and not set(self.tool.position) <= set(self.state_names):
            raise ValueError(
                f"the tool's position is {self.tool.position}, expected two of {self.state_names}"
            )

    def _check_keys(self) -> None:
        pairs = [pair for key in self.keys for pair in KEY_PAIRS if key in pair]
        if self.keys and not len(set(pairs)) == len(self.keys) == self.action_size:
            raise ValueError(
                f"keys are {self.keys!r}, expected {self.action_size}: one for each number of an "
                f"action, each of another of the pairs {KEY_PAIRS}"
            )

    def _settle_tasks(self) -> None:
        if not self.tasks:
            raise ValueError(f"system {self.name!r} needs at least one task")
        if isinstance(self.tasks, str):
            raise ValueError(f"tasks are {self.tasks!r}, expected a tuple of them")
        tasks = tuple(as_task(task) for task in self.tasks)
        for what in ("name", "description"):
            told = [getattr(task, what) for task in tasks]
            if len(set(told)) < len(told):
                raise ValueError(f"the tasks' {what}s are {told}, expected each once")
        check_threshold(self.success_threshold, "success_threshold")
        object.__setattr__(self, "tasks", tasks)

    def _settle_progress(self) -> None:
        """`coverage` is read as `progress` where somebody gave it, also to `replace`."""
        progress = self.progress
        if self.coverage is not None and not isinstance(self.coverage, _Alias):
            progress = self.coverage
        object.__setattr__(self, "progress", progress)
        object.__setattr__(self, "coverage", None if progress is None else _Alias(progress))

    @property
    def success_thresholds(self) -> tuple[float, ...]:
        """One for each task."""
        own = [task.success_threshold for task in self.tasks]
        return tuple(float(self.success_threshold if t is None else t) for t in own)

    @property
    def steering(self) -> str:
        """`keys`, or the usual ones."""
        usual = "dwec" if self.tool is None else "dsec"
        return self.keys or usual[: self.action_size]

    @property
    def proprio_size(self) -> int:
        """Numbers of proprioception, 0 without."""
        return len(self.proprio_names)

    def reward_of(
        self,
        state: Float[np.ndarray, "*n s"],
        action: Float[np.ndarray, "*n a"],
        next_state: Float[np.ndarray, "*n s"],
        task: Int[np.ndarray, "*n"] | int = 0,
    ) -> Float[np.ndarray, "*n"]:
        return np.asarray(self.reward(state, action, next_state, *self.asked(task, state)))

    def progress_of(
        self, state: Float[np.ndarray, "*n s"], task: Int[np.ndarray, "*n"] | int = 0
    ) -> Float[np.ndarray, "*n"]:
        """NaN where nobody knows."""
        if self.progress is None:
            return np.full(np.shape(state)[:-1], np.nan)
        return np.asarray(self.progress(state, *self.asked(task, state)))

    def success_of(
        self, progress: Float[np.ndarray, "*n"], task: Int[np.ndarray, "*n"] | int = 0
    ) -> Bool[np.ndarray, "*n"]:
        return success_of(progress, task, thresholds=self.success_thresholds)

    def proprio_of(self, state: Float[np.ndarray, "*n s"]) -> Float32[np.ndarray, "*n p"]:
        if self.proprioception is None:
            raise ValueError(f"system {self.name!r} has no proprioception")
        return np.asarray(self.proprioception(state), np.float32)

    def asked(
        self, task: Int[np.ndarray, "*n"] | int, state: Float[np.ndarray, "*n s"]
    ) -> tuple[np.ndarray, ...]:
        """What `reward` and `progress` are given after states: nothing where there is one task."""
        if len(self.tasks) == 1:
            return ()
        return (np.broadcast_to(np.asarray(task, np.int64), np.shape(state)[:-1]),)

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(0, 255, self.frame_shape, np.uint8)

    @property
    def action_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (self.action_size,), np.float32)

    @property
    def where(self) -> dict[str, tuple[int, int]]:
        """`places`, by index in a state."""
        index = self.state_names.index
        return {name: (index(x), index(y)) for name, (x, y) in self.places.items()}

    def ended_in(self, state: Float[np.ndarray, "*n s"]) -> Bool[np.ndarray, "*n"]:
        if self.ended is None:
            return np.zeros(np.shape(state)[:-1], bool)
        return np.asarray(self.ended(state))

    def make_simulator(self, env_id: str | None = None, **options: Any) -> Simulator:
        """`options` are some of those that the record names."""
        module, _, name = self.simulators[env_id or next(iter(self.simulators))].partition(":")
        return getattr(import_module(module), name)(**options)


_SYSTEMS: dict[str, System] = {}


def register_system(system: System) -> System:
    """Make a system known, and its real stand-ins and its dream by `gym.make` and `gym.make_vec`.

    The dream `WM-<name>-v0` needs `world_model="folder"` where the package brings no model of it.
    """
    if system.name in _SYSTEMS:
        raise ValueError(f"a system named {system.name!r} is registered already")
    if not system.simulators:
        raise ValueError(f"system {system.name!r} needs at least one simulator to be registered")
    _SYSTEMS[system.name] = system
    for env_id in system.simulators:
        gym.register(
            env_id,
            entry_point="wm_gym.envs:RealEnv",
            vector_entry_point="wm_gym.envs:RealVectorEnv",
            kwargs={"system": system.name, "simulator": env_id},
        )
    packaged = {"world_model": system.world_model} if system.world_model else {}
    register_dream(f"WM-{system.name}-v0", {"system": system.name, **packaged})
    return system


def register_dream(env_id: str, kwargs: dict[str, str]) -> None:
    gym.register(
        env_id,
        entry_point="wm_gym.envs.dream:DreamEnv",
        vector_entry_point="wm_gym.envs.dream:DreamVectorEnv",
        kwargs=kwargs,
    )


def packaged_dream(world_model: str) -> str | None:
    """The environment that dreams by this packaged name, whether or not it is there."""
    named = (name for name, system in _SYSTEMS.items() if system.world_model == world_model)
    return next((f"WM-{name}-v0" for name in named), None)


def registered_systems() -> list[str]:
    return sorted(_SYSTEMS)


def system_named(name: str) -> System:
    if name not in _SYSTEMS:
        raise ValueError(f"no system is named {name!r}; known are {registered_systems()}")
    return _SYSTEMS[name]


__all__ = [
    "Behaviour",
    "CheckingSimulator",
    "NoisySimulator",
    "Pilot",
    "Simulator",
    "System",
    "TaskSimulator",
    "Tool",
    "packaged_dream",
    "register_system",
    "registered_systems",
    "system_named",
]
