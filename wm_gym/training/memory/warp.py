"""Training the first weights of the dynamics: what one frame says of views near it.

The motion of the camera is put together from actions alone, and the painter is told nothing but a
frame and where it was seen from. That is learned within minutes. Together with all else it is not:
a memory would do without, and motions that nobody needs are not learned.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import huber_loss, pad

from wm_gym.models.memory.dynamics import REACH, Dynamics, bounded, moved_by
from wm_gym.training.memory.dynamics import Remembering, Worthy
from wm_gym.training.memory.sequences import SequenceBatch
from wm_gym.training.memory.weights import by_number

VIEWS = 4
"""Later moments of each sequence that are painted."""


@dataclass(frozen=True, eq=False)
class WarpLoss:
    how: Remembering
    code_size: int

    def __call__(
        self,
        model: nn.Module,
        batch: tuple[SequenceBatch, SequenceBatch | None],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        dynamics = cast(Worthy, getattr(model, "module", model)).dynamics
        learned = batch[0].to(dynamics.device)
        most = learned.valid.shape[1] - 1 - _first(dynamics, learned)
        ahead = round(math.exp(math.log(most) * float(torch.rand((), generator=generator))))
        off, at = self._off(dynamics, learned, ahead, generator)
        missed = huber_loss(off, torch.zeros_like(off), reduction="none")
        cells = None if learned.weight is None else learned.weight[at]
        loss = (by_number(missed, cells) * learned.valid[at][:, None]).mean()
        if batch[1] is None:
            return loss, {}
        held = batch[1].to(dynamics.device)
        with torch.no_grad():
            off, at = self._off(dynamics, held, min(5, most), generator)
        square = off[held.valid[at]].square()
        return loss, {"error_1_to_5": float(square.mean().sqrt()) if len(square) else math.nan}

    def _off(
        self, dynamics: Dynamics, batch: SequenceBatch, ahead: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n c"], tuple[Tensor, Tensor]]:
        """How far off pictures are that are painted of moments up to so many steps later; and of
        which sequences and moments they are."""
        b, device, config = len(batch.task), batch.latent.device, dynamics.config
        first = _first(dynamics, batch)
        seen_from = travelled(dynamics, batch.action[:, : first + 1 + ahead], first)
        steps = torch.randint(1, ahead + 1, (b, VIEWS), generator=generator).flatten().to(device)
        which = torch.arange(b, device=device).repeat_interleave(VIEWS)
        codes = batch.latent[which, first, : self.code_size]
        codes = codes + self.how.noise * torch.randn(codes.shape, generator=generator).to(device)
        there = torch.ones(len(which), 1, dtype=torch.bool, device=device)
        warped = dynamics.warped(seen_from[which, steps - 1, None], there, codes[:, None])
        sigma = torch.full((len(which),), float(config.sigma_max), device=device)
        noise = torch.randn(len(which), dynamics.latent_size, generator=generator).to(device)
        nothing = codes.new_zeros(len(which), dynamics.context_size)
        noisy = config.sigma_max * noise
        said = dynamics.clean(noisy, sigma, nothing, warped, batch.task[which])
        at = which, first + steps
        return (said - batch.latent[at])[:, : self.code_size], at


def _first(dynamics: Dynamics, batch: SequenceBatch) -> int:
    """The first moment whose last actions are known, or in short sequences the last but one."""
    return int(min(dynamics.config.recent - 1, batch.valid.shape[1] - 2))


def travelled(
    dynamics: Dynamics, action: Float[Tensor, "b t a"], first: int
) -> Float[Tensor, "b n 5"]:
    """Where a moment was seen from, as each one after it sees that, by actions alone."""
    b, recent = len(action), int(dynamics.config.recent)
    past = pad(action, (0, 0, recent - 1, 0))  # nobody moved before
    acted = dynamics.encode_action(past).unfold(1, recent, 1).flatten(2)[:, first + 1 :]
    motion = REACH * dynamics.by_actions(acted)[..., :3].to(action.dtype)
    places, headings = action.new_zeros(b, 1, 2), action.new_tensor([1.0, 0.0]).expand(b, 1, 2)
    every = []
    for moved in motion.unbind(1):
        places, headings = moved_by(places, headings, moved)
        every.append(torch.cat([bounded(places), headings], dim=2)[:, 0])
    return torch.stack(every, dim=1)
