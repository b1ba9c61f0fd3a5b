"""What a shell needs from the world behind it: n independent systems that are stepped together."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from wm_gym.systems import CheckingSimulator, NoisySimulator, Simulator, System, task_index
from wm_gym.types import PIXELS, PROPRIO

OBS_TYPES = "pixels", "latent", "dict"

Observations: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""Of some systems, in a batch; with `obs_type="dict"` an array for each entry."""


@runtime_checkable
class Noted(Protocol):
    """What shells tell of n systems at one moment; asked for when it is needed."""

    def task(self) -> Int64[np.ndarray, "b"]:
        """What is asked of each, by its index in `system.tasks`."""

    def progress(self) -> Float[np.ndarray, "b"]:
        """Within [0, 1]; NaN, in all of them, where nobody knows."""

    def success(self) -> Bool[np.ndarray, "b"] | None:
        """Whether the task is solved; None: where progress is above its threshold."""

    def ended(self) -> Bool[np.ndarray, "b"]:
        """Whether its last step was the last one there can be."""

    def facts(self) -> dict[str, np.ndarray]:
        """More that `info` should say, each with a leading axis b."""


@runtime_checkable
class World(Protocol):
    """n systems. All arrays have them first; what is returned is the caller's to keep."""

    system: System
    num_envs: int
    ends: bool
    """Whether there can be any end but that of time."""

    waits: bool
    """Whether what is noted of a step may be read at once, as no device is waited for."""

    @property
    def observation_space(self) -> Space[Any]:
        """Of one of them."""

    def given(self, options: Mapping[str, Any]) -> Any:
        """What reset options ask for; raises before anything has changed. {} asks for nothing."""

    def start(
        self, which: Bool[np.ndarray, "b"], rngs: Sequence[np.random.Generator], given: Any
    ) -> None:
        """Begin an episode in those of `which`."""

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        """One control step of those of `which`; their rewards, 0 for the others."""

    def observations(self, which: Bool[np.ndarray, "b"]) -> Observations:
        """Of those of `which`, each of the observation space."""

    def noted(self) -> "Noted":
        """What the shells keep of this moment."""

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]: ...

    def snapshot(self, i: int) -> Any: ...

    def check_snapshot(self, snapshot: Any) -> None:
        """Raises where `restore` could not go on from it, before anything has changed."""

    def restore(self, i: int, snapshot: Any) -> None: ...


def picked(observations: Observations, i: int) -> Any:
    """One of a batch, the caller's to keep."""
    if isinstance(observations, dict):
        return {name: each[i].copy() for name, each in observations.items()}
    return observations[i]


def dict_space(pixels: Box, proprio_size: int) -> Space[Any]:
    """Of `obs_type="dict"`, under LeRobot's names."""
    return Dict({PIXELS: pixels, PROPRIO: Box(-np.inf, np.inf, (proprio_size,), np.float32)})


def asked_task(system: System, default: int | None, task: Any, n: int) -> list[int | None]:
    """What reset's option says, for each of n: one for all, or one each."""
    if task is None:
        return [default] * n
    each = (
        list(task) if isinstance(task, (list, tuple, np.ndarray)) and np.ndim(task) else [task] * n
    )
    if len(each) != n:
        raise ValueError(f"options['task'] has {len(each)} entries, expected one, or {n}")
    return [task_index(system.tasks, one) for one in each]


def checked_options(options: Any) -> dict[str, Any]:
    """A copy of reset's options."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options is a {type(options).__name__}, expected a dictionary")
    return dict(options or {})


def checked_render_mode(render_mode: str | None, modes: list[str]) -> str | None:
    if render_mode not in (None, *modes):
        raise ValueError(f"render_mode is {render_mode!r}, expected None or one of {modes}")
    return render_mode


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What a reset of simulators asks for."""

    state: Float[np.ndarray, "b s"] | None
    task: list[int | None]
    """None: any."""


@dataclass(frozen=True, kw_only=True)
class TaskSnapshot:
    """A simulator at one moment, and what is asked of it, where that may be one of several."""

    task: int
    state: Any


class SimulatedWorld:
    """Simulators of one system, stepped one after the other."""

    def __init__(
        self,
        system: System,
        simulator: str,
        num_envs: int,
        *,
        obs_type: str = "pixels",
        task: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`task` is what is asked where `reset` is not told; None: any of the system's. `options`
        are for the simulators."""
        self.system = system
        self.num_envs = num_envs
        self._proprioceptive = obs_type == "dict"
        self._default, self._task = task, np.zeros(num_envs, np.int64)
        self.ends, self.waits = system.ended is not None, True
        self._make = partial(system.make_simulator, simulator, **(options or {}))
        self._simulators = [self._make() for _ in range(num_envs)]
        self._state = np.zeros((num_envs, len(system.state_names)))
        self._checked = False
        self._spare: Simulator | None = None
        """What snapshots are tried in, before they are restored."""

    @property
    def observation_space(self) -> Space[Any]:
        pixels = self.system.observation_space
        return dict_space(pixels, self.system.proprio_size) if self._proprioceptive else pixels

    def start(
        self, which: Bool[np.ndarray, "b"], rngs: Sequence[np.random.Generator], given: "Told"
    ) -> None:
        several = len(self.system.tasks)
        for i in np.flatnonzero(which).tolist():
            if several > 1:
                told = given.task[i]
                self._task[i] = rngs[i].integers(several) if told is None else told
                simulator: Any = self._simulators[i]
                simulator.set_task(int(self._task[i]))
            one = self._simulators[i]
            if given.state is None:
                one.start(rngs[i])
            else:
                one.place(given.state[i])
            if isinstance(one, NoisySimulator):
                one.seed_noise(rngs[i])
            self._check(one)
            self._state[i] = one.state()

    def _check(self, simulator: Simulator) -> None:
        """Once, that a simulator is what its record says: NumPy would broadcast a mistake away."""
        if self._checked:
            return
        frame, state = simulator.frame(), simulator.state()
        if frame.shape != self.system.frame_shape or frame.dtype != np.uint8:
            raise ValueError(
                f"{type(simulator).__name__}.frame() is {frame.dtype} {frame.shape}, "
                f"expected uint8 {self.system.frame_shape}"
            )
        if state.shape != self._state.shape[1:]:
            raise ValueError(
                f"{type(simulator).__name__}.state() has shape {state.shape}, "
                f"expected one number for each of {self.system.state_names}"
            )
        self._checked = True

    def given(self, options: Mapping[str, Any]) -> "Told":
        """`options={"state": ..., "task": ...}`: one for all, or one each."""
        unknown = set(options) - {"state", "task"}
        if unknown:
            raise ValueError(
                f"unknown reset options {sorted(unknown)}; a real system takes 'state' and 'task'"
            )
        task = asked_task(self.system, self._default, options.get("task"), self.num_envs)
        if options.get("state") is None:
            return Told(state=None, task=task)
        names = self.system.state_names
        try:
            state = np.asarray(options["state"], np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"options['state'] is {options['state']!r}, expected numbers: {', '.join(names)}"
            ) from error
        expected = (self.num_envs, len(names))
        if state.shape not in (expected, expected[1:]):
            raise ValueError(
                f"options['state'] has shape {state.shape}, expected {expected[1:]} or {expected}: "
                + ", ".join(names)
            )
        low, high = self.system.state_low, self.system.state_high
        within = (state >= low) & (state <= high)  # NaN is neither
        if not within.all():
            *i, j = np.argwhere(~within)[0].tolist()
            raise ValueError(
                f"options['state'] has {names[j]} = {state[*i, j]}, expected finite numbers from "
                f"{low[j]} to {high[j]} there"
            )
        if isinstance(self._simulators[0], CheckingSimulator):
            for one in np.atleast_2d(state):
                self._simulators[0].check_state(one)
        return Told(state=np.broadcast_to(state, expected), task=task)

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        before = self._state.copy()
        for i in np.flatnonzero(which):
            self._simulators[i].advance(action[i])
            self._state[i] = self._simulators[i].state()
        earned = self.system.reward_of(before, action, self._state, self._task)
        return np.where(which, earned, 0.0)

    def observations(self, which: Bool[np.ndarray, "b"]) -> Observations:
        frames = self.frames(which)
        if not self._proprioceptive:
            return frames
        return {PIXELS: frames, PROPRIO: self.proprio(which)}

    def frames(self, which: Bool[np.ndarray, "b"]) -> UInt8[np.ndarray, "n h w c"]:
        return np.stack([self._simulators[i].frame() for i in np.flatnonzero(which)])

    def proprio(self, which: Bool[np.ndarray, "b"]) -> Float32[np.ndarray, "n p"]:
        return self.system.proprio_of(self._state[which])

    def noted(self) -> Noted:
        return self

    def task(self) -> Int64[np.ndarray, "b"]:
        return self._task.copy()

    def progress(self) -> Float[np.ndarray, "b"]:
        return self.system.progress_of(self._state, self._task)

    def success(self) -> Bool[np.ndarray, "b"] | None:
        return None

    def ended(self) -> Bool[np.ndarray, "b"]:
        return self.system.ended_in(self._state)

    def facts(self) -> dict[str, np.ndarray]:
        contact = np.array([simulator.contact for simulator in self._simulators])
        return {"state": self._state.copy(), "contact": contact}

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        return self._simulators[i].picture()

    def snapshot(self, i: int) -> Any:
        state = self._simulators[i].snapshot()
        several = len(self.system.tasks) > 1
        return TaskSnapshot(task=int(self._task[i]), state=state) if several else state

    def check_snapshot(self, snapshot: Any) -> None:
        """Only a simulator knows its own: a spare one tries it."""
        snapshot = self._of_simulator(snapshot)
        if self._spare is None:
            self._spare = self._make()
        try:
            self._spare.restore(snapshot)
            state = self._spare.state()
        except Exception as error:
            raise ValueError(
                f"the snapshot's world is {reprlib.repr(snapshot)}, expected what "
                f"{type(self._spare).__name__}.snapshot() returned: {error}"
            ) from error
        if state.shape != self._state.shape[1:] or not np.isfinite(state).all():
            raise ValueError(f"the snapshot leads to the state {state}, expected finite numbers")

    def _of_simulator(self, snapshot: Any) -> Any:
        """What the simulator's part of it is."""
        if len(self.system.tasks) == 1:
            return snapshot
        if not isinstance(snapshot, TaskSnapshot):
            raise TypeError(
                f"the snapshot's world is a {type(snapshot).__name__}, expected one of a system "
                "with several tasks"
            )
        task_index(self.system.tasks, snapshot.task)
        return snapshot.state

    def restore(self, i: int, snapshot: Any) -> None:
        self._simulators[i].restore(self._of_simulator(snapshot))
        self._task[i] = snapshot.task if isinstance(snapshot, TaskSnapshot) else 0
        self._state[i] = self._simulators[i].state()
