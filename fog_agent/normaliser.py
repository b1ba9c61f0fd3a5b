"""Observations of order one: shifted and scaled by what was seen before the window began."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

LIMIT = 8.0
"""Where observations are cut off, in deviations: far beyond what a policy has seen."""


class Normaliser(nn.Module):
    """Running mean and variance (Chan et al. 1983), used as they were when they were last `taken`.

    A copy is used so that all of a window, forward and backward, sees one and the same.
    """

    mean: Tensor
    variance: Tensor
    used_mean: Tensor
    used_variance: Tensor
    count: Tensor

    def __init__(self, size: int, *, active: bool = True) -> None:
        super().__init__()
        self.active = active
        for name in ("mean", "used_mean"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        for name in ("variance", "used_variance"):
            self.register_buffer(name, torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, obs: Float[Tensor, "b x"]) -> Float[Tensor, "b x"]:
        if not self.active:
            return obs
        mean, deviation = self.used_mean.to(obs), (self.used_variance + 1e-4).sqrt().to(obs)
        return ((obs - mean) / deviation).clamp(-LIMIT, LIMIT)

    @torch.no_grad()
    def see(self, obs: Float[Tensor, "n x"]) -> None:
        """Counts from the next `take` on."""
        seen, n = obs.double(), float(len(obs))
        mean, variance = seen.mean(dim=0), seen.var(dim=0, unbiased=False)
        total, off = self.count + n, mean - self.mean
        spread = self.variance * self.count + variance * n + off.square() * self.count * n / total
        self.mean += off * n / total
        self.variance.copy_(spread / total)
        self.count.copy_(total)

    @torch.no_grad()
    def take(self) -> None:
        self.used_mean.copy_(self.mean)
        self.used_variance.copy_(self.variance)
