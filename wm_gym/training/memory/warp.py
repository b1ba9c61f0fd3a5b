"""Training the first weights of the dynamics: what one frame says of views near it.

The motion of the camera is put together from actions and by odometry, and the painter is told
nothing but a frame, where it was seen from, and proprioception. That is learned within minutes.
Together with all else it is not: a memory would do without, and motions that nobody needs are not
learned.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.models.memory.dynamics import REACH, Dynamics, FrameEncoder, bounded, moved_by
from wm_gym.training.memory.dynamics import FAITH, Remembering, Worthy
from wm_gym.training.memory.registration import registered
from wm_gym.training.memory.sequences import SequenceBatch
from wm_gym.training.memory.weights import by_number

VIEWS = 4
"""Later moments of each sequence that are painted."""


@dataclass(frozen=True, eq=False)
class WarpLoss:
    how: Remembering
    encoder: FrameEncoder

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
        off = self._off(dynamics, learned, ahead, generator)
        missed = huber_loss(off.code, torch.zeros_like(off.code), reduction="none")
        cells = None if learned.weight is None else learned.weight[off.at]
        losses = {
            "seen": (by_number(missed, cells) * learned.valid[off.at][:, None]).mean(),
            "amiss": self.how.amiss * off.amiss.mean(),
            "found": FAITH * off.found.square().mean(),
        }
        loss = torch.stack(list(losses.values())).sum()
        scores = {f"loss_{name}": value.item() for name, value in losses.items()}
        if batch[1] is None:
            return loss, scores
        held = batch[1].to(dynamics.device)
        with torch.no_grad():
            off = self._off(dynamics, held, min(5, most), generator)
        square = off.code[held.valid[off.at]].square()
        error = float(square.mean().sqrt()) if len(square) else math.nan
        return loss, {**scores, "error_1_to_5": error}

    def _off(
        self, dynamics: Dynamics, batch: SequenceBatch, ahead: int, generator: torch.Generator
    ) -> "Off":
        """Of moments up to so many steps later."""
        b, device, config = len(batch.task), batch.latent.device, dynamics.config
        first = _first(dynamics, batch)
        near = batch.latent[:, : first + 1 + ahead]
        near = near + self.how.noise * torch.randn(near.shape, generator=generator).to(device)
        seen_from, found = travelled(dynamics, near, batch.action[:, : first + 1 + ahead], first)
        steps = torch.randint(1, ahead + 1, (b, VIEWS), generator=generator).flatten().to(device)
        which = torch.arange(b, device=device).repeat_interleave(VIEWS)
        frames = self.encoder.read(batch.row[:, first, None])[which]
        felt, proprio = (near[which, at, dynamics.code_size :] for at in (first, first + steps))
        there = torch.ones(len(which), 1, dtype=torch.bool, device=device)
        place, (high, wide) = seen_from[which, steps - 1, None], frames.shape[2:4]
        flow = dynamics.flow_from(place, there, felt[:, None], proprio, (high, wide))
        at = which, first + steps
        view, amiss = registered(dynamics, self.encoder, frames, flow, batch.row[at])
        sigma = torch.full((len(which),), float(config.sigma_max), device=device)
        noise = torch.randn(len(which), dynamics.code_size, generator=generator).to(device)
        nothing, task = near.new_zeros(len(which), dynamics.context_size), batch.task[which]
        noisy = config.sigma_max * noise
        said = dynamics.clean_code(noisy, sigma, nothing, view, proprio, task)
        off = said - batch.latent[..., : dynamics.code_size][at]
        return Off(code=off, at=at, found=found, amiss=amiss)


@dataclass(frozen=True, kw_only=True, eq=False)
class Off:
    """What is off in pictures of later moments."""

    code: Float[Tensor, "n c"]
    at: tuple[Tensor, Tensor]
    """Of which sequence and moment each is."""

    found: Float[Tensor, "b m 3"]
    """What odometry found."""

    amiss: Float[Tensor, "n"]
    """How far views are from where they fit."""


def _first(dynamics: Dynamics, batch: SequenceBatch) -> int:
    """The first moment whose last actions are known, or in short sequences the last but one."""
    return int(min(dynamics.config.recent - 1, batch.valid.shape[1] - 2))


def travelled(
    dynamics: Dynamics,
    latent: Float[Tensor, "b t d"],
    action: Float[Tensor, "b t a"],
    first: int,
) -> tuple[Float[Tensor, "b n 5"], Float[Tensor, "b n 3"]]:
    """Where a moment was seen from, as each one after it sees that, by actions and odometry; and
    what odometry found."""
    nobody = action.new_zeros(len(action), dynamics.config.recent - 1, action.shape[2])
    acted = dynamics.last_acts(nobody, action)[:, first + 1 :]
    found = dynamics.between(latent[:, first:], acted)
    motion = REACH * (dynamics.by_actions(acted)[..., :3] + found).to(action.dtype)
    b = len(action)
    places, headings = action.new_zeros(b, 1, 2), action.new_tensor([1.0, 0.0]).expand(b, 1, 2)
    every = []
    for step in motion.unbind(1):
        places, headings = moved_by(places, headings, step)
        every.append(torch.cat([bounded(places), headings], dim=2)[:, 0])
    return torch.stack(every, dim=1), found
