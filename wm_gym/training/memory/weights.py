"""How much each pixel weighs in what is painted: those of rare colours may weigh more."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from wm_gym.models.memory.tokenizer import CELL, Tokenizer

LEVELS, MOST = 8, 64.0
"""Levels of a colour that are told apart, and how often the least weight fits in the largest."""


def rarity(frames: UInt8[Tensor, "b h w c"], power: float) -> Float[Tensor, "b 1 h w"]:
    """(1 / how many pixels of this picture are of this pixel's colour)^power, over its mean.
    The largest is at most 64 times the least.

    A small thing of its own colour is few pixels, and may be all that matters. With a power of 0
    all weigh the same.
    """
    b, *_, colours = frames.shape
    place = LEVELS ** torch.arange(colours, device=frames.device)
    number = ((frames // (256 // LEVELS)).long() * place).sum(-1).flatten(1)
    many = LEVELS**colours
    number = number + many * torch.arange(b, device=frames.device)[:, None]
    count = torch.bincount(number.flatten(), minlength=b * many)[number]
    weight = count.float().pow(-power).clamp(min=1 / MOST)
    return (weight / weight.mean(1, keepdim=True)).view(b, 1, *frames.shape[1:3])


def by_number(
    off: Float[Tensor, "n d"], cells: Float[Tensor, "n c"] | None
) -> Float[Tensor, "n d"]:
    """Errors of codes, weighed by their cells' pixels."""
    return off if cells is None else off * cells.repeat(1, off.shape[1] // cells.shape[1])


class Weighing(nn.Module):
    """What dynamics are trained on: latents that are not standardised yet, and after them the mean
    weight of each cell's pixels. The power is part of its identity, which what was encoded is kept
    under."""

    power: Float[Tensor, ""]

    def __init__(self, tokenizer: Tokenizer, power: float) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.register_buffer("power", torch.tensor(power))

    def forward(
        self, frames: UInt8[Tensor, "b h w c"], proprio: Float[Tensor, "b p"]
    ) -> Float[Tensor, "b n"]:
        latent = self.tokenizer.encode(frames, proprio)
        pixels = rarity(frames, self.power.item())
        means = avg_pool2d(pixels, CELL, ceil_mode=True, count_include_pad=False)
        return torch.cat([latent, means.flatten(1).to(latent)], dim=1)
