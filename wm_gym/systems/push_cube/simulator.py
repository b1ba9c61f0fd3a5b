"""`Real-PushCube-v0`: a Go2 in MuJoCo behind the simulator protocol."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.systems.push_cube import state
from wm_gym.systems.push_cube.camera import shared_camera
from wm_gym.systems.push_cube.physics import NOISES, TICKS, shared
from wm_gym.systems.push_cube.starts import draw_start

_SETTLING = 15
"""Ticks of the gait with a command of 0, in which a robot that was put down comes to stand."""


class PushCube:
    def __init__(self, *, noise: bool = True) -> None:
        self.noise = noise
        self.contact = False
        shared()  # says at once what is not installed
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
