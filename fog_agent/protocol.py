"""What a first-order agent needs of an environment, whoever provides it."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class GradStep(Protocol):
    """One step of n environments, as tensors."""

    @property
    def obs(self) -> Float[Tensor, "b *obs"]:
        """Differentiable; of the new episode, and without gradient, where one was begun."""

    @property
    def reward(self) -> Float[Tensor, "b"]:
        """Differentiable."""

    @property
    def terminated(self) -> Bool[Tensor, "b"]: ...

    @property
    def truncated(self) -> Bool[Tensor, "b"]: ...

    @property
    def final_obs(self) -> Float[Tensor, "b *obs"]:
        """The differentiable successor before any reset: bootstrap from it."""

    @property
    def valid(self) -> Bool[Tensor, "b"]:
        """False where the step was ignored, as an episode began: not trained on, not counted."""

    @property
    def info(self) -> dict[str, Any]: ...


@runtime_checkable
class DifferentiableEnv(Protocol):
    """All that an agent asks of a world: environments that each start anew when they end."""

    @property
    def num_envs(self) -> int: ...

    @property
    def single_observation_space(self) -> Box: ...

    @property
    def single_action_space(self) -> Box: ...

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]: ...

    def begin_window(self) -> Float[Tensor, "b *obs"]:
        """The current observations, detached: cuts the graph and keeps the episodes going."""

    def step_with_grad(self, action: Float[Tensor, "b a"]) -> GradStep:
        """The same step as `step`, differentiable in the action and in all since `begin_window`."""

    def refresh(self, batch: Any) -> dict[str, float]:
        """Train what gives the gradients on new experience; no value of `step` changes by it.

        FloatingPointError where its own gradients are not finite, and then nothing has changed.
        """


@runtime_checkable
class LightModel(Protocol):
    """Where an environment lends out what its gradients come from: to look ahead with.

    It knows no ends of episodes. Where one could terminate within a look-ahead's few steps, what is
    looked at there is a world that goes on.
    """

    def predict(
        self, obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b x"]:
        """The next observation, differentiable in both."""

    def reward_of(
        self, next_obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"], /
    ) -> Float[Tensor, "b"]: ...


@runtime_checkable
class Remembering(Protocol):
    """A light model that also lends out steps of the logs that it learned from."""

    def logged(self) -> Mapping[str, Tensor] | None:
        """Named as `refresh` takes them; None where there are none."""


def check_env(env: Any) -> None:
    if not isinstance(env, DifferentiableEnv):
        hidden = isinstance(getattr(env, "unwrapped", None), DifferentiableEnv)
        raise TypeError(
            f"env is a {type(env).__name__}, expected a DifferentiableEnv, that is a vector "
            "environment with begin_window and step_with_grad: "
            + ("give env.unwrapped" if hidden else "gym.make_vec of a dream (WM-…) makes one")
        )
    mode = getattr(env, "metadata", {}).get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"the environment's autoreset_mode is {mode}, expected {AutoresetMode.SAME_STEP}: "
            "make it with autoreset_mode='SameStep'"
        )
