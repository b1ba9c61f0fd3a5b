"""A window: a few steps of an environment, as one differentiable function of the policy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fog_agent.actor import Acted
from fog_agent.protocol import DifferentiableEnv


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
        for name in ("next_obs", "reward"):
            if not torch.isfinite(getattr(self, name)).all():
                raise FloatingPointError(
                    f"the environment returned a {name} that is not finite; nothing was learned "
                    "from it"
                )


def roll(
    env: DifferentiableEnv,
    act: Callable[[Float[Tensor, "b x"], Float[Tensor, "b a"]], Acted],
    noise: Float[Tensor, "t b a"],
) -> Window:
    obs = env.begin_window()
    steps = []
    for t in range(len(noise)):
        acted = act(obs, noise[t])
        out = env.step_with_grad(acted.action)
        steps.append(
            (obs, acted.action, acted.log_prob, out.reward, out.final_obs, out.terminated,
             out.truncated)
        )  # fmt: skip
        obs = out.obs
    each = [torch.stack(values) for values in zip(*steps, strict=True)]
    names = ("obs", "action", "log_prob", "reward", "next_obs", "terminated", "truncated")
    return Window(**dict(zip(names, each, strict=True)), after=obs)
