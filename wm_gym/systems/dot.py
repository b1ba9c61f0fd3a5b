"""Dot, the smallest complete system: a disc that is moved and grown onto a ring.

It is here to be read before writing a system of one's own, and to hold the rest of the package to
what Push-T does not exercise: another picture, another action, a context of 96 frames.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from wm_gym.systems.behaviours import noisy, smooth
from wm_gym.systems.registry import System, Tool
from wm_gym.systems.task import Task

HEIGHT, WIDTH = 48, 64
GOAL = np.array([44.0, 16.0, 9.0])
"""x, y, radius."""

SPEED = np.array([4.0, 4.0, 1.0])
"""Pixels that an action of 1 moves or grows the disc."""

LOW, HIGH = np.array([0.0, 0.0, 3.0]), np.array([WIDTH, HEIGHT, 12.0])

_PIXEL_Y, _PIXEL_X = np.mgrid[:HEIGHT, :WIDTH] + 0.5


def progress(state: Float[np.ndarray, "*n s=3"]) -> Float[np.ndarray, "*n"]:
    """1 at the goal, falling off over about 10 px."""
    return np.asarray(np.exp(-np.square(state - GOAL).sum(-1) / 100.0))


def reward(
    state: Float[np.ndarray, "*n s=3"],
    action: Float[np.ndarray, "*n a=3"],
    next_state: Float[np.ndarray, "*n s=3"],
) -> Float[np.ndarray, "*n"]:
    return np.asarray(-np.sqrt(np.square(next_state - GOAL).sum(-1)) / WIDTH)


def proprioception(state: Float[np.ndarray, "*n s=3"]) -> Float[np.ndarray, "*n p=2"]:
    """Where it is, in pixels."""
    return state[..., :2]


def disc(x: float, y: float, radius: float) -> Bool[np.ndarray, "h w"]:
    return np.square(_PIXEL_X - x) + np.square(_PIXEL_Y - y) < radius**2


class Dot:
    contact = False

    def start(self, rng: np.random.Generator) -> None:
        self.place(rng.uniform(LOW, HIGH))

    def place(self, state: Float[np.ndarray, "s=3"]) -> None:
        self._state, self.contact = np.clip(state, LOW, HIGH), False

    def advance(self, action: Float[np.ndarray, "a=3"]) -> None:
        moved = self._state + SPEED * action
        self._state = np.clip(moved, LOW, HIGH)
        self.contact = bool((moved[:2] != self._state[:2]).any())  # it ran into a wall

    def state(self) -> Float[np.ndarray, "s=3"]:
        return self._state.copy()

    def frame(self) -> UInt8[np.ndarray, "h=48 w=64 c=3"]:
        frame = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        x, y, radius = GOAL
        frame[disc(x, y, radius + 1) & ~disc(x, y, radius - 1)] = (90, 200, 90)
        frame[disc(*self._state)] = (40, 60, 200)
        return frame

    def picture(self) -> UInt8[np.ndarray, "h=384 w=512 c=3"]:
        return np.kron(self.frame(), np.ones((8, 8, 1), np.uint8))

    def snapshot(self) -> tuple[float, ...]:
        return tuple(self._state)

    def restore(self, snapshot: tuple[float, ...]) -> None:
        self.place(np.array(snapshot))


DOT = System(
    name="Dot",
    simulators={"Real-Dot-v0": "wm_gym.systems.dot:Dot"},
    frame_shape=(HEIGHT, WIDTH, 3),
    action_size=3,
    state_names=("x", "y", "radius"),
    state_low=tuple(LOW),
    state_high=tuple(HIGH),
    reward=reward,
    progress=progress,
    proprioception=proprioception,
    proprio_names=("x", "y"),
    fps=10,
    context=96,
    horizon=120,
    success_threshold=0.9,
    tasks=(Task("ring", "Move the disc onto the ring."),),
    behaviours={"smooth": smooth(3), "noisy": noisy(3)},
    play={"smooth": 0.5, "noisy": 0.5},
    tool=Tool(position=("x", "y"), board=(64.0, 48.0), reach=4.0),
)
