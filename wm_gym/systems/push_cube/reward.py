"""The cube's progress, and a smooth reward of the state after the step, from 0 to 1.

    r = [ 1 − log(1 + d²/ε²) / log(1 + d_far²/ε²)  +  w exp(−ρ) ] / (1 + w)

d is the cube's distance from the goal, ρ the robot's from the cube, both in metres and between
centres. The logarithm is long-ranged and still steep close to the goal. Both terms are of the state
alone, so nothing is earned by moving to and fro. Standing beside the cube earns w exp(−ρ), which
whoever pushes it earns too, so bringing it in is better from any start (docs/push_cube.md has the
numbers; a test plays them).

r ≥ 0, because a fall ends the episode: whoever falls earns nothing from then on, which never beats
going on, whatever the discount. A cost for falling would have had to outweigh the worst rest of an
episode. For the same reason `terminate_on_success=True` is not for training here: it would pay to
wait in front of the goal.
"""

import math

import numpy as np
from jaxtyping import Float

SHARP, FAR = 0.15, 4.0
"""ε and d_far: where the reward flattens, and what no cube within the walls is beyond."""

NEAR_WEIGHT = 0.2
"""w, what standing at the cube's centre would be worth; at its side it is half of that."""

SCALE = 3.0
"""Metres from the goal at which progress is 0."""

SUCCESS = 0.9
"""Progress that a success is beyond: the cube within 0.3 m of the goal."""

_NORM = math.log1p((FAR / SHARP) ** 2)


def progress(state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n"]:
    """1 with the cube on the goal's centre, falling off by a third a metre."""
    distance = np.hypot(state[..., 3], state[..., 4])
    return np.asarray(np.maximum(0.0, 1 - distance / SCALE))


def reward(
    state: Float[np.ndarray, "*n s"],
    action: Float[np.ndarray, "*n a=3"],
    next_state: Float[np.ndarray, "*n s"],
) -> Float[np.ndarray, "*n"]:
    """r(s, a, s′), which here depends on s′ alone."""
    cube = next_state[..., 3:5]
    task = 1 - np.log1p(np.square(cube).sum(-1) / SHARP**2) / _NORM
    apart = np.sqrt(np.square(next_state[..., :2] - cube).sum(-1))
    earned = (task + NEAR_WEIGHT * np.exp(-apart)) / (1 + NEAR_WEIGHT)
    return np.asarray(np.maximum(earned, 0.0))
