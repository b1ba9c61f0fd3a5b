"""Noise that is a pure function of its address: nothing is drawn, nothing is kept.

Element j of step t of a dream with key k is the same number on every device, in every batch.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def normal_noise(
    key: Int64[Tensor, "b"], step: Int64[Tensor, "b"], size: int
) -> Float[Tensor, "b size"]:
    """Standard normal numbers: two mixed counters, then Box and Muller's √(−2 ln u) cos(2π v).

    In float64, so that a device's own way to compute a cosine does not show in float32.
    """
    j = torch.arange(2 * size, device=key.device)
    address = _mixed(_mixed(key) + step)[:, None] + _GOLDEN * (j + 1)
    uniform = ((_mixed(address) >> 11 & (2**53 - 1)).double() + 0.5) * 2.0**-53
    u, v = uniform[:, :size], uniform[:, size:]
    return ((-2 * u.log()).sqrt() * (2 * math.pi * v).cos()).float()


def shaped_noise(
    key: Int64[Tensor, "b"], step: Int64[Tensor, "b"], shape: tuple[int, ...]
) -> Float[Tensor, "b *n"]:
    """The same, of any shape."""
    return normal_noise(key, step, math.prod(shape)).view(-1, *shape)


def _mixed(x: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014); integers wrap around."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Int64[Tensor, "*n"], bits: int) -> Int64[Tensor, "*n"]:
    """Right, as if without a sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)
