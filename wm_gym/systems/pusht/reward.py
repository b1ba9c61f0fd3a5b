"""Push-T's shaped reward: one smooth number of the state after the step, at most 0.

    e² = (d / 60)² + 4 (1 − cos Δθ)                       pose error; d between centres of gravity
    r  = −log(1 + e²/ε) / log(1 + e²_far/ε)  −  w (1 − exp(−ρ/150))

The logarithm is long-ranged and still steep within a few pixels of the goal: halving the error pays
the same everywhere until e² ≈ ε (3.8 px or 2.6°). ρ is the tool's distance from the block's centre.
r < 0 everywhere but at the goal with the tool at the block's centre, so each step short of the goal
costs, whatever the discount: parking never pays, and where success ends the episode (0 from then
on) neither does delaying it.
"""

import numpy as np
from jaxtyping import Float

from wm_gym.systems.pusht.geometry import CENTRE, GOAL, to_board

SHARPNESS = 0.004
"""ε, the squared pose error below which the reward flattens."""

FAR = 52.0
"""e²_far, the pose error that costs 1: about 400 px and half a turn."""

TOOL_WEIGHT = 0.1
"""w, what standing far from the block costs."""

_GOAL_CENTRE = to_board(CENTRE[None], GOAL)[0]


def pose_error(pose: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """e², 0 at the goal and of order one at 60 px or 40°."""
    centre = to_board(CENTRE[None], pose)[..., 0, :]
    distance = np.square(centre - _GOAL_CENTRE).sum(-1)
    return np.asarray(distance / 60.0**2 + 4 * (1 - np.cos(pose[..., 2] - GOAL[2])))


def reward(
    state: Float[np.ndarray, "*n s"],
    action: Float[np.ndarray, "*n a=2"],
    next_state: Float[np.ndarray, "*n s"],
) -> Float[np.ndarray, "*n"]:
    """r(s, a, s′), which here depends on s′ alone."""
    pose = next_state[..., 2:5]
    task = np.log1p(pose_error(pose) / SHARPNESS) / np.log1p(FAR / SHARPNESS)
    centre = to_board(CENTRE[None], pose)[..., 0, :]
    reach = np.sqrt(np.square(next_state[..., :2] - centre).sum(-1))
    return np.asarray(-task - TOOL_WEIGHT * (1 - np.exp(-reach / 150.0)))
