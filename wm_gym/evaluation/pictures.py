"""How alike two pictures are.

Learned distances such as LPIPS are left out: their weights cannot be had offline, and Push-T's
flat drawings are not what they were trained on.
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_LEAST = 1 / 12
"""Mean square of rounding to whole colours: less cannot be told apart, so PSNR ends at 59 dB."""

_SIDE, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: UInt8[Tensor, "b h w c"], b: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b"]:
    """10 log₁₀(255² / mean square), in dB."""
    square = (a.float() - b.float()).square().mean((1, 2, 3)).clamp(min=_LEAST)
    return 20 * math.log10(255) - 10 * square.log10()


def ssim(a: UInt8[Tensor, "b h w c"], b: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b"]:
    """Structural similarity under a Gaussian window, on average (Wang et al. 2004, eq. 13):

    (2 μₐμ_b + C₁)(2 σ_ab + C₂) / ((μₐ² + μ_b² + C₁)(σₐ² + σ_b² + C₂))
    """
    x, y = (frames.movedim(-1, 1).float() for frames in (a, b))
    mean_x, mean_y, xx, yy, xy = (_blurred(z) for z in (x, y, x * x, y * y, x * y))
    xx, yy, xy = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * xy + _C2)
    alike = alike / ((mean_x**2 + mean_y**2 + _C1) * (xx + yy + _C2))
    return alike.mean((1, 2, 3))


def _blurred(picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Where the window lies within the picture."""
    down, across = (_windows(n).to(picture) for n in picture.shape[-2:])
    return down @ picture @ across.T


def _windows(size: int) -> Float[Tensor, "w size"]:
    """The window at each of its places along one side; one smaller than it has a single place."""
    side = min(_SIDE, size)
    places = torch.arange(size - side + 1)[:, None] + side // 2
    way = torch.arange(size) - places
    window = torch.exp(-(way**2) / (2 * _SIGMA**2)) * (way.abs() <= side // 2)
    return window / window.sum(1, keepdim=True)
