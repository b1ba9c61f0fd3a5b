"""Proprioception: what a robot feels of itself, found in environments and in others' data."""

from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32

from wm_gym.systems import System
from wm_gym.types import PIXELS, PROPRIO, Info


def felt_in(info: Info, system: System | None, env_id: str) -> Float32[np.ndarray, "p"]:
    """A copy: as `info` tells it, or else as the system's record says of the true state."""
    if PROPRIO in info:
        return np.array(info[PROPRIO], np.float32)
    if system is None or not system.proprio_size:
        raise ValueError(
            f"{env_id} has no proprioception, expected a system that declares it or observations "
            f"that are dictionaries of {PIXELS!r} and {PROPRIO!r}; leave out --proprioception"
        )
    return np.array(system.proprio_of(np.asarray(info["state"])))


def names_of(felt: Float32[np.ndarray, "p"], system: System | None) -> tuple[str, ...]:
    """The record's, where it has as many."""
    if system is not None and system.proprio_size == felt.size:
        return system.proprio_names
    return numbered(PROPRIO, felt.size)


def numbered(name: str, size: int) -> tuple[str, ...]:
    """Names of numbers that have none."""
    return tuple(f"{name}_{i}" for i in range(size))


def names_in(feature: Mapping[str, Any]) -> Iterator[str]:
    """In a list, a list of lists or a table of lists, as LeRobot's datasets have had them."""
    todo = [feature.get("names")]
    while todo:
        match todo.pop(0):
            case str(name):
                yield name
            case [*inner]:
                todo = [*inner, *todo]
            case {**inner}:
                todo = [*inner.values(), *todo]


def is_picture(space: spaces.Space[Any]) -> bool:
    """Whether frames of it can be logged as they are."""
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[2] in (1, 3)
    )


def shows_and_feels(space: spaces.Space[Any]) -> bool:
    """Whether an observation is a dictionary of LeRobot's names, for a picture and numbers."""
    if not isinstance(space, spaces.Dict) or not {PIXELS, PROPRIO} <= set(space.spaces):
        return False
    return is_picture(space[PIXELS]) and is_vector(space[PROPRIO])


def is_vector(space: spaces.Space[Any]) -> bool:
    """Of at least one number."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


class FeltInInfo(gym.Wrapper[Any, Any, Any, Any]):
    """With the picture for an observation, and proprioception in `info`."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = env.observation_space[PIXELS]

    def reset(self, **kwargs: Any) -> tuple[Any, Info]:
        obs, info = self.env.reset(**kwargs)
        return obs[PIXELS], {**info, PROPRIO: obs[PROPRIO]}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs[PIXELS], reward, terminated, truncated, {**info, PROPRIO: obs[PROPRIO]}
