"""A noisy world of which every slope is known: a disc that steers, and whose strides are drawn.

    x′ = x + g a₀        y′ = y + g a₁        heading′ = heading + a₁        r = x′ + 3 y′

with a gain g = 1 + n, n drawn at each step from N(0, 0.5²).
"""

import numpy as np

from wm_gym.systems import System, Task, register_system
from wm_gym.systems.behaviours import smooth

SIDE, STRIDE = 48, 0.5
_ROW, _COLUMN = np.mgrid[:SIDE, :SIDE]


def wrapped(angle):
    return np.remainder(angle + np.pi, 2 * np.pi) - np.pi


class NoisyLine:
    contact = False

    def __init__(self):
        self._rng = np.random.default_rng(0)

    def start(self, rng):
        self.place(np.array([*rng.uniform(-1, 1, 2), rng.uniform(-3, 3)]))

    def place(self, state):
        self._state, self._rng = np.array(state, np.float64), np.random.default_rng(0)

    def seed_noise(self, rng):
        self._rng = np.random.default_rng(rng.integers(2**63))

    def advance(self, action):
        gain = 1 + STRIDE * self._rng.normal()
        self.contact = bool(action[0] > 0)
        moved = np.array([gain * action[0], gain * action[1], action[1]])
        self._state = self._state + moved
        self._state[2] = wrapped(self._state[2])

    def state(self):
        return self._state.copy()

    def frame(self):
        middle = SIDE / 2 + 4 * self._state[:2]
        there = np.hypot(_COLUMN - middle[0], _ROW - middle[1]) < 6
        return np.where(there[..., None], (230, 50, 25), (40, 60, 200)).astype(np.uint8)

    def picture(self):
        return self.frame()

    def snapshot(self):
        return self._state.copy(), self._rng.bit_generator.state

    def restore(self, snapshot):
        self.place(snapshot[0])
        self._rng.bit_generator.state = snapshot[1]


def reward(state, action, next_state):
    return next_state[..., 0] + 3 * next_state[..., 1]


def proprioception(state):
    return state[..., :2]


# What its gradients are of

STATE = ("x", "y", "heading")
POSE = {"place": 2, "heading": 1}
PLACES, ANGLE, LEVER = slice(0, 2), (2, 3), 2.0
FITTED = "noisy-line-play"
STATES, DELTAS, NOISES, REPEATED = 4, (0.2,), 2, 1
AIMED = False
WHOLE, UNITS, WRONG = 0.5, {"place": "m"}, ("place", 1.0)


def pose_of(state):
    return np.concatenate([state[..., :2], LEVER * state[..., 2:3]], axis=-1)


def targets(state):
    heading = state[:, 2:3]
    return np.concatenate([state[:, :2], np.cos(heading), np.sin(heading)], axis=1)


def state_read(said, pose):
    return np.concatenate([pose[:, :2], pose[:, 2:] / LEVER], axis=1)


def shown(frames, residual):
    return np.ones((len(frames), 3), np.bool_)


def errors(state, truth):
    return {"place": np.hypot(*(state[:, :2] - truth[:, :2]).T)}


NOISY_LINE = System(
    name="NoisyLine",
    simulators={"Real-NoisyLine-v0": f"{__name__}:NoisyLine"},
    frame_shape=(SIDE, SIDE, 3),
    action_size=2,
    state_names=STATE,
    state_low=(-50.0, -50.0, -4.0),
    state_high=(50.0, 50.0, 4.0),
    reward=reward,
    proprioception=proprioception,
    proprio_names=("x", "y"),
    fps=5,
    context=4,
    horizon=40,
    success_threshold=0.9,
    tasks=(Task("go", "Go ahead."),),
    behaviours={"smooth": smooth(2)},
    play={"smooth": 1.0},
    probe=__name__,
)
register_system(NOISY_LINE)
