"""Training the global model to dream: the next latent, from real contexts and from its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from wm_gym.data import Dataset
from wm_gym.models.edm import karras_sigmas, loss_weight
from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.training.keypoints.latents import LatentBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Dreaming:
    """How the global model is trained, besides how it is optimised."""

    blur: float = 0.1
    """Largest noise that is added to the last frames' latents, in units of a step's change."""

    first_share: float = 0.7
    """Share of the training samples whose noise level is the sampler's first."""

    sigma_mean: float = -0.4
    """Mean of the logarithm of the other samples' noise levels."""

    sigma_std: float = 1.2
    """Standard deviation of the logarithm of the other samples' noise levels."""

    softness: float = 0.1
    """Errors well below it count by their square, those well above by their size (pseudo-Huber);
    contact is chaotic, and its few large errors would drown all others."""


@dataclass(frozen=True, eq=False)
class DenoisingLoss:
    """Averaged over the latents that are predicted in a row."""

    dreaming: Dreaming
    rollout: int = 1
    """Latents that are predicted in a row, each from what was predicted before."""

    def __post_init__(self) -> None:
        if self.rollout < 1:
            raise ValueError(f"rollout is {self.rollout}, expected at least 1")

    def __call__(
        self, model: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        denoiser = cast(Denoiser, getattr(model, "module", model))
        config, device = denoiser.config, denoiser.device
        video, action = batch.latents.to(device), batch.action.to(device)
        k, b, losses, scores = config.context, len(video), [], {}
        context = video[:, :k]
        for j in range(self.rollout):
            acts, truth = action[:, j : j + k], video[:, k + j]
            blur = self.dreaming.blur * torch.rand(b, generator=generator).to(device).square()
            shaken = normal(context.shape, generator, device) * config.change_scale
            seen = context + blur[:, None, None] * shaken
            sigma = self._sigmas(b, config.sigma_max, generator).to(device)
            target = (truth - seen[:, -1]) / config.change_scale
            noisy = target + sigma[:, None] * normal(target.shape, generator, device)
            missed = (model(noisy, sigma, seen, acts, blur) - target).square().sum(1)
            soft = self.dreaming.softness
            weighted = missed * loss_weight(sigma, sigma_data=1.0) + soft**2
            losses.append((weighted.sqrt() - soft).mean())
            if j == 0:
                change = target.square().sum(1)
                first = sigma == config.sigma_max
                scores["error"] = (missed[first].mean() / change[first].mean()).sqrt().item()
            if j + 1 < self.rollout:
                dreamt = dream_one(denoiser, context, acts, generator)
                context = torch.cat([context[:, 1:], dreamt[:, None]], dim=1)
        return torch.stack(losses).mean(), scores

    def _sigmas(self, b: int, first: float, generator: torch.Generator) -> Float[Tensor, "b"]:
        how = self.dreaming
        drawn = (torch.randn(b, generator=generator) * how.sigma_std + how.sigma_mean).exp()
        at_first = torch.rand(b, generator=generator) < how.first_share
        return torch.where(at_first, torch.tensor(first), drawn.clamp(2e-3, 80.0))


@torch.no_grad()
def dream_one(
    model: Denoiser,
    context: Float[Tensor, "b k d"],
    action: Float[Tensor, "b k a"],
    generator: torch.Generator,
) -> Float[Tensor, "b d"]:
    """The next latent by a single denoiser call."""
    noise = normal(context[:, 0].shape, generator, context.device)
    return in_one_call(model, context, action, noise)


def in_one_call(
    model: Denoiser,
    context: Float[Tensor, "b k d"],
    action: Float[Tensor, "b k a"],
    noise: Float[Tensor, "b d"],
) -> Float[Tensor, "b d"]:
    first = model.config.sigma_max
    sigmas = karras_sigmas(1, sigma_min=first, sigma_max=first).to(context.device)
    return model.next_latent(context, action, noise, sigmas)


@torch.no_grad()
def astray(model: Denoiser, batch: LatentBatch, generator: torch.Generator) -> float:
    """How far dreams of whole windows are off, in units of the change of a step: the mean over
    steps, of the middle window."""
    k, device = model.config.context, model.device
    video, action = batch.latents.to(device), batch.action.to(device)
    context, missed = video[:, :k], []
    for j in range(video.shape[1] - k):
        dreamt = dream_one(model, context, action[:, j : j + k], generator)
        context = torch.cat([context[:, 1:], dreamt[:, None]], dim=1)
        missed.append((dreamt - video[:, k + j]).square().mean(1).sqrt())
    return float(torch.stack(missed).mean(0).median() / model.config.change_scale)


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Of a dataset's latents: what the models divide by."""

    latent: float
    change: float

    @classmethod
    def of(cls, dataset: Dataset, latents: Float32[np.ndarray, "n d"]) -> "Scales":
        rows = np.concatenate([e["start"] + np.arange(e["length"] - 1) for e in dataset.index])
        change = latents[rows + 1] - latents[rows]
        return cls(
            latent=max(float(latents[rows].std(axis=0).max()), 1e-6),
            change=max(float(np.sqrt(np.square(change).mean())), 1e-6),
        )


def normal(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=generator).to(device)
