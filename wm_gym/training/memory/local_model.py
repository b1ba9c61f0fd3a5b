"""Training the local model: a filter of latents, what it expects, and what other actions would have
done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.models.memory.dynamics import Dynamics, FrameEncoder, Memories
from wm_gym.models.memory.local_model import Follower
from wm_gym.models.rewards import reward_loss
from wm_gym.models.surrogate import soft
from wm_gym.training.memory.dynamics import remembered, seen_next
from wm_gym.training.memory.sequences import SequenceBatch

ASKED = 8
"""Of so many steps one is asked what another action would have done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """Weights of the local model's losses; that of what it expects next is 1."""

    ahead: float = 0.5
    """Weight of what it expects of some steps in a row, without a look."""

    steps: int = 6
    """How many steps these are."""

    recall: float = 0.5
    """Weight of telling, by features, what the global model remembers."""

    reward: float = 1.0
    """Weight of predicting the reward."""

    progress: float = 1.0
    """Weight of predicting task progress."""

    what_if: float = 2.0
    """Weight of predicting how another action would have changed the next step."""

    what_if_reach: float = 0.3
    """Standard deviation of how far the other action is from the logged one."""


class Recalling(ModelMixin, ConfigMixin):
    """A follower, and a layer that reads the global model's memory in its features, which is thrown
    away after."""

    @register_to_config
    def __init__(self, sizes: Mapping[str, Any] | None = None, context_size: int = 384) -> None:
        super().__init__()
        self.follower = Follower(**(sizes or {}))
        self.recall = nn.Linear(self.follower.feature_size, context_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """One pass over sequences: features, and what the global model made of the same moments."""

    features: Float[Tensor, "b t f"]
    memories: Memories
    valid: Bool[Tensor, "b t0"]
    """Of each step between moments."""


@dataclass(frozen=True, eq=False)
class FollowingLoss:
    """Distances are in units of the change of a step, and pseudo-Huber.

    Logs say what one action did. What another would have done, the global model says: with common
    noise z′(a*) − z′(a) is what the expected latent should change by.
    """

    how: Following
    dynamics: Dynamics
    encoder: FrameEncoder
    rare: bool = False
    """Whether the log's rewards are (`models.rewards.are_rare`)."""

    def __call__(
        self,
        model: nn.Module,
        batch: tuple[SequenceBatch, SequenceBatch | None],
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        recalling = cast(Recalling, getattr(model, "module", model))
        device, scores = self.dynamics.device, dict[str, float]()
        losses, _ = self._followed(recalling, batch[0].to(device), generator)
        if batch[1] is not None:
            with torch.no_grad():
                _, scores = self._followed(recalling, batch[1].to(device), generator)
        return torch.stack(list(losses.values())).sum(), scores

    def _followed(
        self, model: Recalling, batch: SequenceBatch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        follower, how = model.follower, self.how
        seen = followed(follower, self.dynamics, batch)
        before, led = seen.features[:, :-1], batch.action[:, 1:]
        here, acted = before[seen.valid], led[seen.valid]
        expected = follower.dynamics.expected(here, acted)
        off = self._apart(follower, expected - batch.latent[:, 1:][seen.valid])
        ahead = self._ahead(follower, batch, seen, generator)
        unforeseen = self._what_if(follower, batch, seen, generator)
        told = seen.features[batch.valid]
        context = self.dynamics.context_of(seen.memories.numbers[batch.valid])
        recalled = (model.recall(told) - context).square().mean()
        losses = {
            "expected": soft(off).mean(),
            "ahead": how.ahead * ahead,
            "what_if": how.what_if * soft(unforeseen).mean(),
            "recall": how.recall * recalled,
            **self._worth(follower, batch, seen, expected),
        }
        scores = {
            "error": off.mean().sqrt().item(),
            "what_if_error": unforeseen.mean().sqrt().item(),
            **{f"loss_{name}": value.item() for name, value in losses.items()},
        }
        return losses, scores

    def _apart(self, follower: Follower, off: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Mean squares of the picture's part, and a fifth of proprioception's."""
        unit = off / follower.dynamics.change
        picture, felt = unit[:, : self.dynamics.code_size], unit[:, self.dynamics.code_size :]
        square = picture.square().mean(1)
        return square + 0.2 * felt.square().mean(1) if felt.shape[1] else square

    def _ahead(
        self,
        follower: Follower,
        batch: SequenceBatch,
        seen: Followed,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """From one moment of each sequence on, by itself."""
        b, t = batch.valid.shape
        many = min(self.how.steps, t - 1)
        rows = torch.arange(b, device=batch.valid.device)
        first = torch.randint(t - many, (b,), generator=generator).to(rows.device)
        features, missed = seen.features[rows, first], []
        for j in range(1, many + 1):
            features = follower.dynamics(features, batch.action[rows, first + j])
            off = follower.dynamics.parts(features)[1] - batch.latent[rows, first + j]
            missed.append(soft(self._apart(follower, off)) * batch.valid[rows, first + j])
        return torch.stack(missed).mean()

    def _worth(
        self,
        follower: Follower,
        batch: SequenceBatch,
        seen: Followed,
        expected: Float[Tensor, "n d"],
    ) -> dict[str, Tensor]:
        """Reward and progress of what is seen, and the reward of what is expected."""
        config, led = follower.config, batch.action[:, 1:][seen.valid]
        reward = batch.reward[:, 1:][seen.valid]
        after = follower.dynamics.seen(seen.features[:, :-1][seen.valid], led, expected)
        losses = {}
        for name, features, weight in (
            ("reward", seen.features[:, 1:][seen.valid], 1.0),
            ("expected_reward", after, 0.25),
        ):
            missed = (follower.reward_of(features, led) - reward) / config.reward_scale
            loss = reward_loss(missed, torch.zeros_like(missed), rare=self.rare)
            losses[name] = self.how.reward * weight * loss
        if batch.progress is not None:
            told = follower.progress_of(seen.features[batch.valid])
            off = huber_loss(told, batch.progress[batch.valid], delta=0.02) / 0.02
            losses["progress"] = self.how.progress * off
        return losses

    def _what_if(
        self,
        follower: Follower,
        batch: SequenceBatch,
        seen: Followed,
        generator: torch.Generator,
    ) -> Float[Tensor, "n"]:
        which = self._asked(seen.valid, generator)
        latent, memory = batch.latent[:, :-1][which], seen.memories.at(*which)
        task, action = batch.task[which[0]], batch.action[:, 1:][which]
        other = self._other(action, generator)
        with torch.no_grad():
            noise = torch.randn(latent.shape, generator=generator).to(latent.device)
            here, there = (
                seen_next(
                    self.dynamics,
                    self.encoder,
                    self.dynamics.after(memory, each, task),
                    task,
                    noise,
                )
                for each in (action, other)
            )
        features = seen.features[:, :-1][which].detach()
        there_here = follower.dynamics.expected(features.repeat(2, 1), torch.cat([other, action]))
        moved = there_here[: len(other)] - there_here[len(other) :]
        return self._apart(follower, moved - (there - here))

    def _asked(
        self, valid: Bool[Tensor, "b t0"], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sequence and moment of a few steps: a painter takes its time."""
        every = valid.cpu().nonzero()
        few = every[torch.randperm(len(every), generator=generator)[: -(-len(every) // ASKED)]]
        return few[:, 0].to(valid.device), few[:, 1].to(valid.device)

    def _other(
        self, action: Float[Tensor, "n a"], generator: torch.Generator
    ) -> Float[Tensor, "n a"]:
        drawn = torch.randn(action.shape, generator=generator) * self.how.what_if_reach
        near = action + drawn.to(action.device)
        anywhere = torch.rand(action.shape, generator=generator).to(action.device) * 2 - 1
        half = torch.arange(len(action), device=action.device)[:, None] % 2 == 0
        return torch.where(half, near, anywhere).clamp(-1, 1)


def followed(follower: Follower, dynamics: Dynamics, batch: SequenceBatch) -> Followed:
    """The filter through sequences, and the frozen memory beside it."""
    with torch.no_grad():
        memories = remembered(dynamics, batch)
    return Followed(features=filtered(follower, batch), memories=memories, valid=batch.valid[:, 1:])


def filtered(follower: Follower, batch: SequenceBatch) -> Float[Tensor, "b t f"]:
    """What a policy would see."""
    features = [follower.begin(batch.latent[:, 0], batch.task)]
    for j in range(1, batch.valid.shape[1]):
        led, seen = batch.action[:, j], batch.latent[:, j]
        features.append(follower.dynamics.seen(features[-1], led, seen))
    return torch.stack(features, dim=1)


@torch.no_grad()
def said_by_follower(follower: Follower, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """The reward of each step, from what the filter knows after it, and as it was paid."""
    features = filtered(follower, batch)
    led = batch.valid[:, 1:]
    said = follower.reward_of(features[:, 1:][led], batch.action[:, 1:][led])
    return said, batch.reward[:, 1:][led]
