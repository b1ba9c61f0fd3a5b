"""The seam between two models: the value of one, the gradient of the other."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, path: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def swap(value: Float[Tensor, "*n"], path: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """`value`, bit for bit; its gradient goes to `path`, unchanged, and never to `value`.

    path + (value − path) would round: more than a quarter of all float32 numbers change by it.
    """
    if value.shape != path.shape:
        raise ValueError(f"value has shape {tuple(value.shape)}, its path {tuple(path.shape)}")
    swapped: Tensor = _Swap.apply(value, path)  # type: ignore[no-untyped-call]
    return swapped
