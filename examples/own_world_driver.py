"""Behaviours for `wm-gym collect`: any `module:function` that takes a generator of random numbers.

It yields where to start (None: as the environment does), then actions in [−1, 1], and is sent
`info`.
"""

import numpy as np

from wm_gym.systems import Pilot


def drive(rng: np.random.Generator) -> Pilot:
    """Of a car that must be given gas, and rarely the brake: steering wanders; gas comes in bursts;
    one step in thirty brakes."""
    yield None
    steer, gas = rng.normal(scale=0.2), 0.0
    while True:
        steer = 0.9 * steer + rng.normal(scale=0.15)
        if rng.random() < 0.1:
            gas = rng.uniform(-1, 0.5)
        brake = rng.uniform(-1, 0) if rng.random() < 1 / 30 else -1.0
        yield np.clip(np.array([steer, gas, brake]), -1, 1)


def rock(rng: np.random.Generator) -> Pilot:
    """Of a car in a valley: to and fro at about the pace at which it swings; so it gets out."""
    yield None
    push, strength = rng.choice([-1.0, 1.0]), rng.uniform(0.5, 1.0)
    while True:
        for _ in range(rng.integers(7, 13)):
            yield np.clip(np.array([push * strength + 0.2 * rng.normal()]), -1, 1)
        push = -push
