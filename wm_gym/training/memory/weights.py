"""How much each pixel weighs in what is painted: rare colours may weigh more."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from wm_gym.data import Dataset
from wm_gym.models.memory.tokenizer import CELL, Tokenizer

LEVELS, LOOKED_AT, MOST = 8, 400, 16.0
"""Levels of a colour that are told apart, frames that are counted, and the largest weight."""


@dataclass(frozen=True, eq=False)
class RareColours:
    """w = (share of the average colour / share of this one)^power, at most 16, 1 on average.

    A small thing of its own colour is few pixels, and may be all that matters. With a power of 0
    all weigh the same.
    """

    weight: Float[Tensor, "n"]
    """Of each colour, by number."""

    @classmethod
    def of(cls, dataset: Dataset, power: float) -> "RareColours":
        rows = np.concatenate([e["start"] + np.arange(e["length"]) for e in dataset.index])
        spread = np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int)
        numbers = _numbers(torch.from_numpy(dataset.frames(rows[spread])))
        count = torch.bincount(numbers.flatten(), minlength=LEVELS ** dataset.spec.picture[2])
        share = (count + 1) / (count + 1).sum()
        weight = (1 / (share * max(int((count > 0).sum()), 1))).pow(power).clamp(max=MOST)
        return cls((weight / (weight * share).sum()).float())

    def __call__(self, frames: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b 1 h w"]:
        return self.weight.to(frames.device)[_numbers(frames)][:, None]


class Weighing(nn.Module):
    """What dynamics are trained on: latents that are not standardised yet, and after them the mean
    weight of each cell's pixels, if any colours weigh more. These weights are part of its identity,
    which what was encoded is kept under."""

    def __init__(self, tokenizer: Tokenizer, colours: RareColours | None) -> None:
        super().__init__()
        self.tokenizer, self.colours = tokenizer, colours
        if colours is not None:
            self.register_buffer("weight", colours.weight)

    def forward(
        self, frames: UInt8[Tensor, "b h w c"], proprio: Float[Tensor, "b p"]
    ) -> Float[Tensor, "b n"]:
        latent = self.tokenizer.encode(frames, proprio)
        if self.colours is None:
            return latent
        pixels = self.colours(frames)
        means = avg_pool2d(pixels, CELL, ceil_mode=True, count_include_pad=False)
        return torch.cat([latent, means.flatten(1).to(latent)], dim=1)


def _numbers(frames: UInt8[Tensor, "b h w c"]) -> Tensor:
    place = LEVELS ** torch.arange(frames.shape[3], device=frames.device)
    return ((frames // (256 // LEVELS)).long() * place).sum(-1)
