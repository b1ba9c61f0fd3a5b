"""One way through a vector environment: what is done to it, and what it returns at each moment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array

from wm_gym.types import Info

BEFORE_1_4 = tuple(int(part) for part in gym.__version__.split(".")[:2]) < (1, 4)

AnyVectorEnv: TypeAlias = VectorEnv[Any, Any, Any]
Flags: TypeAlias = npt.NDArray[np.bool_]
Tapes: TypeAlias = dict[int, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a walk does; `lanes` number the environments without gaps: all of them, or one alone."""

    lanes: tuple[int, ...]
    seed: int
    """Lane i starts from `seed + i`."""
    steps: int
    tapes: Tapes
    """The actions of each lane, in the order of its own steps: none is spent on an autoreset."""
    forced: Mapping[int, int] = field(default_factory=dict)
    """Lane → after how many of its steps `reset_mask` resets it, so that the ends are staggered."""
    replay: bool = False
    """A forced reset repeats the lane's seed and rewinds its tape."""
    by_hand: bool = False
    """Reset ended environments by `reset_mask`, without waiting for the autoreset."""

    @property
    def seeds(self) -> list[int | None]:
        return [self.seed + lane for lane in self.lanes]


class Moment(NamedTuple):
    """What one call of `reset` or `step` returned, and for whom it is a start, for whom a step."""

    obs: Any
    infos: Info
    started: Flags
    acted: Flags
    reward: Any = None
    terminated: Any = None
    truncated: Any = None

    @property
    def is_reset(self) -> bool:
        return self.reward is None

    @property
    def ended(self) -> Flags:
        if self.is_reset:
            return np.zeros_like(self.started)
        return np.logical_or(self.terminated, self.truncated)


def walk(env: AnyVectorEnv, plan: Plan, mode: AutoresetMode) -> Iterator[Moment]:
    """Yield what `env` returns, as it is; resets that `mode` leaves to the caller are done here."""
    nobody = np.zeros(len(plan.lanes), np.bool_)
    counts = np.array([plan.forced.get(lane, -1) for lane in plan.lanes])
    ended, forced, taken = nobody, nobody, np.zeros(len(plan.lanes), np.int64)
    by_hand = plan.by_hand or mode is AutoresetMode.DISABLED
    obs, infos = reset(env, plan.seed + plan.lanes[0])
    yield Moment(obs, infos, ~nobody, nobody)
    for _ in range(plan.steps):
        waiting = ended if mode is AutoresetMode.NEXT_STEP else nobody
        actions = [plan.tapes[lane][taken[i]] for i, lane in enumerate(plan.lanes)]
        obs, reward, terminated, truncated, infos = env.step(batched(env, actions))
        ended = np.logical_or(terminated, truncated)
        started = waiting | ended if mode is AutoresetMode.SAME_STEP else waiting
        yield Moment(obs, infos, started, ~waiting, reward, terminated, truncated)
        taken = taken + ~waiting
        due = (taken == counts) & ~(ended | waiting | forced)
        forced = forced | due
        mask = due | ended if by_hand else due
        if mask.any():
            again = due if plan.replay else nobody
            seeds = [seed if again[i] else None for i, seed in enumerate(plan.seeds)]
            obs, infos = reset(env, seeds if again.any() else None, mask)
            yield Moment(obs, infos, mask, nobody)
            ended, taken = ended & ~mask, np.where(again, 0, taken)


def batched(env: AnyVectorEnv, actions: list[Any]) -> Any:
    space = env.single_action_space
    out: Any = create_empty_array(space, n=len(actions))
    return concatenate(space, actions, out)


def reset(
    env: AnyVectorEnv, seeds: int | list[int | None] | None, mask: Flags | None = None
) -> tuple[Any, Info]:
    # All True goes without a mask: a full reset must start what a partial one starts. The dict is
    # new each time, because Gymnasium pops the mask out of it.
    options = None if mask is None or mask.all() else {"reset_mask": mask.copy()}
    vector_reset: Any = env.reset  # typed `seed: int | None`, although lists are the contract
    return vector_reset(seed=seeds, options=options)
