"""Between the colours that environments hand out and those that networks see."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_unit(frames: UInt8[Tensor, "*n h w c"]) -> Float[Tensor, "*n c h w"]:
    """Colours in [−1, 1], channels first, as the networks see frames."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_colour(frames: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n h w c"]:
    """Whole colour values, channels last, as environments hand frames out."""
    values = frames.clamp(-1, 1).add_(1).mul_(127.5).round_()
    return values.to(torch.uint8).movedim(-3, -1)


def as_colours(frames: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n h w c"]:
    """The same before they are whole numbers: differentiable."""
    return (frames.movedim(-3, -1) + 1) * 127.5
