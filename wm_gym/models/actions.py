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

    which is max(0, 1 − |x − b_j| / spacing) for every bin j: piecewise linear, sum 1.
    """
    bins = torch.linspace(-1, 1, BINS, dtype=action.dtype, device=action.device)
    spacing = 2 / (BINS - 1)
    weights = (1 - (action[..., None] - bins).abs() / spacing).clamp(min=0)
    return weights.flatten(-2)


ENCODINGS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "linear": (linear, 1),
    "two-hot": (two_hot, BINS),
}
"""Name to the encoding and how many numbers it makes of one."""
