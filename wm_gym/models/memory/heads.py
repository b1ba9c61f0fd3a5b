"""What a moment is worth: reward and progress, whether the episode ends, how far off it may be."""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wm_gym.models.memory.dynamics import one_hot
from wm_gym.models.networks import network

OLD = 100.0
"""Steps after the last real frame, about, that ages are told in units of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    reward: Float[Tensor, "b"]
    """Of the step that led here."""

    progress: Float[Tensor, "b"]
    """Within [0, 1]."""

    error: Float[Tensor, "b"]
    """How far the latent is expected to be off by now, root mean square."""

    ended: Bool[Tensor, "b"]
    """Whether this is more likely than not where an episode ends by itself."""


class Heads(ModelMixin, ConfigMixin):
    """Regression from what the frozen dynamics made of a moment, real or dreamt. The memory has
    been told the action that led here, so a reward of a transition needs no more.

    With `ends` they have learned from episodes that terminated; without, none ever does.
    """

    @register_to_config
    def __init__(
        self,
        latent_size: int = 64,
        context_size: int = 384,
        tasks: int = 1,
        width: int = 128,
        blocks: int = 1,
        reward_mean: float = 0.0,
        reward_scale: float = 1.0,
        ends: bool = False,
    ) -> None:
        super().__init__()
        told = latent_size + context_size + tasks
        self.reward = network(told, width, blocks, 1)
        self.progress = network(told, width, blocks, 1)
        self.error = network(told + 2, width, blocks, 1)
        self.end = network(told, width, blocks, 1) if ends else None

    def forward(
        self,
        latent: Float[Tensor, "b d"],
        context: Float[Tensor, "b m"],
        task: Int[Tensor, "b"],
        age: Int[Tensor, "b"],
    ) -> Float[Tensor, "b n"]:
        """Reward in units of its scale, progress, logarithm of the error, and with `ends` the logit
        of an end."""
        told = torch.cat([latent, context, one_hot(task, self.config.tasks)], dim=1)
        old = torch.stack([age / OLD, torch.log1p(age.to(told))], dim=1)
        log_error = 8 * torch.tanh(self.error(torch.cat([told, old.to(told)], dim=1)) / 8)
        said = [self.reward(told), self.progress(told), log_error]  # an exponential that is finite
        said += [] if self.end is None else [self.end(told)]
        return torch.cat(said, dim=1).to(latent.dtype)

    def judge(
        self,
        latent: Float[Tensor, "b d"],
        context: Float[Tensor, "b m"],
        task: Int[Tensor, "b"],
        age: Int[Tensor, "b"],
    ) -> Judgement:
        reward, progress, log_error, *logit = self(latent, context, task, age).unbind(1)
        return Judgement(
            reward=self.config.reward_mean + self.config.reward_scale * reward,
            progress=progress.clamp(0, 1),
            error=log_error.exp(),
            ended=logit[0] > 0 if logit else torch.zeros_like(reward, dtype=torch.bool),
        )
