"""Training the heads, on what was logged and on the frozen dream's own errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.rewards import reward_loss
from wm_gym.training.keypoints.denoiser import dream_one
from wm_gym.training.keypoints.latents import LatentBatch


@dataclass(frozen=True, eq=False)
class JudgingLoss:
    """Reward, coverage and end of real transitions; the error of a dreamt step from a real context.

    The error e of a step is taken for normal with the predicted scale s: log s + e²/2s², which is
    smallest where s² is the mean of e².
    """

    dreamer: Denoiser
    rare: bool = False
    """Whether the log's rewards are (`models.rewards.are_rare`)."""

    def __call__(
        self, model: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        heads = cast(Heads, getattr(model, "module", model))
        config, device, k = heads.config, heads.device, self.dreamer.config.context
        latents, action = batch.latents.to(device), batch.action.to(device)
        now, acted, truth = latents[:, k - 1], action[:, k - 1], latents[:, k]
        dreamt = dream_one(self.dreamer, latents[:, :k], action[:, :k], generator)
        missed = ((dreamt - truth) / config.change_scale).square().mean(1)
        both = [torch.cat(pair) for pair in ((now, now), (acted, acted), (truth, dreamt))]
        real, dream = model(*both).chunk(2)
        reward = (batch.reward[:, k - 1].to(device) - config.reward_mean) / config.reward_scale
        log_error = dream[:, 2]
        losses = {"reward": reward_loss(real[:, 0], reward, rare=self.rare)}
        off = {"reward_error": (real[:, 0] - reward).detach() * config.reward_scale}
        if batch.coverage is not None:
            coverage = batch.coverage[:, k].to(device)
            losses["coverage"] = huber_loss(real[:, 1], coverage, delta=0.02) / 0.02
            off["coverage_error"] = (real[:, 1] - coverage).detach()
        if config.ends:
            ended = batch.terminated[:, k - 1].to(real)
            losses["end"] = binary_cross_entropy_with_logits(real[:, 3], ended)
            off["end_error"] = (torch.sigmoid(real[:, 3]) - ended).detach()
        losses["doubt"] = 0.1 * (log_error + 0.5 * missed * torch.exp(-2 * log_error)).mean()
        scores = {name: error.abs().mean().item() for name, error in off.items()}
        return torch.stack(list(losses.values())).sum(), scores
