"""How alike two pictures are.

Learned distances such as LPIPS are left out: their weights cannot be had offline, and Push-T's
flat drawings are not what they were trained on.
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

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
    light, structure = _likeness(*(frames.movedim(-1, 1).float() for frames in (a, b)))
    return (light * structure).mean((1, 2, 3))


def ms_ssim(a: UInt8[Tensor, "b h w c"], b: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b"]:
    """The same at several scales (Wang, Simoncelli & Bovik 2003, eq. 7):

        l_M^{α_M} Π_j (c s)_j^{β_j}

    Each scale is half as large as the one before, down to the last that the window fits into (four
    of a picture of 96 pixels); the weights of those are scaled to a sum of 1. Means of a scale that
    are negative, as between a picture and its negative, count as 0.
    """
    x, y = (frames.movedim(-1, 1).float() for frames in (a, b))
    fitting = 1 + max(0, int(math.log2(min(x.shape[-2:]) / _SIDE)))
    weights = torch.tensor(_WEIGHTS[:fitting], device=x.device)
    product = torch.ones(len(x), device=x.device)
    for scale, weight in enumerate(weights / weights.sum()):
        if scale:
            x, y = (functional.avg_pool2d(z, 2) for z in (x, y))
        light, structure = _likeness(x, y)
        last = scale == len(weights) - 1
        like = (light * structure if last else structure).mean((1, 2, 3))
        product = product * like.clamp(min=0) ** weight
    return product


_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _likeness(
    x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, "b c h2 w2"], Float[Tensor, "b c h2 w2"]]:
    """Of light, and of contrast and structure."""
    mean_x, mean_y, xx, yy, xy = (_blurred(z) for z in (x, y, x * x, y * y, x * y))
    xx, yy, xy = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    light = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return light, (2 * xy + _C2) / (xx + yy + _C2)


def edge_energy(frames: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b"]:
    """Mean square of the difference of neighbouring pixels: what blur takes away."""
    shown = frames.float()
    return sum(
        (shown.diff(dim=axis).square().mean((1, 2, 3)) for axis in (1, 2)),
        torch.zeros(len(shown), device=shown.device),
    )


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
