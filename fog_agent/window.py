"""A window: a few steps of an environment, as one differentiable function of the policy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fog_agent.actor import Acted
from fog_agent.protocol import DifferentiableEnv

SOURCES = {
    "obs": "the environment returned an observation",
    "action": "the policy has diverged: it chose an action",
    "reward": "the environment returned a reward",
    "next_obs": "the environment returned an observation",
}
"""Of what a step is made of, in the order in which it comes about."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """Time first; with its graph, unless it is `detached`."""

    obs: Float[Tensor, "t b x"]
    action: Float[Tensor, "t b a"]
    log_prob: Float[Tensor, "t b"]
    reward: Float[Tensor, "t b"]
    next_obs: Float[Tensor, "t b x"]
    """The true successor, before any reset."""

    terminated: Bool[Tensor, "t b"]
    truncated: Bool[Tensor, "t b"]
    after: Float[Tensor, "b x"]
    """Where the next window begins."""

    def detached(self) -> "Window":
        names = self.__dataclass_fields__
        return Window(**{name: getattr(self, name).detach() for name in names})

    def check_finite(self) -> None:
        each = {name: getattr(self, name) for name in SOURCES}
        if not all(torch.isfinite(values).all() for values in each.values()):
            for t in range(len(self.reward)):
                blame(**{name: values[t] for name, values in each.items()})


def blame(**values: Tensor) -> None:
    """Raises where one is not finite, and says where the first of them comes from."""
    for name, source in SOURCES.items():
        if name in values and not torch.isfinite(values[name]).all():
            raise FloatingPointError(f"{source} that is not finite; nothing was learned from it")


@contextmanager
def _blaming(obs: Float[Tensor, "b x"], action: Float[Tensor, "b a"]) -> Iterator[None]:
    """An environment that refuses an action cannot know that it came of an observation of its."""
    try:
        yield
    except Exception:
        blame(obs=obs, action=action)
        raise


def roll(
    env: DifferentiableEnv,
    act: Callable[[Float[Tensor, "b x"], Float[Tensor, "b a"]], Acted],
    noise: Float[Tensor, "t b a"],
) -> Window:
    obs = env.begin_window()
    steps = []
    for t in range(len(noise)):
        acted = act(obs, noise[t])
        with _blaming(obs, acted.action):
            out = env.step_with_grad(acted.action)
        steps.append(
            (obs, acted.action, acted.log_prob, out.reward, out.final_obs, out.terminated,
             out.truncated)
        )  # fmt: skip
        obs = out.obs
    each = [torch.stack(values) for values in zip(*steps, strict=True)]
    names = ("obs", "action", "log_prob", "reward", "next_obs", "terminated", "truncated")
    return Window(**dict(zip(names, each, strict=True)), after=obs)
