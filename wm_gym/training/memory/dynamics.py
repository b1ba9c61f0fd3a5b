"""Training the dynamics: what is seen next, and long after, from what was seen before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.data import WindowBatch
from wm_gym.models.colours import to_colour
from wm_gym.models.edm import karras_sigmas, loss_weight
from wm_gym.models.memory.dynamics import (
    Dynamics,
    FrameEncoder,
    Memories,
    Memory,
    Motions,
    Shown,
    one_hot,
)
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.models.networks import network
from wm_gym.models.rewards import reward_loss
from wm_gym.training.memory.registration import registered
from wm_gym.training.memory.sequences import SequenceBatch
from wm_gym.training.memory.weights import by_number

DRIFT = 0.02
"""Weight of what errors of motions add up to; that of each is 1."""

FAITH = 0.2
"""Weight of the squares of what odometry finds: actions are believed unless pictures object."""

TOLD = (1, 15, 40)
"""Steps without a look after which the error is told while training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembering:
    """How the dynamics are trained, besides how they are optimised."""

    seen: int = 40
    """Most frames that the memory is told before it goes on by itself."""

    ahead: int = 40
    """Most steps that it goes on by itself."""

    moments: int = 4
    """Moments of each sequence that nobody saw, of which the latent is predicted."""

    noise: float = 0.1
    """Noise on latents that the memory is told."""

    first_share: float = 0.85
    """Share of the training samples whose noise level is the sampler's first."""

    sigma_mean: float = 0.0
    """Mean of the logarithm of the other samples' noise levels."""

    sigma_std: float = 1.2
    """Standard deviation of the logarithm of the other samples' noise levels."""

    delta: float = 1.0
    """Errors below it, in standard deviations, count by their square, others by their size."""

    shown: float = 0.25
    """Weight of telling the latent of a moment that was seen; that of others is 1."""

    proprio: float = 0.2
    """Weight of predicting proprioception; that of the picture is 1."""

    amiss: float = 0.1
    """Weight of how far views of seen moments are from where they fit, in units of 1/24 of a
    picture."""

    motion: float = 10.0
    """Weight of expecting what odometry finds of the camera's motion."""

    worth: float = 0.2
    """Weight of telling reward and progress by the memory, where they are logged."""


class Worthy(ModelMixin, ConfigMixin):
    """Dynamics, and layers that read reward and progress in the memory, which are thrown away
    after: what is of worth is remembered sooner."""

    @register_to_config
    def __init__(
        self,
        sizes: Mapping[str, Any] | None = None,
        reward_mean: float = 0.0,
        reward_scale: float = 1.0,
        width: int = 256,
    ) -> None:
        super().__init__()
        self.dynamics = Dynamics(**(sizes or {}))
        told = self.dynamics.context_size + int(self.dynamics.config.tasks)
        self.worth = network(told, width, 2, 2)


@dataclass(frozen=True, eq=False)
class DynamicsLoss:
    """The memory is told some frames, and goes on by actions alone; of moments after that, drawn at
    random, the latent is predicted. So what has to come back into view is remembered. On its way it
    is told how the camera moved, by odometry, and learns to expect that."""

    how: Remembering
    encoder: FrameEncoder
    has_reward: bool = True
    rare: bool = False
    """Whether the log's rewards are (`models.rewards.are_rare`)."""

    def __call__(
        self,
        model: nn.Module,
        batch: tuple[SequenceBatch, SequenceBatch | None],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        worthy = cast(Worthy, getattr(model, "module", model))
        dynamics, how = worthy.dynamics, self.how
        learned = batch[0].to(dynamics.device)
        t = learned.valid.shape[1]
        seen = _between(1, min(how.seen, t - 2), generator)
        ahead = _between(2, min(how.ahead, t - seen), generator)
        part = cut(learned, seen + ahead)
        noise = torch.randn(part.latent.shape, generator=generator).to(dynamics.device)
        memories = gone_on(dynamics, part, seen, how.noise * noise, told=True)
        assert memories.motions is not None
        found = memories.motions.found
        at = self._drawn(part, seen, generator)
        true, task = part.latent[at], part.task[at[0]]
        cells = None if part.weight is None else part.weight[at]
        row, memory = part.row[at], memories.at(*at)
        missed, amiss = self._missed(dynamics, memory, true, row, task, cells, generator)
        was_seen, counts = at[1] < seen, part.valid[at]
        losses = {
            "unseen": _mean(missed, counts & ~was_seen),
            "seen": how.shown * _mean(missed, counts & was_seen),
            "amiss": how.amiss * _mean(amiss, counts),
            "motion": how.motion * _lost(memories.motions, part.valid[:, seen:]),
            "found": FAITH * _mean(found.square().mean(dim=2), part.valid[:, seen:]),
        }
        if self.has_reward and how.worth:
            losses |= self._worth(worthy, memories, part)
        scores = {f"loss_{name}": value.item() for name, value in losses.items()}
        if batch[1] is not None:
            held = batch[1].to(dynamics.device)
            scores |= errors(dynamics, self.encoder, held, generator)
        return torch.stack(list(losses.values())).sum(), scores

    def _drawn(
        self, part: SequenceBatch, seen: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sequence and moment: of each sequence most that nobody saw, and a fourth as many of the
        others."""
        (b, t), many = part.valid.shape, self.how.moments
        unseen = torch.randint(seen, t, (b, many), generator=generator)
        shown = torch.randint(min(2, seen - 1), seen, (b, -(-many // 4)), generator=generator)
        when = torch.cat([unseen, shown], dim=1)
        which = torch.arange(b)[:, None].expand_as(when)
        return which.flatten().to(part.valid.device), when.flatten().to(part.valid.device)

    def _missed(
        self,
        dynamics: Dynamics,
        memory: Memory,
        latent: Float[Tensor, "n d"],
        row: Int[Tensor, "n"],
        task: Int[Tensor, "n"],
        cells: Float[Tensor, "n c"] | None,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """The mean of the picture's part by its cells' weights, and of proprioception's by its
        own; and how far the view is from where it fits."""
        how, first, n = self.how, dynamics.config.sigma_max, len(latent)
        drawn = (torch.randn(n, generator=generator) * how.sigma_std + how.sigma_mean).exp()
        at_first = torch.rand(n, generator=generator) < how.first_share
        sigma = torch.where(at_first, torch.tensor(first), drawn.clamp(0.05, 0.999 * first))
        sigma = sigma.to(latent.device)
        noise = torch.randn(latent.shape, generator=generator).to(latent.device)
        noisy = latent * (sigma < first)[:, None] + sigma[:, None] * noise
        told = latent[:, dynamics.code_size :]
        told = told + how.noise * torch.randn(told.shape, generator=generator).to(latent.device)
        context = dynamics.context_of(memory.numbers)
        frames, flow = dynamics.looked_back(self.encoder, memory, told)
        view, amiss = registered(dynamics, self.encoder, frames, flow, row)
        said = dynamics(noisy, sigma, context, view, told, task)
        off = huber_loss(said, latent, delta=how.delta, reduction="none")
        picture, felt = off.tensor_split((dynamics.code_size,), dim=1)
        missed = by_number(picture, cells).mean(1) + (
            how.proprio * felt.mean(1) if felt.shape[1] else 0
        )
        return missed * loss_weight(sigma, sigma_data=1.0).clamp(max=5.0), amiss

    def _worth(self, worthy: Worthy, memories: Memories, part: SequenceBatch) -> dict[str, Tensor]:
        dynamics, config = worthy.dynamics, worthy.config
        b, t = part.valid.shape
        asked = one_hot(part.task, int(dynamics.config.tasks)).repeat_interleave(t, 0)
        context = dynamics.context_of(memories.numbers.flatten(0, 1))
        said = worthy.worth(torch.cat([context, asked], dim=1)).to(context.dtype).view(b, t, 2)
        led = part.valid[:, 1:]
        reward = (part.reward[:, 1:][led] - config.reward_mean) / config.reward_scale
        off = reward_loss(said[:, 1:, 0][led], reward, rare=self.rare, delta=0.3)
        losses = {"reward": self.how.worth * off}
        if part.progress is not None:
            progress = said[..., 1][part.valid]
            off = huber_loss(progress, part.progress[part.valid], delta=0.05) / 0.05
            losses["progress"] = self.how.worth * off
        return losses


def _lost(motions: Motions, valid: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
    """By errors of each expected motion, and by what they add up to."""
    off = (motions.expected - motions.found.detach()) * valid[..., None]
    drift = off.cumsum(dim=1)
    each = huber_loss(off, torch.zeros_like(off), delta=0.3, reduction="none")
    summed = huber_loss(drift, torch.zeros_like(drift), delta=0.5, reduction="none")
    return _mean((each + DRIFT * summed).mean(dim=2), valid)


def _mean(values: Float[Tensor, "*n"], which: Bool[Tensor, "*n"]) -> Float[Tensor, ""]:
    """0 of none."""
    return (values * which).sum() / which.sum().clamp(min=1)


def _between(least: int, most: int, generator: torch.Generator) -> int:
    return int(torch.randint(least, max(most, least) + 1, (), generator=generator))


def cut(batch: SequenceBatch, length: int) -> SequenceBatch:
    """The first moments of each sequence."""
    return replace(
        batch,
        **{
            name: value[:, :length]
            for name in batch.__dataclass_fields__
            if (value := getattr(batch, name)) is not None and name != "task"
        },
    )


def remembered(dynamics: Dynamics, batch: SequenceBatch) -> Memories:
    """The memory of every moment, all of which are seen."""
    nothing = dynamics.nothing(len(batch.task), batch.row[0, 0])
    return dynamics.remember(nothing, batch.shown(), batch.action, batch.task)


def gone_on(
    dynamics: Dynamics,
    batch: SequenceBatch,
    seen: int,
    noise: Float[Tensor, "b t d"],
    *,
    told: bool,
) -> Memories:
    """The memory of every moment, of which the first ones were seen. Of the others it may be told
    how the camera moved."""
    shown = Shown(latent=(batch.latent + noise)[:, :seen], frames=batch.row[:, :seen])
    nothing = dynamics.nothing(len(batch.task), batch.row[0, 0])
    before = dynamics.remember(nothing, shown, batch.action[:, :seen], batch.task)
    moved = (batch.latent + noise)[:, seen - 1 :] if told else None
    known = before.of_moment(seen - 1)
    return before.then(dynamics.go_on(known, batch.action[:, seen:], batch.task, moved))


@torch.no_grad()
def errors(
    dynamics: Dynamics, encoder: FrameEncoder, batch: SequenceBatch, generator: torch.Generator
) -> dict[str, float]:
    """Of dreamt pictures, in standard deviations of all pictures' codes, so that 1 is to know
    nothing: so many steps after the first quarter of the sequences."""
    seen, told = max(1, batch.valid.shape[1] // 4), {}
    batch = cut(batch, seen + TOLD[-1])
    memories = gone_on(dynamics, batch, seen, torch.zeros_like(batch.latent), told=False)
    for steps in TOLD:
        if (at := seen - 1 + steps) >= batch.valid.shape[1]:
            break
        noise = torch.randn(batch.latent[:, at].shape, generator=generator).to(dynamics.device)
        memory = memories.of_moment(at)
        off = seen_next(dynamics, encoder, memory, batch.task, noise) - batch.latent[:, at]
        square = off[batch.valid[:, at], : dynamics.code_size].square()
        told[f"error_{steps}"] = float(square.mean().sqrt()) if len(square) else math.nan
    return told


def seen_next(
    dynamics: Dynamics,
    encoder: FrameEncoder,
    memory: Memory,
    task: Int[Tensor, "n"],
    noise: Float[Tensor, "n d"],
) -> Float[Tensor, "n d"]:
    """What is seen from there, by a single denoiser call."""
    first = dynamics.config.sigma_max
    sigmas = karras_sigmas(1, sigma_min=first, sigma_max=first).to(dynamics.device)
    return dynamics.seen_from(encoder, memory, task, noise, sigmas)


@torch.no_grad()
def rolled_out(
    dynamics: Dynamics,
    encoder: FrameEncoder,
    memory: Memory,
    action: Float[Tensor, "b n a"],
    task: Int[Tensor, "b"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b n d"], Memories]:
    """A dream of n steps, one denoiser call each."""
    (b, n), memories = action.shape[:2], dynamics.go_on(memory, action, task)
    noise = torch.randn(b * n, dynamics.latent_size, generator=generator).to(dynamics.device)
    which = torch.arange(b, device=dynamics.device).repeat_interleave(n)
    every = memories.at(which, torch.arange(n, device=dynamics.device).repeat(b))
    latents = seen_next(dynamics, encoder, every, task[which], noise)
    return latents.view(b, n, -1), memories


@torch.no_grad()
def filmstrip(
    tokenizer: Tokenizer, dynamics: Dynamics, batch: WindowBatch, *, shown: Sequence[int]
) -> UInt8[np.ndarray, "h w c"]:
    """Real above dream, for each window; `shown` are frames after the first half, 0 is its last."""
    device, frames = dynamics.device, torch.from_numpy(batch.frames)
    k = len(frames) - shown[-1]
    b = frames.shape[1]
    felt = np.zeros((len(frames), b, 0), np.float32) if batch.proprio is None else batch.proprio
    proprio = torch.from_numpy(felt)[:k, :, : tokenizer.proprio_size]
    seen = tokenizer.encode(frames[:k].flatten(0, 1).to(device), proprio.flatten(0, 1).to(device))
    latent = seen.view(k, b, -1).transpose(0, 1)
    action = torch.from_numpy(batch.action).to(device).transpose(0, 1)
    task = torch.from_numpy(batch.task).to(device) * (dynamics.config.tasks > 1)
    led = torch.cat([torch.zeros_like(action[:, :1]), action[:, : k - 1]], dim=1)
    number = torch.arange(k, device=device).expand(b, -1)
    shown_ = Shown(latent=latent, frames=number)
    memory = dynamics.remember(dynamics.nothing(b, number[0, 0]), shown_, led, task).of_moment(-1)
    rows = torch.arange(b, device=device)[:, None]
    memory = replace(memory, frames=frames[:k].to(device)[memory.frames, rows])
    generator = torch.Generator().manual_seed(0)
    encoder = FrameEncoder(tokenizer=tokenizer)
    dreamt, _ = rolled_out(dynamics, encoder, memory, action[:, k - 1 :], task, generator)
    dream = torch.cat([latent[:, -1:], dreamt], dim=1)
    painted = torch.stack([to_colour(tokenizer.decode(dream[:, j]).frames).cpu() for j in shown])
    rows = torch.stack([frames[[k - 1 + j for j in shown]], painted])  # 2, shown, window, h, w, c
    return rows.permute(2, 0, 3, 1, 4, 5).flatten(3, 4).flatten(0, 2).numpy()
