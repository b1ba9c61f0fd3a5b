"""Play: what a world model learns from. Nobody here tries to solve the task for long.

Every behaviour draws for each episode how quick it is and how shaken its actions are.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from wm_gym.systems.push_cube.drive import (
    BEHIND,
    ROUND,
    along,
    bearing,
    cube_of,
    inside,
    is_behind,
    push,
    robot_of,
    turn,
    walk,
    walk_round,
    wrapped,
)
from wm_gym.systems.push_cube.expert import push_direction
from wm_gym.systems.push_cube.starts import draw_start
from wm_gym.systems.registry import Behaviour, Pilot
from wm_gym.types import Info

Run: TypeAlias = Generator[np.ndarray, Info, Info]
"""Yields actions, is sent `info`, returns the last."""

_STRENGTH = np.array([0.45, 0.35, 0.45])
_NEAR_GOAL = 1.3
"""Metres from the goal, along either side, at which a cube that is to be pushed there may begin."""


@dataclass(frozen=True, kw_only=True)
class _Hand:
    """How an episode is driven."""

    rng: np.random.Generator
    shaken: float
    speed: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "_Hand":
        return cls(rng=rng, shaken=rng.choice([0.0, 0.15, 0.3, 0.6]), speed=rng.uniform(0.5, 1.0))

    def perform(self, run: Run) -> Pilot:
        """The same run at this speed, with noise of some persistence on its actions."""
        drift = np.zeros(3)
        action = next(run)
        while True:
            drift = 0.8 * drift + 0.6 * self.rng.normal(size=3)
            told = (
                np.array([self.speed, self.speed, 1.0]) * action + self.shaken * _STRENGTH * drift
            )
            info = yield np.clip(told, -1, 1)
            action = run.send(info)


def _driven(run: Callable[[_Hand, Info], Run]) -> Behaviour:
    """From anywhere, by a hand that is drawn anew for each episode."""

    def behaviour(rng: np.random.Generator) -> Pilot:
        hand = _Hand.drawn(rng)
        info = yield None
        yield from hand.perform(run(hand, info))

    return behaviour


def wander(rng: np.random.Generator) -> Pilot:
    """Walks about, mostly ahead, and hits upon the cube by chance."""
    keep, strength = rng.uniform(0.6, 0.95), rng.uniform(0.4, 1.3)
    ahead, drift = rng.uniform(0.0, 0.6), rng.normal(size=3)
    yield None
    while True:
        drift = keep * drift + math.sqrt(1 - keep**2) * rng.normal(size=3)
        yield np.tanh(strength * drift + np.array([ahead, 0.0, 0.0]))


def _look_about(hand: _Hand, info: Info) -> Run:
    """Looks at the cube, away for 1 to 12 s, and at it again."""
    rng = hand.rng
    while True:
        cube = cube_of(info["state"])
        if rng.random() < 0.3:  # from somewhere else
            spot = inside(along(cube, rng.uniform(-math.pi, math.pi), rng.uniform(0.9, 2.5)))
            info = yield from _go(info, spot, int(rng.integers(5, 25)))
        info = yield from _face(info, 0.0, rng.uniform(-0.5, 0.5), int(rng.integers(8, 25)))
        away = rng.choice([-1, 1]) * rng.uniform(1.5, math.pi)
        steps, idle = int(rng.integers(5, 60)), _idle(rng)
        info = yield from _face(info, away, 0.0, 12)
        for _ in range(steps):
            off = wrapped(_to_cube(info) - robot_of(info["state"])[1])
            back = turn(info["state"], _to_cube(info) + away) if abs(off) < 1.2 else idle
            info = yield back
        info = yield from _face(info, 0.0, rng.uniform(-0.4, 0.4), int(rng.integers(10, 20)))


def _idle(rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """What is done meanwhile: standing, turning a little, walking."""
    choices = ([0, 0, 0], [0, 0, 0.3], [0, 0, -0.3], [0.6, 0, 0], [-0.5, 0, 0], [0, 0.7, 0])
    return np.array(choices[rng.integers(len(choices))], np.float64)


def _push_about(hand: _Hand, info: Info) -> Run:
    """Pushes the cube from all sides, wherever that leads."""
    rng = hand.rng
    while True:
        cube = cube_of(info["state"])
        direction = rng.uniform(-math.pi, math.pi)
        if along(cube, direction, 0.5) != inside(along(cube, direction, 0.5)):
            direction = bearing(cube, (0.0, 0.0)) + rng.uniform(-1, 1)  # off a wall again
        info = yield from _push(info, direction, int(rng.integers(8, 45)), rng.uniform(0.4, 0.9))
        if rng.random() < 0.3:
            info = yield from _back(rng, info)


def push_to_goal(rng: np.random.Generator) -> Pilot:
    """Begins close to the goal more often than not; pushes the cube there, about, or past it."""
    hand = _Hand.drawn(rng)
    near = rng.random() < 0.6
    info = yield (draw_start(rng, within=_NEAR_GOAL) if near else None)
    yield from hand.perform(_push_to_goal(hand, info))


def _push_to_goal(hand: _Hand, info: Info) -> Run:
    rng = hand.rng
    while True:
        aim = (float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25)))
        cube = cube_of(info["state"])
        if math.dist(aim, cube) < 0.15:
            direction = rng.uniform(-math.pi, math.pi)
            info = yield from _push(info, direction, int(rng.integers(5, 20)), 0.5)
            continue
        direction = push_direction(cube, aim) + rng.normal(0, 0.1)
        steps = math.ceil(math.dist(aim, cube) / 0.1) + int(rng.integers(0, 6))
        info = yield from _push(info, direction, steps, rng.uniform(0.4, 0.8))
        if rng.random() < 0.4:
            info = yield from _back(rng, info)


def _miss(hand: _Hand, info: Info) -> Run:
    """Makes for the cube and passes it by, close or closer, then turns around."""
    rng = hand.rng
    while True:
        here, _ = robot_of(info["state"])
        cube = cube_of(info["state"])
        side = rng.choice([-1, 1]) * rng.uniform(0.25, 0.8)
        way = bearing(here, cube)
        by = along(cube, way + math.pi / 2, side)
        beyond = inside(along(by, way, rng.uniform(0.5, 1.5)))
        info = yield from _face(info, 0.0, 0.0, 10)
        info = yield from _go(info, inside(by), 30)
        info = yield from _go(info, beyond, 20)
        if rng.random() < 0.5:
            info = yield from _face(info, 0.0, rng.uniform(-0.5, 0.5), 15)
        else:
            spot = (float(rng.uniform(-2.2, 2.2)), float(rng.uniform(-2.2, 2.2)))
            info = yield from _go_round(info, spot, 40)


def _back_off(hand: _Hand, info: Info) -> Run:
    """Goes up to the cube, touches it or not, and walks backwards, looking at it, or into it."""
    rng = hand.rng
    while True:
        info = yield from _face(info, 0.0, 0.0, 12)
        for _ in range(rng.integers(10, 30)):
            state = info["state"]
            near = math.dist(robot_of(state)[0], cube_of(state))
            if near < 0.7 and rng.random() < 0.3:
                break
            info = yield walk(state, cube_of(state))
        info = yield from _back(rng, info)
        if rng.random() < 0.3:  # backwards into it, unseen
            info = yield from _face(info, math.pi, 0.0, 15)
            info = yield from _back(rng, info)
        spot = along(cube_of(info["state"]), rng.uniform(-math.pi, math.pi), ROUND)
        info = yield from _go_round(info, inside(spot), int(rng.integers(5, 30)))


def _push(info: Info, direction: float, steps: int, speed: float) -> Run:
    """Get behind the cube and push it this far; gives up on the way there after a while."""
    for _ in range(45):
        state = info["state"]
        if is_behind(state, direction, strict=True):
            break
        stand = inside(along(cube_of(state), direction + math.pi, BEHIND))
        info = yield walk_round(state, stand, direction)
    for _ in range(steps):
        state = info["state"]
        if not is_behind(state, direction, strict=False):
            break
        info = yield push(state, direction, speed)
    return info


def _back(rng: np.random.Generator, info: Info) -> Run:
    pace, bend = rng.uniform(0.3, 0.9), rng.uniform(-0.3, 0.3)
    for _ in range(rng.integers(4, 18)):
        info = yield np.array([-pace, 0.0, bend])
    return info


def _go(info: Info, spot: tuple[float, float], patience: int) -> Run:
    for _ in range(patience):
        if math.dist(robot_of(info["state"])[0], spot) < 0.2:
            break
        info = yield walk(info["state"], spot)
    return info


def _go_round(info: Info, spot: tuple[float, float], patience: int) -> Run:
    for _ in range(patience):
        if math.dist(robot_of(info["state"])[0], spot) < 0.2:
            break
        info = yield walk_round(info["state"], spot)
    return info


def _face(info: Info, off: float, slack: float, patience: int) -> Run:
    """Turn until the cube is this far to the right, and a little more or less."""
    for _ in range(patience):
        heading = _to_cube(info) + off + slack
        if abs(wrapped(heading - robot_of(info["state"])[1])) < 0.15:
            break
        info = yield turn(info["state"], heading)
    return info


def _to_cube(info: Info) -> float:
    """Its bearing."""
    return bearing(robot_of(info["state"])[0], cube_of(info["state"]))


BEHAVIOURS = {
    "wander": wander,
    "look_about": _driven(_look_about),
    "push": _driven(_push_about),
    "push_to_goal": push_to_goal,
    "miss": _driven(_miss),
    "back_off": _driven(_back_off),
}

SHARES = {
    "wander": 0.12,
    "look_about": 0.20,
    "push": 0.24,
    "push_to_goal": 0.24,
    "miss": 0.10,
    "back_off": 0.10,
}
"""Of play."""
