"""Where episodes begin."""

import math

import numpy as np
from jaxtyping import Float

from wm_gym.systems.push_cube import state
from wm_gym.systems.push_cube.model import CUBE_SIDE

START = 2.2
"""Robot and cube begin at most this far from the middle, along either side."""

APART, FROM_GOAL = 0.8, 0.6
"""Metres between robot and cube, and between cube and goal, at least."""

SPREAD = np.array([0.15, 0.10, 0.10])
"""How far friction of cube and feet, and the mass, may be from their nominal values, as a share."""


def draw_start(
    rng: np.random.Generator, *, noise: bool = True, within: float = START
) -> Float[np.ndarray, "s"]:
    """A robot anywhere and a cube within these bounds, clear of one another; friction and mass are
    near the nominal ones. The robot is put down, and has yet to take its weight."""
    told = np.zeros(len(state.NAMES))
    told[state.POSE] = *rng.uniform(-START, START, 2), rng.uniform(-math.pi, math.pi)
    while True:
        cube = rng.uniform(-within, within, 2)
        if math.dist(cube, told[:2]) >= APART and math.hypot(*cube) >= FROM_GOAL:
            break
    told[state.CUBE_POSE] = *cube, rng.uniform(-math.pi / 4, math.pi / 4)
    told[state.HEIGHT], told[state.CUBE_HEIGHT] = 0.325, CUBE_SIDE / 2
    told[state.ANGLES] = state.STANDING
    spread = rng.uniform(-SPREAD, SPREAD)
    told[state.DRAWN] = state.NOMINAL * (1 + spread * noise)
    return told
