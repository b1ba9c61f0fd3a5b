"""An easy Push-T, near the goal: whoever fails at the whole one may be able to learn this.

In the dream these are the world model's own starts of which enough is covered; in the real system
the block is put near the goal.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float

from wm_gym.envs.loading import loaded
from wm_gym.models.starts import Starts
from wm_gym.models.world_model import WorldModel
from wm_gym.systems.pusht.geometry import GOAL

COVERED = 0.4
"""The least coverage of an easy start in the dream."""

SPREAD = (20.0, 20.0, 0.3)
"""How far from the goal the real block is put: standard deviations in px and radians."""


def near_the_goal(world_model: str) -> WorldModel:
    """The model with those of its starts alone."""
    model = loaded(world_model, device="auto", dtype="auto", deterministic=False)
    assert model.starts is not None
    every = [model.starts[i] for i in range(len(model.starts))]
    env = gym.make_vec("WM-v0", num_envs=1, world_model=model)
    covered = []
    for start in every:
        options = {"frames": start.frames, "actions": start.action}
        covered.append(float(env.reset(seed=0, options=options)[1]["coverage"][0]))
    env.close()
    chosen = [start for start, share in zip(every, covered, strict=True) if share > COVERED]
    if not chosen:
        raise SystemExit(f"no start of {world_model} covers more than {COVERED:.0%} of the goal")
    model.starts = Starts.pack(chosen)
    return model


def real_starts() -> Callable[[list[int]], dict[str, Any]]:
    """Of a round of real episodes, from their seeds."""

    def options(seeds: list[int]) -> dict[str, Any]:
        return {"state": np.stack([_state(seed) for seed in seeds])}

    return options


def _state(seed: int) -> Float[np.ndarray, "s=7"]:
    """Tool x, y, block x, y, angle, tool velocity; the tool well away from the block."""
    rng = np.random.default_rng(seed)
    tool = rng.uniform(30, 120, size=2)
    block = GOAL + rng.normal(size=3) * SPREAD
    return np.concatenate([tool, block, np.zeros(2)])
