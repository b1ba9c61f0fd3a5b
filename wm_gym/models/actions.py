"""How an action becomes numbers that a network can use; every encoding is differentiable."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

BINS = 21
"""K, of the two-hot encoding (World4RL, arXiv 2509.19080)."""


def linear(action: Float[Tensor, "*n a"]) -> Float[Tensor, "*n a"]:
    return action


def two_hot(action: Float[Tensor, "*n a"]) -> Float[Tensor, "*n e"]:
    """Each entry, between the bins b_k ≤ x ≤ b_{k+1} of K on [−1, 1], as weights on those two:

    w_k = (b_{k+1} − x) / (b_{k+1} − b_k),   w_{k+1} = 1 − w_k

    which is max(0, 1 − |x − b_j| / spacing) for every bin j: piecewise linear, sum 1. At a bin, a
    kink, its gradient is the mean of those on both sides.
    """
    bins = torch.arange(BINS, dtype=action.dtype, device=action.device)
    weights = 1 - ((action[..., None] + 1) * ((BINS - 1) / 2) - bins).abs()
    return ((weights + weights.abs()) / 2).flatten(-2)  # clamp's gradient at 0 would be 1, not ½


ENCODINGS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "linear": (linear, 1),
    "two-hot": (two_hot, BINS),
}
"""Name to the encoding and how many numbers it makes of one."""
