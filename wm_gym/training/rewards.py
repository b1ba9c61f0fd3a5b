"""What the reward heads of every kind begin and end with."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def silenced(head: nn.Module) -> None:
    """Make it say 0 and nothing else: for a head that had nothing to learn from."""
    last = [layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def reward_scale(values: Float[Tensor, "n"]) -> tuple[float, float]:
    """Mean and spread of the logged rewards."""
    spread = float(values.std())
    return float(values.mean()), spread if math.isfinite(spread) and spread > 1e-6 else 1.0
