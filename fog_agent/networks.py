"""Multilayer perceptrons, one or several side by side: SiLU, then LayerNorm, as in DMO-SAPO."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu


class Ensemble(nn.Module):
    """n networks of equal sizes, each with weights of its own, computed in one go."""

    def __init__(self, n: int, sizes: Sequence[int], *, rng: torch.Generator) -> None:
        """`sizes`: of the input, of each hidden layer, of the output."""
        super().__init__()
        layers = list(pairwise(sizes))
        self.weight = nn.ParameterList(nn.Parameter(uniform((n, i, o), i, rng)) for i, o in layers)
        self.bias = nn.ParameterList(nn.Parameter(uniform((n, 1, o), i, rng)) for i, o in layers)
        self.gain = nn.ParameterList(nn.Parameter(torch.ones(n, 1, o)) for o in sizes[1:-1])
        self.shift = nn.ParameterList(nn.Parameter(torch.zeros(n, 1, o)) for o in sizes[1:-1])

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "n b o"]:
        h = x.expand(len(self.weight[0]), *x.shape)
        for layer in range(len(self.gain)):
            h = silu(torch.baddbmm(self.bias[layer], h, self.weight[layer]))
            h = layer_norm(h, h.shape[-1:]) * self.gain[layer] + self.shift[layer]
        return torch.baddbmm(self.bias[-1], h, self.weight[-1])


def uniform(shape: tuple[int, ...], fan_in: int, rng: torch.Generator) -> Tensor:
    """Within ±1/√fan_in, as torch's linear layers begin."""
    return (2 * torch.rand(shape, generator=rng) - 1) / math.sqrt(fan_in)
