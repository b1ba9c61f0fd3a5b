"""An expert: knows the true state, and brings the cube in.

It serves imitation, tests and a bound on what can be reached; no world model behind a headline is
trained on what it does.
"""

import math

import numpy as np
from jaxtyping import Float

from wm_gym.systems.push_cube.drive import (
    BEHIND,
    Point,
    along,
    bearing,
    cube_of,
    inside,
    is_behind,
    push,
    robot_of,
    walk_round,
)
from wm_gym.systems.registry import Pilot

THERE = 0.12
"""Metres from the goal at which the cube is left alone."""

_ASIDE = tuple(math.radians(each) for each in (0, 15, -15, 30, -30, 45, -45, 60, -60, 75, -75))


def expert(rng: np.random.Generator) -> Pilot:
    info = yield None
    pushing = False
    while True:
        state = info["state"]
        cube = cube_of(state)
        if math.hypot(*cube) < THERE:
            pushing = False
            info = yield _leave(state)
            continue
        direction = push_direction(cube, (0.0, 0.0))
        pushing = is_behind(state, direction, strict=not pushing)
        if pushing:
            speed = 0.45 if math.hypot(*cube) < 0.4 else 0.75
            info = yield push(state, direction, speed)
        else:
            info = yield walk_round(state, along(cube, direction + math.pi, BEHIND), direction)


def push_direction(cube: Point, goal: Point) -> float:
    """Straight to the goal, or as nearly so as a wall leaves room behind the cube."""
    straight = bearing(cube, goal)
    for aside in _ASIDE:
        stand = along(cube, straight + aside + math.pi, BEHIND)
        if stand == inside(stand):
            return straight + aside
    return straight


def _leave(state: Float[np.ndarray, "s"]) -> Float[np.ndarray, "3"]:
    here, _ = robot_of(state)
    away = math.dist(here, cube_of(state))
    return np.array([-0.5, 0.0, 0.0]) if away < 0.8 else np.zeros(3)
