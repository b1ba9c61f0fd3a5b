"""What an agent was made for: the spaces, checked at the door."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float32
from torch import Tensor

from fog_agent.abilities import needed_model
from fog_agent.protocol import DifferentiableEnv, check_env


@dataclass(frozen=True)
class Spaces:
    observation: Box
    """Of one environment: a vector of numbers."""

    action: Box

    @classmethod
    def of(cls, env: DifferentiableEnv) -> "Spaces":
        check_env(env)
        return cls(env.single_observation_space, env.single_action_space)

    def __post_init__(self) -> None:
        for name, space in (("observation", self.observation), ("action", self.action)):
            if not isinstance(space, Box) or len(space.shape) != 1:
                hint = "; make the dream with obs_type='latent'" if name == "observation" else ""
                raise ValueError(f"the {name} space is {space}, expected a Box of one axis{hint}")
        if not (np.isfinite(self.action.low).all() and np.isfinite(self.action.high).all()):
            raise ValueError(f"the action space is {self.action}, expected a bounded Box")

    @property
    def obs_size(self) -> int:
        return int(self.observation.shape[0])

    @property
    def action_size(self) -> int:
        return int(self.action.shape[0])

    def check(self, env: DifferentiableEnv, *, look_ahead: bool) -> None:
        other = Spaces.of(env)
        sizes = (other.obs_size, other.action_size), (self.obs_size, self.action_size)
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"the environment has {sizes[0]} observation and action numbers, the agent "
                f"{sizes[1]}"
            )
        for bound in ("low", "high"):
            theirs, mine = getattr(other.action, bound), getattr(self.action, bound)
            if not np.array_equal(theirs, mine):
                raise ValueError(
                    f"the environment's actions are in {other.action}, the agent's in {self.action}"
                )
        if look_ahead:
            needed_model(env)


def as_batch(observation: Any, spaces: Spaces) -> tuple[Float32[np.ndarray, "b x"], bool]:
    """With a leading axis, and whether there was none."""
    if isinstance(observation, Tensor):
        observation = observation.detach().cpu()
    array = np.asarray(observation, np.float32)
    if array.shape[-1:] != (spaces.obs_size,) or array.ndim not in (1, 2):
        raise ValueError(
            f"the observation has shape {array.shape}, expected ({spaces.obs_size},) or "
            f"(n, {spaces.obs_size})"
        )
    if not np.isfinite(array).all():
        raise ValueError("the observation is not finite")
    return np.atleast_2d(array), array.ndim == 1
