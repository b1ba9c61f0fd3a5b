"""What models are made of: residual blocks of vectors and of pictures."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import group_norm, silu

GROUPS = 8
"""Of channels that are normalised together."""


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        return x + self.second(silu(self.first(self.norm(x))))


def network(inputs: int, width: int, blocks: int, outputs: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, width), *(Residual(width) for _ in range(blocks))]
    return nn.Sequential(*layers, nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, outputs))


class PictureNorm(nn.GroupNorm):
    """In float32: CPUs take three times as long to normalise bfloat16."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        weight, bias = self.weight.float(), self.bias.float()
        return group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class PictureResidual(nn.Module):
    """Of a multiple of `GROUPS` channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PictureNorm(GROUPS, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.second(silu(self.first(silu(self.norm(x)))))
