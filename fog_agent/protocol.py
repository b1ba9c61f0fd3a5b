"""What a first-order agent needs of an environment, whoever provides it."""

from typing import Any, Protocol, runtime_checkable

from gymnasium.spaces import Box
from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class GradStep(Protocol):
    """One step of n environments, as tensors."""

    obs: Float[Tensor, "b *obs"]
    """Differentiable; of the new episode, and without gradient, where one was begun."""
    reward: Float[Tensor, "b"]
    """Differentiable."""
    terminated: Bool[Tensor, "b"]
    truncated: Bool[Tensor, "b"]
    final_obs: Float[Tensor, "b *obs"]
    """The differentiable successor before any reset: bootstrap from it."""
    valid: Bool[Tensor, "b"]
    """False where the step was ignored because an episode began: not trained on, not counted."""
    info: dict[str, Any]


@runtime_checkable
class DifferentiableEnv(Protocol):
    num_envs: int
    single_observation_space: Box
    single_action_space: Box

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]: ...

    def begin_window(self) -> Float[Tensor, "b *obs"]:
        """The current observations, detached: cuts the graph and keeps the episodes going."""

    def step_with_grad(self, action: Float[Tensor, "b a"]) -> GradStep:
        """The same step as `step`, differentiable in the action and in all since `begin_window`."""

    def refresh(self, batch: Any) -> dict[str, float]:
        """Train what gives the gradients on new experience; no value of `step` changes by it."""
