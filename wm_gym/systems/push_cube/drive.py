"""How to walk and push, told as actions: what all who drive the robot have in common."""

import math

import numpy as np
from jaxtyping import Float

from wm_gym.systems.push_cube.model import HALF

BEHIND = 0.62
"""Metres from the cube's centre to where the robot stands to push it."""

ROUND = 0.88
"""Metres from the cube's centre on the way around it."""

_WALL = HALF - 0.4
"""Nearer to a wall the robot does not stand in."""

Point = tuple[float, float]


def wrapped(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


def inside(point: Point, edge: float = _WALL) -> Point:
    return min(max(point[0], -edge), edge), min(max(point[1], -edge), edge)


def along(start: Point, angle: float, length: float) -> Point:
    return start[0] + length * math.cos(angle), start[1] + length * math.sin(angle)


def bearing(start: Point, end: Point) -> float:
    return math.atan2(end[1] - start[1], end[0] - start[0])


def robot_of(state: Float[np.ndarray, "s"]) -> tuple[Point, float]:
    """Where it is, and where it looks."""
    x, y, yaw = state[:3].tolist()
    return (x, y), yaw


def cube_of(state: Float[np.ndarray, "s"]) -> Point:
    x, y = state[3:5].tolist()
    return x, y


def turn(state: Float[np.ndarray, "s"], heading: float) -> Float[np.ndarray, "3"]:
    """On the spot."""
    _, yaw = robot_of(state)
    return np.array([0.0, 0.0, _within(1.8 * wrapped(heading - yaw))])


def walk(
    state: Float[np.ndarray, "s"], goal: Point, heading: float | None = None, speed: float = 1.0
) -> Float[np.ndarray, "3"]:
    """Straight to a point: looking ahead on the way, or, close to it, as it shall stand there."""
    here, yaw = robot_of(state)
    distance, way = math.dist(here, goal), bearing(here, goal)
    if distance < 0.45 and heading is not None:
        off = wrapped(way - yaw)
        ahead, aside = distance * math.cos(off), distance * math.sin(off)
        return np.array(
            [_within(2.0 * ahead, speed), _within(3.5 * aside, speed),
             _within(1.8 * wrapped(heading - yaw))]
        )  # fmt: skip
    off = wrapped(way - yaw)
    pace = max(0.0, math.cos(off)) if abs(off) < 1.1 else 0.0
    return np.array([speed * pace * _within(1.5 * distance + 0.2), 0.0, _within(1.8 * off)])


def walk_round(
    state: Float[np.ndarray, "s"], goal: Point, heading: float | None = None, speed: float = 1.0
) -> Float[np.ndarray, "3"]:
    """To a point, around the cube where that is in the way."""
    here, _ = robot_of(state)
    cube = cube_of(state)
    if _clear(here, goal, cube):
        return walk(state, goal, heading, speed)
    now, left = bearing(cube, here), wrapped(bearing(cube, goal) - bearing(cube, here))
    ways = sorted((left, left - math.copysign(2 * math.pi, left)), key=abs)
    way = next((each for each in ways if _fits(cube, now, each)), left)
    step = math.copysign(min(abs(way), _STEP), way)
    return walk(state, inside(along(cube, now + step, ROUND)), None, speed)


_STEP = math.radians(50)
_TIGHT = 0.58
"""Metres from the cube's centre in which the robot still passes it."""


def _fits(cube: Point, start: float, way: float) -> bool:
    """Whether walls leave room to go so far around the cube."""
    stops = [along(cube, start + way * share, ROUND) for share in np.linspace(0, 1, 9)[1:]]
    return all(math.dist(inside(stop), cube) > _TIGHT for stop in stops)


def push(
    state: Float[np.ndarray, "s"], direction: float, speed: float = 0.75
) -> Float[np.ndarray, "3"]:
    """Ahead, with the cube before the middle of the bumper."""
    here, yaw = robot_of(state)
    cube = cube_of(state)
    off = wrapped(bearing(cube, here) - direction)
    aside = math.dist(cube, here) * math.sin(off)
    return np.array([speed, _within(-2.5 * aside), _within(2.0 * wrapped(direction - yaw))])


def is_behind(state: Float[np.ndarray, "s"], direction: float, *, strict: bool) -> bool:
    """Whether the robot stands so that walking ahead pushes the cube in this direction."""
    here, yaw = robot_of(state)
    cube = cube_of(state)
    distance, off = math.dist(cube, here), wrapped(bearing(here, cube) - direction)
    aside = abs(distance * math.sin(off))
    turned = abs(wrapped(direction - yaw))
    if strict:
        return math.cos(off) > 0 and distance < 1.1 and aside < 0.10 and turned < 0.30
    return math.cos(off) > 0 and distance < 1.3 and aside < 0.2 and turned < 0.6


def _clear(start: Point, end: Point, cube: Point) -> bool:
    """Whether the way keeps off the cube; its end may be close to it."""
    length = math.dist(start, end)
    if length < 1e-6:
        return True
    ux, uy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    ahead = (cube[0] - start[0]) * ux + (cube[1] - start[1]) * uy
    nearest = min(max(ahead, 0.0), length)
    gap = math.dist((start[0] + nearest * ux, start[1] + nearest * uy), cube)
    return gap > min(0.62, math.dist(start, cube) - 0.02, math.dist(end, cube) - 0.02)


def _within(value: float, most: float = 1.0) -> float:
    return min(max(value, -most), most)
