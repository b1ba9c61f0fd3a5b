"""A toy for dreams with memory: a camera turns on the spot, and sees a red bar or does not.

State: where it looks, and where the bar is, in radians. Its turns are a little noisy.
"""

import math

import numpy as np

from wm_gym.systems import System, Task, register_system
from wm_gym.systems.behaviours import smooth
from wm_gym.systems.scenarios import Scenario

SIDE, VIEW, TURN, NOISE = 48, math.pi / 4, 0.3, 0.02
_COLUMNS = (np.arange(SIDE) + 0.5) / SIDE * 2 * VIEW - VIEW
_BACKGROUND = np.full((SIDE, SIDE, 3), 60, np.uint8)
_BACKGROUND[::6] = 200
_BACKGROUND[:, ::8] = (40, 160, 200)


def wrapped(angle):
    return np.remainder(angle + np.pi, 2 * np.pi) - np.pi


def bearing(state):
    """Of the bar, to the right of the middle of the picture."""
    return wrapped(state[..., 1] - state[..., 0])


def drawn(off):
    frame = _BACKGROUND.copy()
    bar = np.abs(_COLUMNS - off) < 0.12
    frame[8:40, bar] = (230, 50, 25)
    return frame


def red(frames):
    return (frames[..., 0] > 150) & (frames[..., 1] < 100) & (frames[..., 2] < 100)


class Carousel:
    contact = False

    def __init__(self):
        self._rng = np.random.default_rng(0)

    def start(self, rng):
        self.place(np.array([rng.uniform(-3, 3), rng.uniform(-3, 3)]))

    def place(self, state):
        self._state, self._rng = np.array(state, np.float64), np.random.default_rng(0)

    def seed_noise(self, rng):
        self._rng = np.random.default_rng(rng.integers(2**63))

    def advance(self, action):
        turned = TURN * float(action[0]) + NOISE * self._rng.normal()
        self._state = np.array([wrapped(self._state[0] + turned), self._state[1]])

    def state(self):
        return self._state.copy()

    def frame(self):
        return drawn(bearing(self._state))

    def picture(self):
        return self.frame()

    def snapshot(self):
        return self._state.copy(), self._rng.bit_generator.state

    def restore(self, snapshot):
        self.place(snapshot[0])
        self._rng.bit_generator.state = snapshot[1]


def reward(state, action, next_state):
    return -np.abs(bearing(next_state))


# What its scenarios are


def _seen(recorder, rng):
    """Turns to the bar, and a little about it."""
    recorder.start(rng)
    for _ in range(30):
        off = float(bearing(recorder.state))
        recorder.act(np.array([np.clip(off / TURN + rng.normal(0, 0.3), -1, 1)]))
        if len(recorder) >= 6 and abs(off) < 0.5 and red(recorder.frame).sum() > 100:
            return True
    return False


def away(recorder, rng, case):
    steps = (4, 8)[case % 2]
    if not _seen(recorder, rng):
        return None
    shown = len(recorder)
    for _ in range(3 + steps // 2):
        recorder.act(np.array([1.0]))
    for _ in range(3 + steps // 2):
        recorder.act(np.array([-0.9]))
    if red(recorder.frame).sum() < 100:
        return None
    absent = sum(red(frame).sum() == 0 for frame in recorder.frames[shown:])
    return (recorder.take(f"back, {steps}", shown=shown, absent=float(absent)),)


def choices(recorder, rng, case):
    if not _seen(recorder, rng):
        return None
    moment, shown = recorder.moment(), len(recorder)
    takes = []
    for name, turn in {"left": -0.8, "stay": 0.0, "right": 0.8}.items():
        recorder.back(moment, rng)
        for _ in range(4):
            recorder.act(np.array([turn]))
        quiet = -float(np.abs(wrapped(bearing(recorder.states[shown - 1]) - TURN * turn
                                      * np.arange(1, 5))).sum())  # fmt: skip
        takes.append(recorder.take(name, shown=shown, most=5, without_noise=quiet))
    return tuple(takes)


def floor(recorder, rng, case):
    if not _seen(recorder, rng):
        return None
    moment, shown = recorder.moment(), len(recorder)
    actions = rng.uniform(-0.5, 0.5, (15, 1))
    takes = []
    for name in ("logged", "again"):
        recorder.back(moment, rng)
        for action in actions:
            recorder.act(action)
        takes.append(recorder.take(name, shown=shown, most=5))
    return tuple(takes)


SCENARIOS = {
    "carousel-away": Scenario(
        form="away", stage=away, told=("absent",), groups={"any": ("back, 4", "back, 8")}
    ),
    "carousel-choices": Scenario(form="choices", stage=choices, takes=3, told=("without_noise",)),
    "carousel-floor": Scenario(form="floor", stage=floor, takes=2),
}

# What a network is to read off it

LEARNED_FROM = "carousel-play"
TARGETS = ("bearing",)
WHOLE, UNITS, WRONG = 0.7, {"bearing": "rad"}, ("bearing", 0.2)


def targets(state):
    return np.asarray(bearing(state)[:, None])


def readable(frames):
    return ~hidden(frames)["bearing"][:, None]


def hidden(real):
    return {"bearing": red(real).sum((1, 2)) < 100}


def errors(state, truth):
    ours, its = (s[:, 0] if s.shape[1] == 1 else bearing(s) for s in (state, truth))
    return {"bearing": np.abs(wrapped(ours - its))}


def missing(frames, real):
    area = red(real).sum((1, 2))
    lacks = np.clip(1 - red(frames).sum((1, 2)) / np.maximum(area, 1), 0, 1)
    return np.where(area < 100, np.nan, lacks)


CAROUSEL = System(
    name="Carousel",
    simulators={"Real-Carousel-v0": f"{__name__}:Carousel"},
    frame_shape=(SIDE, SIDE, 3),
    action_size=1,
    state_names=("heading", "bar"),
    state_low=(-4.0, -4.0),
    state_high=(4.0, 4.0),
    reward=reward,
    progress=lambda state: np.exp(-np.abs(bearing(state))),
    fps=5,
    context=5,
    horizon=20,
    success_threshold=0.95,
    tasks=(Task("look", "Look at the bar."),),
    behaviours={"smooth": smooth(1)},
    play={"smooth": 1.0},
    probe=__name__,
    scenarios=__name__,
)
register_system(CAROUSEL)
