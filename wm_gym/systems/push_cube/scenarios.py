"""Scenarios of Push Cube: look away and return, choices, and what the system's noise alone does."""

import math

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.systems.push_cube.drive import bearing, cube_of, robot_of, wrapped
from wm_gym.systems.push_cube.play import BEHAVIOURS, SHARES
from wm_gym.systems.push_cube.reward import reward
from wm_gym.systems.push_cube.simulator import PushCube
from wm_gym.systems.push_cube.view import FEWEST, cube_pixels
from wm_gym.systems.registry import Pilot
from wm_gym.systems.scenarios import Recorder, Scenario, Take

PREFILL = 32
"""Frames that are shown, at least."""

CLEAR = 60
"""Pixels of a cube that is there for everybody to see."""

SECONDS = (1, 3, 6, 12)
_RATE = 5

AWAY = tuple(
    [f"{way}, {seconds} s" for seconds in SECONDS for way in ("back", "round")] * 2
    + [f"inverse, {seconds} s" for seconds in SECONDS]
    + ["pushed unseen"] * 2
)
"""In turn: how long the cube is out of sight before the robot turns to it again, the way it came or
right round; or undoes, action by action, what it did; or walks backwards into it meanwhile."""

STEPS = 15
"""Of a choice."""

MARGIN = 0.15
"""By which the best choice leads the second, in summed reward."""

FLOOR_STEPS = 100

_LOST = 25
"""Steps after which nobody waits any longer."""


def away(recorder: Recorder, rng: np.random.Generator, case: int) -> tuple[Take, ...] | None:
    kind = AWAY[case % len(AWAY)]
    way, _, seconds = kind.partition(", ")
    unseen = way == "pushed unseen"
    if not _look(recorder, rng, near=unseen):
        return None
    shown, before = len(recorder), cube_of(recorder.state)
    _, was = _cube_from(recorder)
    aside = -math.copysign(rng.uniform(0.1, 0.55), was)  # standing still is not to find it
    if unseen:
        done = _push_unseen(recorder, rng, aside)
    else:
        steps = round(_RATE * float(seconds.removesuffix(" s")))
        done = _turn_away(recorder, rng, way, steps, aside)
    moved = math.dist(before, cube_of(recorder.state))
    if not done or _pixels(recorder.frame) <= CLEAR or (moved > 0.15) != unseen:
        return None
    absent = sum(not _in_view(frame) for frame in recorder.frames[shown:])
    return (recorder.take(kind, shown=shown, absent=float(absent)),)


def _look(recorder: Recorder, rng: np.random.Generator, *, near: bool) -> bool:
    """Walks about with an eye on the cube."""
    recorder.start(rng)
    shaken, drift, aside = rng.uniform(0.1, 0.4), np.zeros(3), rng.uniform(-0.4, 0.4)
    distance = 0.8 if near else rng.uniform(0.9, 2.2)
    while len(recorder) < 2 * PREFILL:
        drift = 0.8 * drift + rng.normal(0, 0.4, 3)
        apart, off = _cube_from(recorder)
        wanted = np.array([0.3 * (apart - distance), 0, 1.5 * (off - aside)])
        if not recorder.act(wanted + shaken * drift):
            return False
        seen = sum(_pixels(frame) > CLEAR / 2 for frame in recorder.frames[-16:])
        enough = len(recorder) >= PREFILL and seen >= 8 and (apart < 1.0 or not near)
        if enough and _pixels(recorder.frame) > CLEAR:
            return True
    return False


def _turn_away(
    recorder: Recorder, rng: np.random.Generator, way: str, steps: int, aside: float
) -> bool:
    undone = way == "inverse"
    pace = rng.choice([-1, 1]) * rng.uniform(0.6, 1)
    ahead = rng.uniform(-0.4, 0.6)
    begun, gone = len(recorder.actions), 0
    while gone < (steps // 2 if undone else steps):
        _, off = _cube_from(recorder)
        idle = np.array([ahead, rng.normal(0, 0.2), rng.normal(0, 0.4)])
        turning = abs(off) < 1.2 or (steps <= _RATE and not undone)
        if not recorder.act(np.array([0, 0, pace]) if turning else idle):
            return False
        gone = 0 if _in_view(recorder.frame) else gone + 1
        if len(recorder.actions) - begun > steps + _LOST:
            return False
    if undone:
        return all(recorder.act(-action) for action in recorder.actions[: begun - 1 : -1])
    return _return(recorder, aside, -pace if way == "back" else pace)


def _push_unseen(recorder: Recorder, rng: np.random.Generator, aside: float) -> bool:
    pace, pushed = rng.choice([-1, 1]) * rng.uniform(0.7, 1), 0
    for _ in range(_LOST):
        _, off = _cube_from(recorder)
        if abs(off) > 2.8:
            break
        if not recorder.act(np.array([0, 0, pace])):
            return False
    else:
        return False
    for _ in range(_LOST):
        _, off = _cube_from(recorder)
        back = np.array([-0.8, 0, _bounded(1.5 * wrapped(off - math.pi))])
        if not recorder.act(back) or _in_view(recorder.frame):
            return False
        pushed += bool(recorder.info["contact"])
        if pushed >= 6:
            break
    ahead = (recorder.act(np.array([0.7, 0, 0])) for _ in range(4))  # to have room to turn
    return pushed >= 6 and all(ahead) and _return(recorder, aside, pace)


def _return(recorder: Recorder, aside: float, pace: float) -> bool:
    """Turn until the cube is in view, and hold it this far to the left for a second."""
    for _ in range(40):
        _, off = _cube_from(recorder)
        near = 1.2 * wrapped(off - aside)
        if not recorder.act(np.array([0, 0, pace if abs(off) > 0.7 else near])):
            return False
        if _pixels(recorder.frame) > CLEAR and abs(near) < 0.3:
            break
    return all(
        recorder.act(np.array([0, 0, 1.2 * (_cube_from(recorder)[1] - aside)]))
        for _ in range(_RATE + 1)
    )


def choices(recorder: Recorder, rng: np.random.Generator, case: int) -> tuple[Take, ...] | None:
    """Close to the cube: go straight at it, or bear left or right, back off, or turn away; each is
    tried from the same start, and once more without noise."""
    if not _come_close(recorder, rng):
        return None
    moment, shown, start = recorder.moment(), len(recorder), recorder.state
    _, off = _cube_from(recorder)
    wanted = {
        "ahead": [0.8, 0, off],
        "left": [0.8, 0.6, off + 0.3],
        "right": [0.8, -0.6, off - 0.3],
        "back": [-0.6, 0, 0],
        "turn": [0, 0, rng.choice([-1, 1])],
    }
    quiet, takes, earned = PushCube(noise=False), list[Take](), list[float]()
    for name, action in wanted.items():
        recorder.back(moment, rng)
        drift = np.zeros(3)
        for _ in range(STEPS):
            drift = 0.8 * drift + rng.normal(0, 0.2, 3)
            if not recorder.act(np.array(action) + drift):
                return None
        tried = recorder.actions[shown - 1 :]
        told = _earned(quiet, start, np.stack(tried))
        takes.append(recorder.take(name, shown=shown, most=PREFILL, without_noise=told))
        states = takes[-1].state[-STEPS - 1 :]
        earned.append(float(reward(states[:-1], np.stack(tried), states[1:]).sum()))
    second, best = sorted(earned)[-2:]
    return tuple(takes) if best - second >= MARGIN else None


def _earned(
    quiet: PushCube, start: Float[np.ndarray, "s"], actions: Float[np.ndarray, "t a"]
) -> float:
    quiet.place(start)
    states = [start]
    for action in actions:
        quiet.advance(action)
        states.append(quiet.state())
    after = np.stack(states)
    return float(reward(after[:-1], actions, after[1:]).sum())


def _come_close(recorder: Recorder, rng: np.random.Generator) -> bool:
    """Plays until the cube is in reach and in view."""
    pilot = _begun(recorder, rng, str(rng.choice(["push", "push_to_goal", "miss"])))
    for _ in range(4 * PREFILL):
        if not recorder.act(_asked(pilot, recorder)):
            return False
        apart, off = _cube_from(recorder)
        reached = apart < 1.1 and abs(off) < 0.8 and _pixels(recorder.frame) > CLEAR
        if len(recorder) > PREFILL and reached:
            return True
    return False


def floor(recorder: Recorder, rng: np.random.Generator, case: int) -> tuple[Take, ...] | None:
    """Play, and the same actions again from the same moment under other noise."""
    names = list(SHARES)
    pilot = _begun(recorder, rng, str(rng.choice(names, p=[SHARES[name] for name in names])))
    for _ in range(PREFILL + rng.integers(30)):
        if not recorder.act(_asked(pilot, recorder)):
            return None
    moment, shown = recorder.moment(), len(recorder)
    if not all(recorder.act(_asked(pilot, recorder)) for _ in range(FLOOR_STEPS)):
        return None
    first = recorder.take("logged", shown=shown, most=PREFILL)
    recorder.back(moment, rng)
    if not all(recorder.act(action) for action in first.action[first.shown - 1 :]):
        return None
    return first, recorder.take("again", shown=shown, most=PREFILL)


def _begun(recorder: Recorder, rng: np.random.Generator, behaviour: str) -> Pilot:
    pilot = BEHAVIOURS[behaviour](rng)
    recorder.start(rng, next(pilot))
    return pilot


def _asked(pilot: Pilot, recorder: Recorder) -> np.ndarray:
    action = pilot.send(recorder.info)
    assert action is not None, "a behaviour yields a start once, then actions"
    return action


def _in_view(frame: UInt8[np.ndarray, "h w c"]) -> bool:
    return _pixels(frame) >= FEWEST


def _pixels(frame: UInt8[np.ndarray, "h w c"]) -> int:
    return int(cube_pixels(frame).sum())


def _cube_from(recorder: Recorder) -> tuple[float, float]:
    """How far, and how far to the left."""
    here, yaw = robot_of(recorder.state)
    cube = cube_of(recorder.state)
    return math.dist(here, cube), wrapped(bearing(here, cube) - yaw)


def _bounded(value: float) -> float:
    return min(max(value, -1.0), 1.0)


SCENARIOS = {
    "push-cube-away": Scenario(
        form="away",
        stage=away,
        told=("absent",),
        groups={
            f"away {seconds} s": tuple(f"{way}, {seconds} s" for way in ("back", "round"))
            for seconds in SECONDS
        },
    ),
    "push-cube-choices": Scenario(form="choices", stage=choices, takes=5, told=("without_noise",)),
    "push-cube-floor": Scenario(form="floor", stage=floor, takes=2),
}
