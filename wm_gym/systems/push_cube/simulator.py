"""`Real-PushCube-v0`: a Go2 in MuJoCo behind the simulator protocol."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.systems.push_cube import state
from wm_gym.systems.push_cube.camera import shared_camera
from wm_gym.systems.push_cube.model import CUBE_SIDE
from wm_gym.systems.push_cube.physics import NOISES, TICKS, shared

START = 2.2
"""Robot and cube begin at most this far from the middle, along either side."""

APART, FROM_GOAL = 0.8, 0.6
"""Metres between robot and cube, and between cube and goal, at least."""

SPREAD = np.array([0.15, 0.10, 0.10])
"""How far friction of cube and feet, and the mass, may be from their nominal values, as a share."""

_SETTLING = 15
"""Ticks of the gait with a command of 0, in which a robot that was put down comes to stand."""


class PushCube:
    def __init__(self, *, noise: bool = True) -> None:
        self.noise = noise
        self.contact = False
        self._physics, self._camera = shared(), None
        self._state = np.zeros(len(state.NAMES))
        self._rng = np.random.default_rng(0)

    def start(self, rng: np.random.Generator) -> None:
        self.place(draw_start(rng, noise=self.noise))
        self._state, _ = shared().walk(self._state, np.zeros(3), _SETTLING, None)

    def place(self, state: Float[np.ndarray, "s"]) -> None:
        self._state, self.contact = np.array(state, np.float64), False
        self._rng = np.random.default_rng(0)

    def check_state(self, state: Float[np.ndarray, "s"]) -> None:
        shared().check(np.asarray(state, np.float64))

    def seed_noise(self, rng: np.random.Generator) -> None:
        self._rng = np.random.default_rng(rng.integers(2**63))

    def advance(self, action: Float[np.ndarray, "a=3"]) -> None:
        noise = self._rng.standard_normal((TICKS, NOISES)) if self.noise else None
        self._state, self.contact = shared().advance(self._state, np.asarray(action), noise)

    def state(self) -> Float[np.ndarray, "s"]:
        return self._state.copy()

    def frame(self) -> UInt8[np.ndarray, "h=96 w=96 c=3"]:
        return shared_camera().frame(self._state)

    def picture(self) -> UInt8[np.ndarray, "h=480 w=480 c=3"]:
        return shared_camera().picture(self._state)

    def snapshot(self) -> tuple[Float[np.ndarray, "s"], dict[str, Any]]:
        return self._state.copy(), dict(self._rng.bit_generator.state)

    def restore(self, snapshot: tuple[Float[np.ndarray, "s"], dict[str, Any]]) -> None:
        told, noise = snapshot
        rng = np.random.default_rng(0)
        rng.bit_generator.state = noise
        self._state, self._rng, self.contact = np.array(told, np.float64), rng, False


def draw_start(rng: np.random.Generator, *, noise: bool) -> Float[np.ndarray, "s"]:
    """A robot and a cube anywhere, clear of one another; friction and mass near the nominal ones."""
    told = np.zeros(len(state.NAMES))
    told[state.POSE] = *rng.uniform(-START, START, 2), rng.uniform(-math.pi, math.pi)
    while True:
        cube = rng.uniform(-START, START, 2)
        if math.dist(cube, told[:2]) >= APART and math.hypot(*cube) >= FROM_GOAL:
            break
    told[state.CUBE_POSE] = *cube, rng.uniform(-math.pi / 4, math.pi / 4)
    told[state.HEIGHT], told[state.CUBE_HEIGHT] = 0.33, CUBE_SIDE / 2
    told[state.ANGLES] = state.STANDING
    spread = rng.uniform(-SPREAD, SPREAD)
    told[state.DRAWN] = state.NOMINAL * (1 + spread * noise)
    return told
