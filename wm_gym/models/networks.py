"""What the models of vectors are made of."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu


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
