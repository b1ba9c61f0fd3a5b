"""Pushes: where the tool can touch the T, how it gets there, and roughly what a push does.

A push is a contact on the T's outline and a direction, both in the block's frame, and a length. The
tool first goes around the T to stand off the contact, then through it.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from wm_gym.systems.pusht.geometry import BOARD, CENTRE, GOAL, TOOL_RADIUS
from wm_gym.systems.pusht.simulator import REACH
from wm_gym.types import Info

STAND_OFF = TOOL_RADIUS + 8.0
"""How far from the outline the tool waits before it pushes."""

CLEAR = TOOL_RADIUS + 4.0
"""How near to the outline the tool may pass on its way."""

ARM = 45.0
"""Board pixels at which turning by an angle moves the outline about as far as translating does."""

_GAIN = 1 / (0.6 * REACH)  # a step covers some 60 % of the way to its target
_MARGIN = 18.0

Point: TypeAlias = tuple[float, float]
Run: TypeAlias = Generator[np.ndarray, Info, Info]
"""Yields actions, is sent `info`, returns the last."""

_OUTLINE: list[Point] = [
    (-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (15.0, 30.0),
    (15.0, 120.0), (-15.0, 120.0), (-15.0, 30.0), (-60.0, 30.0),
]  # fmt: skip
_RECTANGLES = ((-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0))
_LENGTHS = [math.dist(a, b) for a, b in zip(_OUTLINE, [*_OUTLINE[1:], _OUTLINE[0]], strict=True)]
_WAY_ROUND: list[Point] = [
    (-84.0, -24.0), (84.0, -24.0), (84.0, 54.0), (39.0, 100.0),
    (39.0, 144.0), (-39.0, 144.0), (-39.0, 100.0), (-84.0, 54.0),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    contact: Point
    normal: Point
    """Outward, of the outline at the contact."""
    direction: Point
    length: float


def random_push(rng: np.random.Generator, length: float) -> Push:
    """From any side: a contact uniform along the outline, a direction within 45° of straight in."""
    at = rng.uniform(0, sum(_LENGTHS))
    edge = 0
    while at > _LENGTHS[edge]:
        at -= _LENGTHS[edge]
        edge += 1
    (ax, ay), (bx, by) = _OUTLINE[edge], _OUTLINE[(edge + 1) % len(_OUTLINE)]
    ux, uy = (bx - ax) / _LENGTHS[edge], (by - ay) / _LENGTHS[edge]
    turn = rng.uniform(-math.pi / 4, math.pi / 4)
    cos, sin = math.cos(turn), math.sin(turn)
    inward = -uy, ux
    return Push(
        contact=(ax + at * ux, ay + at * uy),
        normal=(uy, -ux),
        direction=(cos * inward[0] - sin * inward[1], sin * inward[0] + cos * inward[1]),
        length=length,
    )


def aim(push: Push, pose: Float[np.ndarray, "3"]) -> float:
    """How well a push's rough effect lines up with the way to the goal, −1 to 1.

    Rough effect: the block moves along the direction and turns by its lever about the centre.
    """
    lever = (push.contact[0] - CENTRE[0]) * push.direction[1]
    lever -= (push.contact[1] - CENTRE[1]) * push.direction[0]
    effect = (*push.direction, lever / ARM)
    want = error(pose)
    norm = math.hypot(*want) * math.hypot(*effect)
    return sum(a * b for a, b in zip(want, effect, strict=True)) / max(norm, 1e-9)


def way(push: Push, state: Float[np.ndarray, "s=7"]) -> float:
    """How far the tool is from the contact."""
    return math.dist(_to_block((float(state[0]), float(state[1])), state[2:5]), push.contact)


def error(pose: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    """What is left to the goal, in the block's frame: centre x, y and ARM · angle."""
    x, y, angle = map(float, pose)
    dx = GOAL[0] + _turned(CENTRE, GOAL[2])[0] - x - _turned(CENTRE, angle)[0]
    dy = GOAL[1] + _turned(CENTRE, GOAL[2])[1] - y - _turned(CENTRE, angle)[1]
    turn = math.remainder(GOAL[2] - angle, 2 * math.pi)
    return (*_turned((dx, dy), -angle), ARM * turn)


def perform(push: Push, info: Info, *, speed: float, patience: int = 25) -> Run:
    """Go there and push; gives up on the way after `patience` steps. Returns the last `info`."""
    stand = _along(push.contact, push.normal, STAND_OFF)
    for _ in range(patience):
        tool, pose = _tool(info), info["state"][2:5]
        here = _to_block(tool, pose)
        if math.dist(here, stand) < 8:
            break
        info = yield _towards(tool, _to_board(_next_stop(here, stand), pose), 1.0)
    else:
        return info
    # through the contact, along a line that stays where it is on the board
    start = _to_board(_along(push.contact, push.normal, TOOL_RADIUS), info["state"][2:5])
    end = _along(start, _turned(push.direction, info["state"][4]), push.length)
    for _ in range(2 + math.ceil(push.length / (20 * speed))):
        tool = _tool(info)
        if math.dist(tool, end) < 2:
            break
        info = yield _towards(tool, end, speed)
    return info


def _tool(info: Info) -> Point:
    x, y = info["state"][:2].tolist()
    return x, y


def _next_stop(here: Point, goal: Point) -> Point:
    """Where to head for, in the block's frame: straight for the goal, or around the T."""
    if _free(here, goal):
        return goal
    n = len(_WAY_ROUND)
    last = min(range(n), key=lambda i: math.dist(_WAY_ROUND[i], goal))
    routes = []
    for first in range(n):
        if not _free(here, _WAY_ROUND[first]):
            continue
        for way in (1, -1):
            stops = [
                _WAY_ROUND[(first + way * k) % n] for k in range((way * (last - first)) % n + 1)
            ]
            length = sum(
                math.dist(a, b) for a, b in zip([here, *stops], [*stops, goal], strict=True)
            )
            routes.append((length, stops))
    if not routes:  # squeezed against the T: step straight away from it
        return _along(here, (here[0] - CENTRE[0], here[1] - CENTRE[1]), 1.0)
    stops = min(routes)[1]
    seen = [stop for stop in stops if _free(here, stop)]
    return seen[-1]


def _free(a: Point, b: Point) -> bool:
    return not any(_crosses(a, b, rectangle) for rectangle in _RECTANGLES)


def _crosses(a: Point, b: Point, rectangle: tuple[float, float, float, float]) -> bool:
    """Whether a segment enters the rectangle, widened by CLEAR (Liang & Barsky 1984)."""
    low, high = 0.0, 1.0
    for axis in (0, 1):
        start, way = a[axis], b[axis] - a[axis]
        near, far = rectangle[axis] - CLEAR - start, rectangle[axis + 2] + CLEAR - start
        if abs(way) < 1e-12:
            if near > 0 or far < 0:
                return False
            continue
        enter, leave = near / way, far / way
        if enter > leave:
            enter, leave = leave, enter
        low, high = max(low, enter), min(high, leave)
        if low > high:
            return False
    return True


def _towards(tool: Point, goal: Point, speed: float) -> np.ndarray:
    """An action of at most this size towards a point that is kept inside the walls."""
    x = min(max(goal[0], _MARGIN), BOARD - _MARGIN) - tool[0]
    y = min(max(goal[1], _MARGIN), BOARD - _MARGIN) - tool[1]
    size = math.hypot(x, y) * _GAIN
    scale = _GAIN * min(1.0, speed / max(size, 1e-9))
    return np.array([x * scale, y * scale])


def _along(point: Point, direction: Point, length: float) -> Point:
    return point[0] + length * direction[0], point[1] + length * direction[1]


def _turned(point: Point | Float[np.ndarray, "2"], angle: float) -> Point:
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = float(point[0]), float(point[1])
    return cos * x - sin * y, sin * x + cos * y


def _to_board(point: Point, pose: Float[np.ndarray, "3"]) -> Point:
    x, y = _turned(point, float(pose[2]))
    return x + float(pose[0]), y + float(pose[1])


def _to_block(point: Point, pose: Float[np.ndarray, "3"]) -> Point:
    return _turned((point[0] - float(pose[0]), point[1] - float(pose[1])), -float(pose[2]))
