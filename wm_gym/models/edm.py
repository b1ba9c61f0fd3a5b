"""Diffusion as in Karras et al. 2022 (EDM): preconditioning, noise levels, Euler steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Preconditioning:
    """D(x; σ) = c_skip x + c_out F(c_in x, c_noise), table 1: F's input and target have variance 1
    at every σ."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    c_noise: Tensor


def preconditioning(sigma: Float[Tensor, "b"], sigma_data: float) -> Preconditioning:
    total = sigma**2 + sigma_data**2
    return Preconditioning(
        c_in=total.rsqrt(),
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data * total.rsqrt(),
        c_noise=sigma.log() / 4,
    )


def loss_weight(sigma: Float[Tensor, "b"], sigma_data: float) -> Float[Tensor, "b"]:
    """λ(σ) = 1 / c_out², which makes the weighted loss that of F with unit targets."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def karras_sigmas(
    steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0
) -> Float[Tensor, "n"]:
    """σ_i = (σ_max^{1/ρ} + i/(n−1) (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ, then 0; eq. 5."""
    if steps == 1:
        return torch.tensor([sigma_max, 0.0], dtype=torch.float32)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1)]).float()


@lru_cache(maxsize=64)
def sigmas_on(
    device: torch.device, steps: int, sigma_min: float, sigma_max: float
) -> Float[Tensor, "n"]:
    """Kept, so that no step of a dream waits for a copy. Not to be written to."""
    return karras_sigmas(steps, sigma_min=sigma_min, sigma_max=sigma_max).to(device)


def sample(
    denoise: Callable[[Float[Tensor, "b ..."], Float[Tensor, "b"]], Float[Tensor, "b ..."]],
    noise: Float[Tensor, "b ..."],
    sigmas: Float[Tensor, "n"],
) -> Float[Tensor, "b ..."]:
    """Euler steps of dx/dσ = (x − D(x; σ)) / σ from x = σ_max · noise (algorithm 1, no churn)."""
    x = noise * sigmas[0]
    for sigma, following in pairwise(sigmas):
        clean = denoise(x, sigma.expand(len(x)))
        x = clean + (x - clean) * (following / sigma)
    return x
