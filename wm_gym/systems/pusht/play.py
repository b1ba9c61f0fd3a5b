"""Play: scripted pushing that explores, from all sides and near the goal."""

import math

import numpy as np

from wm_gym.systems.pusht.geometry import GOAL
from wm_gym.systems.pusht.pushes import Run, aim, error, perform, random_push, way
from wm_gym.systems.registry import Pilot


def push(rng: np.random.Generator) -> Pilot:
    """Random pushes from random starts, at any speed, with noise."""
    noise = rng.choice([0.0, 0.1, 0.3])
    info = yield None
    while True:
        drawn = [random_push(rng, rng.uniform(10, 150)) for _ in range(rng.choice([1, 8]))]
        near = min(drawn, key=lambda push: way(push, info["state"]))  # half of them from close by
        info = yield from _shaken(perform(near, info, speed=rng.uniform(0.1, 1.0)), noise, rng)


def correct(rng: np.random.Generator) -> Pilot:
    """Starts near the goal; short pushes aimed, by a rule of thumb, to mend what is off."""
    noise = rng.choice([0.0, 0.05, 0.2])
    pose = GOAL + rng.random() * rng.normal(0, [50, 50, 0.8])
    pose[:2] = np.clip(pose[:2], 100, 400)
    info = yield np.array([*rng.uniform(50, 450, 2), *pose, 0.0, 0.0])
    while True:
        pose = info["state"][2:5]
        lengths = math.hypot(*error(pose)) * rng.uniform(0.3, 1.5, 12) + rng.uniform(0, 10, 12)
        best = max((random_push(rng, length) for length in lengths), key=lambda p: aim(p, pose))
        info = yield from _shaken(perform(best, info, speed=rng.uniform(0.05, 0.6)), noise, rng)


def _shaken(run: Run, noise: float, rng: np.random.Generator) -> Run:
    """The same run with noise on its actions."""
    try:
        action = next(run)
        while True:
            info = yield np.clip(action + noise * rng.normal(size=2), -1, 1)
            action = run.send(info)
    except StopIteration as stop:
        return stop.value
