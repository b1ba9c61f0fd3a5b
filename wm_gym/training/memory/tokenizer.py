"""Training the tokenizer: pictures to numbers that are told apart, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.data import WindowBatch
from wm_gym.models.colours import to_unit
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.training.memory.weights import RareColours

DELTA, SHAKEN = 0.1, 0.05
"""Above which errors of colours count by their size, and noise on codes before they are used."""

NARROWEST, WIDEST = 1.0, 1.5
"""Standard deviations of a cell's numbers that nothing pulls at: noise is little beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizing:
    """Weights of the tokenizer's losses; that of reconstruction is 1."""

    size: float = 0.1
    """Weight of the pull of codes towards a standard deviation of 1 to 1.5."""

    painted: float = 0.1
    """Weight of seeing in a painted frame the code that it was painted from."""

    rare_colours: float = 0.5
    """Power by which pixels of rarer colours weigh more in reconstruction; 0: all alike."""


@dataclass(frozen=True, eq=False)
class TokenizingLoss:
    how: Tokenizing
    weights: RareColours | None = None
    """None: all pixels weigh the same."""

    def __call__(
        self, model: nn.Module, batch: tuple[WindowBatch, WindowBatch], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        tokenizer = cast(Tokenizer, getattr(model, "module", model))
        device = tokenizer.mean.device
        frames = torch.from_numpy(batch[0].frames[0]).to(device)
        code = tokenizer.code_of(frames)
        shaken = code + SHAKEN * torch.randn(code.shape, generator=generator).to(device)
        painted = tokenizer.painted(shaken)
        again = max(1, len(code) // 8)
        seen = tokenizer.code_of(_colours(painted[:again].detach()))
        cells = code.view(len(code), int(tokenizer.config.cell_channels), -1)
        spread = cells.var(dim=(0, 2)).clamp(min=1e-4).sqrt()
        off = (NARROWEST - spread).clamp(min=0) + (spread - WIDEST).clamp(min=0)
        losses = {
            "reconstruction": self._missed(painted, frames),
            "size": self.how.size * off.mean(),
            "painted": self.how.painted * (seen - shaken[:again].detach()).square().mean(),
        }
        scores = {f"loss_{name}": value.item() for name, value in losses.items()}
        return torch.stack(list(losses.values())).sum(), {
            "psnr": psnr_of(tokenizer, torch.from_numpy(batch[1].frames[0]).to(device)), **scores,
        }  # fmt: skip

    def _missed(
        self, painted: Float[Tensor, "n c h w"], frames: UInt8[Tensor, "n h w c"]
    ) -> Float[Tensor, ""]:
        off = huber_loss(painted, to_unit(frames), delta=DELTA, reduction="none") / DELTA
        return off.mean() if self.weights is None else (off * self.weights(frames)).mean()


@torch.no_grad()
def psnr_of(tokenizer: Tokenizer, frames: UInt8[Tensor, "n h w c"]) -> float:
    off = tokenizer.painted(tokenizer.code_of(frames)) - to_unit(frames)
    return float(10 * torch.log10(4 / off.square().mean()))


def _colours(frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w c"]:
    """As environments hand them out, but for being whole numbers."""
    return (frames.clamp(-1, 1).movedim(1, -1) + 1) * 127.5
