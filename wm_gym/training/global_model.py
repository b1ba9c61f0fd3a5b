"""Training the global model to dream: next frames first, then its own rollouts.

What is drawn in step k depends on (seed, k, process) alone, so a run that was killed goes on along
the same trajectory of weights.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from torch import Tensor

from wm_gym.data import Dataset, Windows, prefetch
from wm_gym.models.edm import karras_sigmas, loss_weight
from wm_gym.models.global_model import GlobalModel
from wm_gym.training.rollout import next_frame


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalTraining:
    updates: int = 100_000
    """Optimiser steps."""

    batch_size: int = 64
    """Windows a step, in each process."""

    rollout: int = 1
    """Frames that are predicted in a row, each from what was predicted before."""

    learning_rate: float = 6e-4
    warmup: int = 500
    """Steps over which the learning rate rises."""

    decay: int = 5_000
    """Last steps, over which it falls to zero."""

    ema: float = 0.999
    """Decay of the averaged weights, which are the ones to use."""

    blur: float = 0.1
    """Largest noise put on the context frames; the model is told how much."""

    first_share: float = 0.5
    """Of the noise levels, how many are the sampler's first, from which it starts."""

    sigma_mean: float = -0.4
    sigma_std: float = 1.2
    """Of log σ, for the others."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size", "rollout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalUpdate:
    """What one optimiser step did."""

    step: int
    loss: float
    one_step_error: float
    """RMS error of a frame at the sampler's first level, over the RMS change between frames."""

    gradient_norm: float
    learning_rate: float


class GlobalTrainer:
    """The model, its average and its optimiser: all that a checkpoint holds."""

    def __init__(
        self, model: GlobalModel, config: GlobalTraining, accelerator: Accelerator
    ) -> None:
        self.config, self.accelerator = config, accelerator
        self.average = type(model).from_config(model.config)
        self.average.load_state_dict(model.state_dict())
        self.average.requires_grad_(False).eval().to(accelerator.device)
        optimiser = torch.optim.AdamW(
            model.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-2
        )
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def train(self, dataset: Dataset) -> Iterator[GlobalUpdate]:
        """Goes on from `step` to the last update."""
        config, accelerator = self.config, self.accelerator
        context = accelerator.unwrap_model(self.model).config.context
        windows = Windows(
            dataset,
            length=context + config.rollout,
            batch_size=config.batch_size,
            seed=config.seed * accelerator.num_processes + accelerator.process_index,
        )
        batches = prefetch(windows, start=self.step)
        self.model.train()
        try:
            while self.step < config.updates:
                batch = next(batches)
                frames = torch.from_numpy(batch.frames).to(accelerator.device)
                action = torch.from_numpy(batch.action).to(accelerator.device)
                yield self._update(frames, action)
        finally:
            batches.close()

    def _update(
        self, frames: UInt8[Tensor, "t b h w c"], action: Float[Tensor, "t0 b a"]
    ) -> GlobalUpdate:
        config = self.config
        drawn = np.random.SeedSequence((config.seed, self.step, self.accelerator.process_index))
        generator = torch.Generator().manual_seed(int(drawn.generate_state(1)[0]))
        rate = config.learning_rate * _schedule(self.step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        video = frames.permute(1, 0, 4, 2, 3).float() / 127.5 - 1
        loss, error = self._losses(video, action.transpose(0, 1), generator)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self._move_average()
        return GlobalUpdate(
            step=self.step,
            loss=loss.item(),
            one_step_error=error,
            gradient_norm=float(norm),
            learning_rate=rate,
        )

    def _losses(
        self,
        video: Float[Tensor, "b t c h w"],
        action: Float[Tensor, "b t0 a"],
        generator: torch.Generator,
    ) -> tuple[Tensor, float]:
        """The weighted denoising loss, averaged over the frames that are predicted in a row."""
        model, settings = self.model, self.accelerator.unwrap_model(self.model).config
        k, context, losses, error = settings.context, video[:, : settings.context], [], math.nan
        for j in range(self.config.rollout):
            target, acts = video[:, k + j], action[:, j : j + k]
            sigma = self._sigmas(len(video), settings.sigma_max, generator).to(video.device)
            noise = _normal(target.shape, generator, video.device)
            blur = self.config.blur * torch.rand(len(video), generator=generator).to(video.device)
            blur = blur.square() / max(self.config.blur, 1e-9)  # mostly little
            seen = context + blur[:, None, None, None, None] * _normal(
                context.shape, generator, video.device
            )
            with self.accelerator.autocast():
                clean = model(target + sigma[:, None, None, None] * noise, sigma, seen, acts, blur)
            each = (clean - target).square().mean((1, 2, 3))
            losses.append((each * loss_weight(sigma, settings.sigma_data)).mean())
            first = sigma == settings.sigma_max
            if j == 0 and first.any():
                change = (target - video[:, k - 1]).square().mean((1, 2, 3))[first].mean()
                error = (each[first].mean() / change).sqrt().item()
            if j + 1 < self.config.rollout:
                dreamt = self._dream(context, acts, generator)
                context = torch.cat([context[:, 1:], dreamt[:, None]], dim=1)
        return torch.stack(losses).mean(), error

    def _dream(self, frames: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """One frame by a single denoiser call."""
        first = self.accelerator.unwrap_model(self.model).config.sigma_max
        sigmas = karras_sigmas(1, sigma_min=first, sigma_max=first).to(frames.device)
        noise = _normal(frames[:, 0].shape, generator, frames.device)
        with self.accelerator.autocast():
            return next_frame(self.model, frames, action, noise, sigmas)

    def _sigmas(self, b: int, first: float, generator: torch.Generator) -> Float[Tensor, "b"]:
        config = self.config
        drawn = (torch.randn(b, generator=generator) * config.sigma_std + config.sigma_mean).exp()
        at_first = torch.rand(b, generator=generator) < config.first_share
        return torch.where(at_first, torch.tensor(first), drawn.clamp(2e-3, 80.0))

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        model = self.accelerator.unwrap_model(self.model)
        for mean, now in zip(self.average.parameters(), model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)


def _normal(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=generator).to(device)


def _schedule(step: int, config: GlobalTraining) -> float:
    rise = min(1.0, (step + 1) / max(config.warmup, 1))
    fall = min(1.0, (config.updates - step) / max(config.decay, 1))
    return rise * fall
