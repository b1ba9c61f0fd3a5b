"""One optimiser step, by a clipped gradient, unless it is not finite."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def climb(
    optimiser: torch.optim.Optimizer,
    objective: Float[Tensor, ""],
    parameters: Iterable[nn.Parameter],
    *,
    clip: float,
) -> float:
    """The gradient's norm before it was clipped; NaN where it was not finite, and no step taken."""
    learning = list(parameters)
    optimiser.zero_grad(set_to_none=True)
    gradients = torch.autograd.grad(-objective, learning)
    for parameter, gradient in zip(learning, gradients, strict=True):
        parameter.grad = gradient
    norm = float(nn.utils.clip_grad_norm_(learning, clip))
    if not math.isfinite(norm) or not math.isfinite(float(objective.detach())):
        optimiser.zero_grad(set_to_none=True)
        return math.nan
    optimiser.step()
    return norm
