"""Many environments in one: the Gymnasium vector shell around a world of one system."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import Error
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float64, UInt8

from wm_gym.envs.actions import checked_action
from wm_gym.envs.episodes import EnvState, Episodes, Move, Rules
from wm_gym.envs.memory import explain_memory
from wm_gym.envs.world import (
    World,
    checked_options,
    checked_render_mode,
    picked,
)
from wm_gym.types import Info

Obs = Any
"""Of all environments, in a batch: an array, or with `obs_type="dict"` a dictionary of arrays."""

Step = tuple[Obs, Float64[np.ndarray, "b"], Bool[np.ndarray, "b"], Bool[np.ndarray, "b"], Info]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stepped:
    """What a step did to the episodes; observations are asked for."""

    reward: Float64[np.ndarray, "b"] | None
    """None where it was not waited for."""

    terminated: Bool[np.ndarray, "b"]
    truncated: Bool[np.ndarray, "b"]
    begun: Bool[np.ndarray, "b"]
    """Whether an episode began in it, before or after any move."""

    info: Info


class WorldVectorEnv(VectorEnv[Any, np.ndarray, np.ndarray]):
    """Any world of one system as a natively batched `gymnasium.vector.VectorEnv`.

    Behaves as Gymnasium's `SyncVectorEnv` of `WorldEnv`s does, in each autoreset mode.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    single_observation_space: Any
    """A Box, or with `obs_type="dict"` a Dict."""

    single_action_space: Box

    def __init__(
        self,
        world: World,
        rules: Rules,
        *,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
        staggered: bool = False,
    ) -> None:
        """`staggered`: after a reset of all at once, environment i's episode begins with the clock
        at i · horizon // num_envs, so that they do not all end, again and again, in one step.
        Every other episode begins at 0."""
        self.render_mode = checked_render_mode(render_mode, self.metadata["render_modes"])
        system = world.system
        self.autoreset_mode = checked_mode(autoreset_mode)
        self.staggered = checked_staggered(staggered)
        self.metadata = {
            **self.metadata,
            "render_fps": system.fps,
            "autoreset_mode": self.autoreset_mode,
        }
        self.num_envs, self.system = world.num_envs, system
        self.single_observation_space = world.observation_space
        self.single_action_space = system.action_space
        with explain_memory(self.num_envs):  # spaces keep the bounds of every number in a batch
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._episodes = Episodes(world, rules)
        self._all = np.ones(self.num_envs, bool)

    @property
    def task(self) -> str | tuple[str, ...]:
        """What is asked now, in a sentence; one each where the system has several."""
        each = tuple(
            str(self.system.tasks[i].description) for i in self._episodes.world.noted().task()
        )
        return each[0] if len(self.system.tasks) == 1 else each

    @property
    def task_description(self) -> str | tuple[str, ...]:
        """The same, under LeRobot's name."""
        return self.task

    @property
    def max_episode_steps(self) -> int:
        """The horizon."""
        return self._episodes.rules.horizon

    @property
    def _max_episode_steps(self) -> int:
        return self.max_episode_steps

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        rngs = self._episodes.rngs
        for i, rng in enumerate(rngs):
            if rng is None:
                rngs[i], self._episodes.seeds[i] = seeding.np_random()
        return tuple(rng for rng in rngs if rng is not None)

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        return tuple(self._episodes.seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Obs, Info]:
        options = checked_options(options)
        which = self._all
        if "reset_mask" in options:
            which = checked_mask(options.pop("reset_mask"), self.num_envs)
        seeds = each_seed(seed, self.num_envs)
        if not (which | self._episodes.begun).all():
            raise ValueError("the first reset must be of all environments: leave out 'reset_mask'")
        given = self._episodes.world.given(options)
        self._episodes.begin(which, seeds=seeds, given=given)
        if self.staggered and which.all():
            self._episodes.stagger()
        return self._observations(), masked(self._episodes.info(), which)

    def step(self, actions: Any) -> Step:
        assert self.action_space.shape is not None
        actions = checked_action(
            actions, self.action_space.shape, axes="(num_envs, *single_action_space.shape)"
        )
        world = self._episodes.world
        went = self._stepped(lambda which: world.advance(actions, which))
        assert went.reward is not None
        return self._observations(), went.reward, went.terminated, went.truncated, went.info

    def _stepped(self, move: Move) -> "Stepped":
        """One step in this autoreset mode, however the world moves."""
        episodes, resetting = self._episodes, np.zeros(self.num_envs, bool)
        episodes.check_begun()
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            resetting = episodes.over.copy()
        elif self.autoreset_mode == AutoresetMode.DISABLED:
            episodes.check_running()
        reward, terminated, truncated = episodes.advance(~resetting, move)
        if resetting.any():
            episodes.begin(resetting)
        begun, over = resetting, episodes.over.copy()
        info: Info = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            info = self._final(over)
            episodes.begin(over)
            begun = begun | over
        told = episodes.info_when_asked(lambda info: masked(info, self._all))
        return Stepped(
            reward=None if reward is None else reward.astype(np.float64),
            terminated=terminated,
            truncated=truncated,
            begun=begun,
            info=info | told if info else told,
        )

    def _final(self, over: Bool[np.ndarray, "b"]) -> Info:
        final_obs = np.full(self.num_envs, None, dtype=object)
        seen = self._episodes.world.observations(over)
        for row, i in enumerate(np.flatnonzero(over)):
            final_obs[i] = picked(seen, row)
        final_info = masked(self._episodes.info(), over)
        return masked({"final_obs": final_obs}, over) | {
            "final_info": final_info,
            "_final_info": over.copy(),
        }

    def render(self) -> tuple[UInt8[np.ndarray, "h2 w2 c"], ...] | None:
        self._episodes.check_begun()
        if self.render_mode is None:
            return None
        return tuple(self._episodes.world.picture(i) for i in range(self.num_envs))

    def get_state(self) -> tuple[EnvState, ...]:
        """One snapshot an environment, each of which a single environment takes too."""
        return tuple(self._episodes.snapshot(i) for i in range(self.num_envs))

    def set_state(self, state: Sequence[Any]) -> None:
        if not isinstance(state, Sequence):
            raise TypeError(f"got a {type(state).__name__}, expected what get_state() returned")
        if len(state) != self.num_envs:
            raise ValueError(f"got {len(state)} snapshots for {self.num_envs} environments")
        for snapshot in state:  # all of them, before any changes anything
            self._episodes.check_state(snapshot)
        for i, snapshot in enumerate(state):
            self._episodes.restore(i, snapshot)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """As `SyncVectorEnv.call`: one result an environment, for what single ones have too."""
        if name in ("reset", "step", "set_state"):
            raise ValueError(f"{name}() of one environment alone is not to be had: call {name}()")
        value = getattr(self, f"single_{name}", None) or getattr(self, name)
        value = value(*args, **kwargs) if callable(value) else value
        each = isinstance(value, tuple) and len(value) == self.num_envs
        return value if each else (value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """All environments share one attribute, so one value, or a list of equal ones."""
        each = list(values) if isinstance(values, (list, tuple)) else [values] * self.num_envs
        if len(each) != self.num_envs or any(value != each[0] for value in each):
            raise ValueError(f"{name} is shared by all {self.num_envs} environments, got {values}")
        setattr(self, name, each[0])

    def _observations(self) -> Obs:
        return self._episodes.world.observations(self._all)


def masked(info: Info, which: Bool[np.ndarray, "b"]) -> Info:
    """`info` as Gymnasium batches it: zeros where it says nothing, and a mask `_key` each."""
    shown: Info = {}
    for name, values in info.items():
        if values.dtype != object:
            values = values.copy()
            values[~which] = 0
        shown[name], shown[f"_{name}"] = values, which.copy()
    return shown


def each_seed(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """A seed an environment; a whole number s means s, s + 1, …"""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        each: list[int | None] = [int(seed) + i for i in range(num_envs)]
    elif isinstance(seed, (Sequence, np.ndarray)) and not isinstance(seed, str):
        each = list(seed)
    else:
        raise Error(f"seed is {seed!r}, expected a whole number, or one for each environment")
    if len(each) != num_envs:
        raise ValueError(f"got {len(each)} seeds for {num_envs} environments")
    for one in each:  # all of them, before any is used
        if one is not None:
            seeding.np_random(one)
    return each


def checked_mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = [known.value for known in AutoresetMode]
        raise ValueError(f"autoreset_mode is {mode!r}, expected one of {known}") from None


def checked_staggered(staggered: bool) -> bool:
    if not isinstance(staggered, (bool, np.bool_)):
        raise ValueError(f"staggered is {staggered!r}, expected True or False")
    return bool(staggered)


def checked_mask(mask: Any, num_envs: int) -> Bool[np.ndarray, "b"]:
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"options['reset_mask'] is a {type(mask).__name__}, expected a NumPy array")
    if mask.shape != (num_envs,):
        raise ValueError(f"options['reset_mask'] has shape {mask.shape}, expected ({num_envs},)")
    if mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] has dtype {mask.dtype}, expected bool")
    if not mask.any():
        raise ValueError("options['reset_mask'] resets none: expected at least one True")
    return mask
