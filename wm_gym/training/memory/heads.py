"""Training the heads, on what the frozen dynamics make of real moments and of dreamt ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from wm_gym.models.memory.dynamics import Dynamics, FrameEncoder
from wm_gym.models.memory.heads import Heads
from wm_gym.models.rewards import reward_loss
from wm_gym.training.memory.dynamics import remembered, rolled_out
from wm_gym.training.memory.sequences import SequenceBatch


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """What heads are shown of sequences: first all that is real, then what was dreamt."""

    latent: Float[Tensor, "b n d"]
    context: Float[Tensor, "b n m"]
    age: Tensor
    at: Tensor
    """When each of them is, within its sequence."""


@torch.no_grad()
def moments(
    dynamics: Dynamics,
    encoder: FrameEncoder,
    batch: SequenceBatch,
    rollout: int,
    generator: torch.Generator,
) -> Moments:
    """Dreams begin somewhere in the sequence, and last so many steps."""
    (b, t), many = batch.valid.shape, min(rollout, batch.valid.shape[1] - 1)
    begin = int(torch.randint(1, t - many + 1, (), generator=generator))
    memories = remembered(dynamics, batch)
    acted = batch.action[:, begin : begin + many]
    before = memories.of_moment(begin - 1)
    dreamt, gone = rolled_out(dynamics, encoder, before, acted, batch.task, generator)
    every = torch.cat([memories.numbers, gone.numbers], dim=1)
    device = batch.latent.device
    age = torch.cat([torch.zeros(t, dtype=torch.int64), torch.arange(1, many + 1)])
    at = torch.cat([torch.arange(t), begin + torch.arange(many)])
    return Moments(
        latent=torch.cat([batch.latent, dreamt], dim=1),
        context=dynamics.context_of(every.flatten(0, 1)).view(b, t + many, -1),
        age=age.to(device),
        at=at.to(device),
    )


@dataclass(frozen=True, eq=False)
class JudgingLoss:
    """Reward, progress and end of real and dreamt moments; the error of the dreamt ones.

    The error e of a dream is taken for normal with the predicted scale s: log s + e²/2s², which is
    smallest where s² is the mean of e².
    """

    dynamics: Dynamics
    encoder: FrameEncoder
    rollout: int
    rare: bool = False
    """Whether the log's rewards are (`models.rewards.are_rare`)."""

    def __call__(
        self,
        model: nn.Module,
        batch: tuple[SequenceBatch, SequenceBatch | None],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        heads = cast(Heads, getattr(model, "module", model))
        device, scores = self.dynamics.device, dict[str, float]()
        losses, _ = self._judged(heads, batch[0].to(device), generator)
        if batch[1] is not None:
            with torch.no_grad():
                _, off = self._judged(heads, batch[1].to(device), generator)
            scores = {name: error.abs().mean().item() for name, error in off.items()}
        return torch.stack(list(losses.values())).sum(), scores

    def _judged(
        self, heads: Heads, batch: SequenceBatch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        config = heads.config
        shown = moments(self.dynamics, self.encoder, batch, self.rollout, generator)
        b, n = shown.latent.shape[:2]
        said = heads(
            shown.latent.flatten(0, 1), shown.context.flatten(0, 1),
            batch.task.repeat_interleave(n), shown.age.repeat(b),
        ).view(b, n, -1)  # fmt: skip
        valid = batch.valid[:, shown.at]
        led = valid & (shown.at > 0)
        reward = (batch.reward[:, shown.at][led] - config.reward_mean) / config.reward_scale
        losses = {"reward": reward_loss(said[..., 0][led], reward, rare=self.rare)}
        off = {"reward_error": (said[..., 0][led] - reward) * config.reward_scale}
        if batch.progress is not None:
            progress, told = batch.progress[:, shown.at][valid], said[..., 1][valid]
            losses["progress"] = huber_loss(told, progress, delta=0.02) / 0.02
            off["progress_error"] = told - progress
        if config.ends:
            ended, logit = batch.terminated[:, shown.at][led].to(said), said[..., 3][led]
            losses["end"] = binary_cross_entropy_with_logits(logit, ended)
            off["end_error"] = torch.sigmoid(logit) - ended
        dreamt = (shown.age > 0) & valid
        away = (
            (shown.latent - batch.latent[:, shown.at])[..., : self.dynamics.code_size]
            .square()
            .mean(2)
        )
        missed, log_error = away[dreamt], said[..., 2][dreamt]
        doubt = log_error + 0.5 * missed * torch.exp(-2 * log_error)
        losses["doubt"] = 0.1 * doubt.mean() if len(doubt) else said[..., 2].sum() * 0
        off["uncertainty_error"] = torch.exp(log_error) - missed.sqrt()
        return losses, off


@torch.no_grad()
def said_by_heads(heads: Heads, dynamics: Dynamics, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """The reward of each real step, as it is said and as it was paid."""
    b, t = batch.valid.shape
    memories = remembered(dynamics, batch)
    context = dynamics.context_of(memories.numbers.flatten(0, 1))
    said = heads.judge(
        batch.latent.flatten(0, 1), context, batch.task.repeat_interleave(t),
        torch.zeros(b * t, dtype=torch.int64, device=batch.latent.device),
    ).reward.view(b, t)  # fmt: skip
    led = batch.valid[:, 1:]
    return said[:, 1:][led], batch.reward[:, 1:][led]
