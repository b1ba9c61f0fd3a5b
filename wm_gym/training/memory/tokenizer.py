"""Training the tokenizer, together with a recurrent predictor that is thrown away after: a code has
to say what a picture shows, and to be foreseeable. Codes that were trained to be painted alone are
nearly as far apart from one frame to the next as those of any two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.data import WindowBatch
from wm_gym.models.colours import to_unit
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.networks import network
from wm_gym.training.memory.weights import rarity

DELTA, UNIT, SHAKEN = 0.5, 0.1, 0.05
"""Above which errors of colours count by their size, what they are counted in, and noise on codes
before they are used. By their size alone, a small thing that lacks is less than a floor's grain."""

NARROWEST, WIDEST = 1.0, 1.5
"""Standard deviations of a cell's numbers that nothing pulls at. Codes as small as the noise would
be as easy to foresee, and say little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizing:
    """Weights of the tokenizer's losses; that of reconstruction is 1."""

    predicted: float = 0.25
    """Weight of reconstructing frames from predicted codes."""

    prediction: float = 0.5
    """Weight of the predictor's distance to codes."""

    foreseeable: float = 0.1
    """Weight of the codes' distance to what the predictor expects."""

    size: float = 0.1
    """Weight of the pull of codes towards a standard deviation of 1 to 1.5."""

    painted: float = 0.1
    """Weight of seeing in a painted frame the code that it was painted from."""

    rare_colours: float = 0.5
    """Power by which pixels of colours that a picture has less of weigh more, painted or dreamt;
    0: all alike."""


class JointTokenizer(ModelMixin, ConfigMixin):
    """A tokenizer, and a GRU and a network on top of it that predict its codes."""

    @register_to_config
    def __init__(
        self,
        sizes: Mapping[str, Any] | None = None,
        action_size: int = 2,
        memory: int = 384,
        width: int = 512,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(**(sizes or {}))
        size = self.tokenizer.code_size
        self.gru = nn.GRU(size + action_size, memory, batch_first=True)
        self.head = network(memory + size, width, blocks, size)

    def predicted(
        self, codes: Float[Tensor, "b t d"], action: Float[Tensor, "b t a"]
    ) -> Float[Tensor, "b t d"]:
        """The code after each."""
        every, _ = self.gru(torch.cat([codes, action], dim=2))
        moved = self.head(torch.cat([every, codes], dim=2).flatten(0, 1))
        return codes + moved.view(codes.shape).to(codes.dtype)


@dataclass(frozen=True, eq=False)
class TokenizingLoss:
    how: Tokenizing

    def __call__(
        self,
        model: nn.Module,
        batch: tuple[WindowBatch, WindowBatch | None],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        joint = cast(JointTokenizer, getattr(model, "module", model))
        tokenizer, device = joint.tokenizer, joint.tokenizer.mean.device
        frames = torch.from_numpy(batch[0].frames).to(device).transpose(0, 1)  # b t h w c
        action = torch.from_numpy(batch[0].action).to(device).transpose(0, 1)
        b, t, *_ = frames.shape
        shown = frames.flatten(0, 1)
        codes = tokenizer.code_of(shown)
        rows = torch.randperm(b * t, generator=generator)[: max(1, b * t // 4)].to(device)
        shaken = codes[rows] + SHAKEN * _normal(codes[rows].shape, generator, device)
        painted = tokenizer.painted(shaken)
        again = max(1, len(rows) // 4)
        seen = tokenizer.code_of(_colours(painted[:again].detach()))
        cells = codes.view(b * t, int(tokenizer.config.cell_channels), -1)
        spread = cells.var(dim=(0, 2)).clamp(min=1e-4).sqrt()
        off = (NARROWEST - spread).clamp(min=0) + (spread - WIDEST).clamp(min=0)
        losses = {
            "reconstruction": self._missed(painted, shown[rows]),
            "size": self.how.size * off.mean(),
            "painted": self.how.painted * (seen - shaken[:again].detach()).square().mean(),
            **self._foreseen(joint, codes.view(b, t, -1), action, frames, generator),
        }
        scores = {f"loss_{name}": value.item() for name, value in losses.items()}
        if batch[1] is not None:
            scores["psnr"] = psnr_of(tokenizer, torch.from_numpy(batch[1].frames[0]).to(device))
        return torch.stack(list(losses.values())).sum(), scores

    def _foreseen(
        self,
        joint: JointTokenizer,
        codes: Float[Tensor, "b t d"],
        action: Float[Tensor, "b t0 a"],
        frames: UInt8[Tensor, "b t h w c"],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        (b, t, _), device, how = codes.shape, codes.device, self.how
        before = codes[:, :-1] + SHAKEN * _normal(codes[:, :-1].shape, generator, device)
        expected, after = joint.predicted(before, action), codes[:, 1:]
        settled = min(2, t - 2)  # before that, no speed is known
        many = max(1, (t - 1) // 4)
        at = torch.randint(settled, t - 1, (b, many), generator=generator).to(device)
        which = torch.arange(b, device=device)[:, None]
        painted = joint.tokenizer.painted(expected[which, at].flatten(0, 1))
        off = (expected - after.detach())[:, settled:], (expected.detach() - after)[:, settled:]
        return {
            "predicted": how.predicted * self._missed(painted, frames[which, at + 1].flatten(0, 1)),
            "prediction": how.prediction * off[0].square().mean(),
            "foreseeable": how.foreseeable * off[1].square().mean(),
        }

    def _missed(
        self, painted: Float[Tensor, "n c h w"], frames: UInt8[Tensor, "n h w c"]
    ) -> Float[Tensor, ""]:
        off = huber_loss(painted, to_unit(frames), delta=DELTA, reduction="none") / UNIT
        return (off * rarity(frames, self.how.rare_colours)).mean()


@torch.no_grad()
def psnr_of(tokenizer: Tokenizer, frames: UInt8[Tensor, "n h w c"]) -> float:
    off = tokenizer.painted(tokenizer.code_of(frames)) - to_unit(frames)
    return float(10 * torch.log10(4 / off.square().mean()))


def _colours(frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w c"]:
    """As environments hand them out, but for being whole numbers."""
    return (frames.clamp(-1, 1).movedim(1, -1) + 1) * 127.5


def _normal(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Float[Tensor, "..."]:
    return torch.randn(shape, generator=generator).to(device)
