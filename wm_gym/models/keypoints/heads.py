"""What a latent is worth: reward and coverage, whether the episode ends, and how far the dream may
be off."""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor

from wm_gym.models.networks import network


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    reward: Float[Tensor, "b"]
    """Of the transition (z, a, z′)."""

    coverage: Float[Tensor, "b"]
    """In z′, within [0, 1]."""

    error: Float[Tensor, "b"]
    """How far z′ is expected to be from the truth because of this one step, root mean square."""

    ended: Bool[Tensor, "b"]
    """Whether z′ is more likely than not where an episode ends by itself."""


class Heads(ModelMixin, ConfigMixin):
    """Regression from the latents before and after a step. Coverage looks at z′ alone, so that a
    first frame has one too; the error is a dreamt step's own, in units of `change_scale`.

    With `ends` they have learned from episodes that terminated; without, none ever does.
    """

    @register_to_config
    def __init__(
        self,
        latent_size: int = 32,
        action_size: int = 2,
        width: int = 256,
        blocks: int = 2,
        latent_scale: float = 0.5,
        change_scale: float = 0.03,
        reward_mean: float = 0.0,
        reward_scale: float = 1.0,
        ends: bool = False,
    ) -> None:
        super().__init__()
        told = 2 * latent_size + action_size
        self.reward = network(told, width, blocks, 1)
        self.coverage = network(latent_size, width, blocks, 1)
        self.error = network(told, width, blocks, 1)
        self.end = network(told, width, blocks, 1) if ends else None

    def forward(
        self,
        latent: Float[Tensor, "b d"],
        action: Float[Tensor, "b a"],
        next_latent: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b n"]:
        """Reward in units of its scale, coverage, logarithm of the error in units of the change,
        and with `ends` the logit of an end."""
        config = self.config
        moved = (next_latent - latent) / (2 * config.change_scale)
        told = torch.cat([next_latent / config.latent_scale, moved, action], dim=1)
        coverage = self.coverage(next_latent / config.latent_scale)
        log_error = 8 * torch.tanh(self.error(told) / 8)  # so that its exponential is finite
        said = [self.reward(told), coverage, log_error]
        said += [] if self.end is None else [self.end(told)]
        return torch.cat(said, dim=1).to(latent.dtype)

    def judge(
        self,
        latent: Float[Tensor, "b d"],
        action: Float[Tensor, "b a"],
        next_latent: Float[Tensor, "b d"],
    ) -> Judgement:
        reward, coverage, log_error, *logit = self(latent, action, next_latent).unbind(1)
        return Judgement(
            reward=self.config.reward_mean + self.config.reward_scale * reward,
            coverage=coverage.clamp(0, 1),
            error=log_error.exp() * self.config.change_scale,
            ended=logit[0] > 0 if logit else torch.zeros_like(reward, dtype=torch.bool),
        )

    def coverage_of(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b"]:
        return self.coverage(latent / self.config.latent_scale)[:, 0].clamp(0, 1)
