"""Behaviours that know nothing of the system they drive."""

from functools import partial

import numpy as np

from wm_gym.systems.registry import Behaviour, Pilot


def _smooth(action_size: int, rng: np.random.Generator) -> Pilot:
    """An Ornstein-Uhlenbeck process, squashed; its pace and strength are drawn for each episode."""
    keep, strength = rng.uniform(0.5, 0.95), rng.uniform(0.5, 1.5)
    drift = rng.normal(size=action_size)
    yield None
    while True:
        drift = keep * drift + np.sqrt(1 - keep**2) * rng.normal(size=action_size)
        yield np.tanh(strength * drift)


def _noisy(action_size: int, rng: np.random.Generator) -> Pilot:
    """White noise, its strength drawn for each episode, with saturated and no actions among it."""
    strength = rng.uniform(0.1, 1.5)
    yield None
    while True:
        yield np.clip(strength * rng.normal(size=action_size), -1, 1)


def smooth(action_size: int) -> Behaviour:
    return partial(_smooth, action_size)


def noisy(action_size: int) -> Behaviour:
    return partial(_noisy, action_size)
