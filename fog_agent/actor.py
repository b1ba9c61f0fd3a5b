"""The policy: a normal distribution squashed into the box of actions.

    a = tanh u,   u = μ(x) + σ(x) ε,   ε ~ N(0, I)
    log π(a|x) = Σᵢ log N(uᵢ; μᵢ, σᵢ) − log(1 − tanh² uᵢ)          (Haarnoja et al. 2018, eq. 21)

Then shifted and stretched from (−1, 1) to the box, of whose size log π knows nothing: entropy is in
units of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from gymnasium.spaces import Box
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from fog_agent.networks import Ensemble


@dataclass(frozen=True, eq=False)
class Acted:
    action: Float[Tensor, "b a"]
    """Within the box, differentiable."""

    log_prob: Float[Tensor, "b"]


class Actor(nn.Module):
    centre: Tensor
    reach: Tensor

    def __init__(
        self,
        obs_size: int,
        box: Box,
        hidden: Sequence[int],
        log_std: tuple[float, float],
        *,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.log_std = log_std
        low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (box.low, box.high))
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)
        sizes = (obs_size, *hidden, 2 * len(low))
        self.network = Ensemble(1, sizes, rng=rng)

    def forward(self, x: Float[Tensor, "b x"], noise: Float[Tensor, "b a"]) -> Acted:
        mean, log_std = self.distribution(x)
        u = mean + log_std.exp() * noise
        return Acted(self._boxed(u), squashed_log_prob(u, noise, log_std))

    def distribution(
        self, x: Float[Tensor, "b x"]
    ) -> tuple[Float[Tensor, "b a"], Float[Tensor, "b a"]]:
        """μ and log σ, before squashing."""
        mean, raw = self.network(x)[0].chunk(2, dim=1)
        least, most = self.log_std
        return mean, least + (most - least) * (torch.tanh(raw) + 1) / 2

    def best(self, x: Float[Tensor, "b x"]) -> Float[Tensor, "b a"]:
        return self._boxed(self.distribution(x)[0])

    def _boxed(self, u: Float[Tensor, "b a"]) -> Float[Tensor, "b a"]:
        return self.centre + self.reach * torch.tanh(u)

    def saturated(self, action: Float[Tensor, "*n a"]) -> float:
        """How many action numbers are close to the box's walls, as a share."""
        near = (action - self.centre).abs() > 0.95 * self.reach
        return float(near.float().mean())


def squashed_log_prob(
    u: Float[Tensor, "b a"], noise: Float[Tensor, "b a"], log_std: Float[Tensor, "b a"]
) -> Float[Tensor, "b"]:
    """log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)), which does not overflow."""
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return (normal - 2 * (math.log(2.0) - u - softplus(-2 * u))).sum(dim=1)
