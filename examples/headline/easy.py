"""An easy Push-T, near the goal: whoever fails at the whole one may be able to learn this.

In the dream these are the world model's own starts of which enough is covered; in the real system
the block is put near the goal, where as much is.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from wm_gym.envs.loading import loaded
from wm_gym.models.starts import Starts
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.progress import Bar
from wm_gym.systems import PUSH_T
from wm_gym.systems.pusht.geometry import GOAL

COVERED = 0.4
"""The least coverage of an easy start."""

SPREAD = (20.0, 20.0, 0.3)
"""How far from the goal the real block is put: standard deviations in px and radians."""

_TOGETHER = 64
"""Starts that are looked at side by side."""


@cache
def near_the_goal(world_model: str) -> WorldModel:
    """The model with those of its starts alone."""
    model = loaded(world_model, device="auto", dtype="auto", deterministic=False)
    every = model.starts
    assert every is not None
    covered = _covered(model, np.stack([every[i].frames[-1:] for i in range(len(every))]))
    if not (chosen := np.flatnonzero(covered > COVERED).tolist()):
        raise SystemExit(f"no start of {world_model} covers more than {COVERED:.0%} of the goal")
    model.starts = Starts.pack([every[i] for i in chosen])
    return model


def _covered(model: WorldModel, frames: np.ndarray) -> Float[np.ndarray, "n"]:
    """What dreams say that begin with each of these frames."""
    env, found = gym.make_vec("WM-v0", num_envs=_TOGETHER, world_model=model), []
    with Bar(total=len(frames), desc="choosing easy starts", unit=" starts") as bar:
        for first in range(0, len(frames), _TOGETHER):
            part = frames[first : first + _TOGETHER]
            shown = np.concatenate([part, part[:1].repeat(_TOGETHER - len(part), axis=0)])
            _, info = env.reset(seed=0, options={"frames": shown})
            found.append(info["coverage"][: len(part)])
            bar.update(len(part))
    env.close()
    return np.concatenate(found)


def real_starts() -> Callable[[list[int]], dict[str, Any]]:
    """Of a round of real episodes, from their seeds."""

    def options(seeds: list[int]) -> dict[str, Any]:
        return {"state": np.stack([_state(seed) for seed in seeds])}

    return options


def _state(seed: int) -> Float[np.ndarray, "s=7"]:
    """Tool x, y, block x, y, angle, tool velocity; the tool well away from the block."""
    rng = np.random.default_rng(seed)
    while True:
        tool = rng.uniform(30, 120, size=2)
        state = np.concatenate([tool, GOAL + rng.normal(size=3) * SPREAD, np.zeros(2)])
        if PUSH_T.progress_of(state) > COVERED:
            return state
