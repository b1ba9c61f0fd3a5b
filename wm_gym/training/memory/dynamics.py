"""Training the dynamics: the next latent, from all that was seen before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.data import WindowBatch
from wm_gym.models.colours import to_colour
from wm_gym.models.edm import karras_sigmas, loss_weight
from wm_gym.models.memory.dynamics import Dynamics
from wm_gym.models.memory.tokenizer import Tokenizer
from wm_gym.training.memory.sequences import SequenceBatch

SETTLED = 8
"""Frames that come before the first hidden one, and before the first whose error is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembering:
    """How the dynamics are trained, besides how they are optimised."""

    blur: float = 1.0
    """Largest noise that is added to a sequence's latents, in units of a step's change."""

    blurred: float = 0.8
    """Share of the sequences that noise is added to."""

    hidden: float = 0.5
    """Share of the sequences of which some frames in a row are not shown."""

    longest_hidden: int = 24
    """Most frames in a row that are not shown."""

    first_share: float = 0.5
    """Share of the training samples whose noise level is the sampler's first."""

    sigma_mean: float = 0.5
    """Mean of the logarithm of the other samples' noise levels."""

    sigma_std: float = 1.5
    """Standard deviation of the logarithm of the other samples' noise levels."""

    delta: float = 3.0
    """Errors below it, in units of a step's change, count by their square, others by their size."""

    proprio: float = 0.2
    """Weight of predicting proprioception; that of the picture is 1."""


@dataclass(frozen=True, eq=False)
class DynamicsLoss:
    how: Remembering
    code_size: int

    def __call__(
        self,
        model: nn.Module,
        batch: tuple[SequenceBatch, SequenceBatch],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        dynamics = cast(Dynamics, getattr(model, "module", model))
        learned, held = (each.to(dynamics.device) for each in batch)
        latent, action, change = learned.latent, learned.action, dynamics.change
        (b, t, d), device, how = latent.shape, latent.device, self.how
        blur = torch.rand(b, generator=generator).square()
        blur = (blur * (torch.rand(b, generator=generator) < how.blurred)).to(device) * how.blur
        noise = torch.randn(latent.shape, generator=generator).to(device)
        seen = latent + blur[:, None, None] * change * noise
        known = self._known(b, t, generator).to(device)
        context, _ = dynamics.remember(
            dynamics.nothing(b), seen, action, known.to(latent), blur, learned.task
        )
        target = (latent[:, 1:] - seen[:, :-1]) / change
        sigma = self._sigmas(b * (t - 1), dynamics.config.sigma_max, generator).to(device)
        drawn = torch.randn(b * (t - 1), d, generator=generator).to(device)
        signal = target.flatten(0, 1) * (sigma < dynamics.config.sigma_max)[:, None]
        noisy = signal + sigma[:, None] * drawn
        said = dynamics(
            noisy, sigma, seen[:, :-1].flatten(0, 1), context[:, :-1].flatten(0, 1),
            action[:, 1:].flatten(0, 1), blur.repeat_interleave(t - 1),
            learned.task.repeat_interleave(t - 1),
        )  # fmt: skip
        counts = (known[:, :-1] & learned.valid[:, 1:]).flatten().to(latent)
        missed = huber_loss(said, target.flatten(0, 1), delta=how.delta, reduction="none")
        weight = loss_weight(sigma, sigma_data=1.0).clamp(max=5.0) * counts
        part = self._parted(missed) * weight
        return part.sum() / counts.sum().clamp(min=1), {
            "error": one_call_error(dynamics, held, self.code_size, generator),
            "learned_error": one_call_error(
                dynamics, learned_few(learned, len(held.task)), self.code_size, generator
            ),
        }

    def _parted(self, missed: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """The mean of the picture's part, and of proprioception's by its weight."""
        picture, felt = missed[:, : self.code_size], missed[:, self.code_size :]
        if not felt.shape[1]:
            return picture.mean(1)
        return picture.mean(1) + self.how.proprio * felt.mean(1)

    def _known(self, b: int, t: int, generator: torch.Generator) -> Bool[Tensor, "b t"]:
        """Some frames in a row are hidden, after a while."""
        settled = min(SETTLED, max(1, t // 4))
        first = torch.randint(settled, max(t - settled, settled + 1), (b, 1), generator=generator)
        many = torch.randint(1, self.how.longest_hidden + 1, (b, 1), generator=generator)
        chosen = torch.rand(b, 1, generator=generator) < self.how.hidden
        now = torch.arange(t)
        return ~(chosen & (now >= first) & (now < first + many))

    def _sigmas(self, n: int, first: float, generator: torch.Generator) -> Float[Tensor, "n"]:
        how = self.how
        drawn = (torch.randn(n, generator=generator) * how.sigma_std + how.sigma_mean).exp()
        at_first = torch.rand(n, generator=generator) < how.first_share
        return torch.where(at_first, torch.tensor(first), drawn.clamp(0.05, 0.999 * first))


def learned_few(batch: SequenceBatch, n: int) -> SequenceBatch:
    """The first n sequences."""
    few = {
        name: value[:n]
        for name in batch.__dataclass_fields__
        if (value := getattr(batch, name)) is not None
    }
    return SequenceBatch(**{"progress": None, **few})


@torch.no_grad()
def one_call_error(
    dynamics: Dynamics, batch: SequenceBatch, code_size: int, generator: torch.Generator
) -> float:
    """Of one dreamt step's picture, from all that was seen before, in units of the mean change."""
    latent, (b, t) = batch.latent, batch.valid.shape
    still, known = latent.new_zeros(b), latent.new_ones(b, t)
    context, _ = dynamics.remember(
        dynamics.nothing(b), latent, batch.action, known, still, batch.task
    )
    noise = torch.randn(latent[:, 1:].shape, generator=generator).to(latent.device)
    after = next_of(
        dynamics, latent[:, :-1].flatten(0, 1), context[:, :-1].flatten(0, 1),
        batch.action[:, 1:].flatten(0, 1), batch.task.repeat_interleave(t - 1),
        noise.flatten(0, 1),
    ).view(b, t - 1, -1)  # fmt: skip
    settled = min(SETTLED, t // 2)
    counts = batch.valid[:, 1:][:, settled:]
    missed, moved = (
        each[:, settled:, :code_size].square().mean(2)[counts].mean()
        for each in (after - latent[:, 1:], latent[:, 1:] - latent[:, :-1])
    )
    return float((missed / moved.clamp(min=1e-12)).sqrt())


def next_of(
    dynamics: Dynamics,
    latent: Float[Tensor, "n d"],
    context: Float[Tensor, "n m"],
    action: Float[Tensor, "n a"],
    task: Int[Tensor, "n"],
    noise: Float[Tensor, "n d"],
) -> Float[Tensor, "n d"]:
    """The next latent by a single denoiser call."""
    first = dynamics.config.sigma_max
    sigmas = karras_sigmas(1, sigma_min=first, sigma_max=first).to(latent.device)
    return dynamics.next_latent(latent, context, action, task, noise, sigmas)


@torch.no_grad()
def rolled_out(
    dynamics: Dynamics,
    latent: Float[Tensor, "b d"],
    memory: Float[Tensor, "b l m"],
    action: Float[Tensor, "b n a"],
    task: Int[Tensor, "b"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n m"]]:
    """A dream of n steps, one denoiser call each: latents, and what is made of them."""
    latents, contexts, still = [], [dynamics.context_of(memory)], latent.new_zeros(len(latent))
    for t in range(action.shape[1]):
        noise = torch.randn(latent.shape, generator=generator).to(latent.device)
        latent = next_of(dynamics, latent, contexts[-1], action[:, t], task, noise)
        told = latent[:, None], action[:, t : t + 1], still[:, None] + 1
        context, memory = dynamics.remember(memory, *told, still, task)
        latents.append(latent)
        contexts.append(context[:, 0])
    return torch.stack(latents, dim=1), torch.stack(contexts[1:], dim=1)


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
    known, still = latent.new_ones(b, k), latent.new_zeros(b)
    _, memory = dynamics.remember(dynamics.nothing(b), latent, led, known, still, task)
    generator = torch.Generator().manual_seed(0)
    dreamt, _ = rolled_out(dynamics, latent[:, -1], memory, action[:, k - 1 :], task, generator)
    dream = torch.cat([latent[:, -1:], dreamt], dim=1)
    painted = torch.stack([to_colour(tokenizer.decode(dream[:, j]).frames).cpu() for j in shown])
    rows = torch.stack([frames[[k - 1 + j for j in shown]], painted])  # 2, shown, window, h, w, c
    return rows.permute(2, 0, 3, 1, 4, 5).flatten(3, 4).flatten(0, 2).numpy()
