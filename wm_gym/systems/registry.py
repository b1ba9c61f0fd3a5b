"""What a *system* is: one frozen record, and the simulators that stand in for its robot.

A new system is one record and one simulator; shells, data and dreams take everything from the
record. `systems/dot.py` is the smallest complete example.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Float, UInt8

from wm_gym.types import Info


@runtime_checkable
class Simulator(Protocol):
    """One real system. Nothing here is random but `start`."""

    contact: bool
    """Whether the tool touched the thing it moves during the last `advance`."""

    def start(self, rng: np.random.Generator) -> None:
        """Begin an episode by the system's start rule, drawing from `rng` alone."""

    def place(self, state: Float[np.ndarray, "s"]) -> None:
        """Begin an episode in this state."""

    def advance(self, action: Float[np.ndarray, "a"]) -> None:
        """One control step; the action is finite and within [−1, 1]."""

    def state(self) -> Float[np.ndarray, "s"]:
        """The true state, in the order of the record's `state_names`."""

    def frame(self) -> UInt8[np.ndarray, "h w c"]:
        """The observation."""

    def picture(self) -> UInt8[np.ndarray, "h2 w2 c"]:
        """A picture for people, of any size."""

    def snapshot(self) -> Any:
        """All that the future depends on, picklable."""

    def restore(self, snapshot: Any) -> None:
        """The same snapshot always has the same future."""


Pilot: TypeAlias = Generator[np.ndarray | None, Info, None]
"""A behaviour at work: first yields the state to start from (None: the start rule), then actions;
is sent `info` in return."""

Behaviour: TypeAlias = Callable[[np.random.Generator], Pilot]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What the first two numbers of an action move, right and down: a mouse can lead it there."""

    position: tuple[str, str]
    """Its x and y, by their `state_names`."""

    board: tuple[float, float]
    """Width and height of the picture, in the same units."""

    reach: float
    """How far an action of 1 moves it."""


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
    """r(state, action, next_state), over any leading axes."""

    coverage: Callable[[Float[np.ndarray, "*n s"]], Float[np.ndarray, "*n"]]
    """Share of the task achieved in a state, in [0, 1]."""

    fps: int | float
    """Control steps per second."""

    context: int
    """Frames that a dream of this system looks back on."""

    horizon: int
    """Steps of an episode."""

    success_threshold: float
    tasks: tuple[str, ...]
    """Names of its tasks; the index is the task id."""

    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    """How it can be driven to log data."""

    world_model: str | None = None
    """Name of the packaged model that dreams of it."""

    probe: str | None = None
    """Module that reads states off frames, a `wm_gym.evaluation.rollouts.Probe`; dreams of a system
    without one are judged by their pictures, rewards and coverage alone."""

    play: Mapping[str, float] = field(default_factory=dict)
    """Shares of the behaviours in the play that a world model learns from; they sum to 1."""

    tool: Tool | None = None
    """Where to find what is moved; a system without one is played with keys alone."""

    def __post_init__(self) -> None:
        if min(self.frame_shape) < 1:
            raise ValueError(
                f"frame_shape is {self.frame_shape}, expected (height, width, channels)"
            )
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}, expected more than 0")
        for name in ("action_size", "context", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not len(self.state_names) == len(self.state_low) == len(self.state_high):
            raise ValueError("state_names, state_low and state_high are not of equal length")
        if not self.tasks:
            raise ValueError(f"system {self.name!r} needs at least one task")
        if self.play and abs(sum(self.play.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of play are {dict(self.play)}, expected a sum of 1")
        if not set(self.play) <= set(self.behaviours):
            raise ValueError(
                f"play has {set(self.play) - set(self.behaviours)}, unknown behaviours"
            )
        if self.tool is not None and not set(self.tool.position) <= set(self.state_names):
            raise ValueError(
                f"the tool's position is {self.tool.position}, expected two of {self.state_names}"
            )

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(0, 255, self.frame_shape, np.uint8)

    @property
    def action_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (self.action_size,), np.float32)

    def make_simulator(self, env_id: str | None = None) -> Simulator:
        module, _, name = self.simulators[env_id or next(iter(self.simulators))].partition(":")
        return getattr(import_module(module), name)()


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


def registered_systems() -> list[str]:
    return sorted(_SYSTEMS)


def system_named(name: str) -> System:
    if name not in _SYSTEMS:
        raise ValueError(f"no system is named {name!r}; known are {registered_systems()}")
    return _SYSTEMS[name]


__all__ = [
    "Behaviour",
    "Pilot",
    "Simulator",
    "System",
    "Tool",
    "register_system",
    "registered_systems",
    "system_named",
]
