"""Training the local model: a filter of embeddings, and what it expects of the next one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from wm_gym.models.keypoints.denoiser import Denoiser
from wm_gym.models.keypoints.local_model import Belief, KeypointLocalModel
from wm_gym.models.rewards import reward_loss
from wm_gym.models.surrogate import soft
from wm_gym.training.keypoints.denoiser import in_one_call, normal
from wm_gym.training.keypoints.latents import LatentBatch, LatentWindows


@dataclass(frozen=True, kw_only=True, eq=False)
class FilterBatch:
    embedding: Float[Tensor, "b t s"]
    logged: LatentBatch


@dataclass(frozen=True, kw_only=True, eq=False)
class FilterWindows:
    logged: LatentWindows
    embedding: Float32[np.ndarray, "n s"]

    def batch(self, k: int) -> FilterBatch:
        rows = self.logged.windows.rows(k).T
        return FilterBatch(
            embedding=torch.from_numpy(self.embedding[rows]), logged=self.logged.batch(k)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Filtering:
    """Weights of the local model's losses."""

    posterior: float = 0.1
    """Weight of the divergence that pulls the posterior to the prior; the other way it is 1."""

    reconstruction: float = 10.0
    """Weight of reconstructing what was seen."""

    reward: float = 1.0
    """Weight of predicting the reward."""

    coverage: float = 1.0
    """Weight of predicting task progress."""

    what_if: float = 4.0
    """Weight of predicting how another action would have changed the next step."""

    what_if_reach: float = 0.3
    """Standard deviation of how far the other action is from the logged one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WhatIf:
    """Of b windows, one after the other, from the first frame on that has enough before it."""

    action: Float[Tensor, "n a"]
    other: Float[Tensor, "n a"]
    change: Float[Tensor, "n d"]
    """Of the next latent, had the action been the other one."""

    def missed(
        self, local_model: KeypointLocalModel, features: Float[Tensor, "b t f"]
    ) -> Float[Tensor, "n"]:
        """Squared errors of the prior, in units of the change of a step."""
        many = len(self.action) // len(features)
        before = features[:, -1 - many : -1].flatten(0, 1)
        both = torch.cat([self.other, self.action])
        there, here = local_model.expected(before.repeat(2, 1), both).mean.chunk(2)
        off = (there - here - self.change) / local_model.config.change_scale
        return off.square().mean(1)


@dataclass(frozen=True, eq=False)
class FilteringLoss:
    """The evidence bound of a recurrent state-space model, with reward and coverage.

        KL(sg q ‖ p) + β KL(q ‖ sg p)  +  reconstruction  +  reward  +  coverage

    a mean over dimensions and steps; sg stops gradients (KL balancing, Hafner et al. 2021).
    Distances are in units of the change of a step, and pseudo-Huber.

    Logs say what one action did in a state. What another one would have done, the global model
    says: with common noise z′(a*) − z′(a) is what the prior's mean should change by. The gradients
    that the local model is for are this, for small a* − a.
    """

    filtering: Filtering
    dreamer: Denoiser
    rare: bool = False
    """Whether the log's rewards are (`models.rewards.are_rare`)."""

    def __call__(
        self, model: nn.Module, batch: FilterBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        local_model = cast(KeypointLocalModel, getattr(model, "module", model))
        what_if = self._other_actions(local_model, batch, generator)
        return self._judged(local_model, batch, what_if, generator)

    def _judged(
        self,
        local_model: KeypointLocalModel,
        batch: FilterBatch,
        what_if: "WhatIf",
        generator: torch.Generator,
    ) -> tuple[Tensor, Mapping[str, float]]:
        config, how, device = local_model.config, self.filtering, local_model.device
        embedding, action = batch.embedding.to(device), batch.logged.action.to(device)
        latents, reward = batch.logged.latents.to(device), batch.logged.reward.to(device)

        belief = local_model.begun(embedding[:, 0])
        features, priors, posteriors = [_drawn(belief, generator)], [], []
        for t in range(action.shape[1]):
            prior = local_model.expected(features[-1], action[:, t])
            belief = local_model.infer(prior, embedding[:, t + 1])
            features.append(_drawn(belief, generator))
            priors.append(prior)
            posteriors.append(belief)

        known = torch.stack([belief.features.detach() for belief in posteriors], dim=1)
        unforeseen = what_if.missed(local_model, known)
        found = torch.stack(features, dim=1)
        every, after = found.flatten(0, 1), found[:, 1:].flatten(0, 1)
        off = (local_model.reconstruct(every) - latents.flatten(0, 1)) / config.change_scale
        earned = local_model.reward_of(after, action.flatten(0, 1)) - reward.flatten()
        missed_reward = earned / config.reward_scale
        covered = self._covered(local_model, every, batch.logged)
        losses = {
            "prior": divergence(_detached(posteriors), priors),
            "posterior": how.posterior * divergence(posteriors, _detached(priors)),
            "reconstruction": how.reconstruction * soft(off.square().mean(1)).mean(),
            "reward": how.reward
            * reward_loss(missed_reward, torch.zeros_like(missed_reward), rare=self.rare),
            **({} if covered is None else {"coverage": how.coverage * _huber(covered, 0.02)}),
            "what_if": how.what_if * soft(unforeseen).mean(),
        }
        with torch.no_grad():
            missed = torch.stack([p.mean - q.mean for p, q in zip(priors, posteriors, strict=True)])
            scores = {
                "prior_error": (missed / config.change_scale).square().mean().sqrt().item(),
                "reconstruction_error": off.square().mean().sqrt().item(),
                "reward_error": earned.abs().mean().item(),
                **({} if covered is None else {"coverage_error": covered.abs().mean().item()}),
                "what_if_error": unforeseen.mean().sqrt().item(),
                **{f"loss_{name}": value.item() for name, value in losses.items()},
            }
        return torch.stack(list(losses.values())).sum(), scores

    def _covered(
        self, local_model: KeypointLocalModel, features: Float[Tensor, "n f"], logged: LatentBatch
    ) -> Float[Tensor, "n"] | None:
        """How far what is said of the coverage is off; None where nobody logged it."""
        if logged.coverage is None:
            return None
        return local_model.progress_of(features) - logged.coverage.to(features.device).flatten()

    @torch.no_grad()
    def _other_actions(
        self, local_model: KeypointLocalModel, batch: FilterBatch, generator: torch.Generator
    ) -> "WhatIf":
        """Wherever there is as much context as the global model looks back on."""
        k, device = self.dreamer.config.context, local_model.device
        latents, action = batch.logged.latents.to(device), batch.logged.action.to(device)
        context = latents[:, :-1].unfold(1, k, 1).transpose(2, 3).flatten(0, 1)
        taken = action.unfold(1, k, 1).transpose(2, 3).flatten(0, 1)
        other = self._other(taken[:, -1], generator)
        change = what_ifs(self.dreamer, context, taken, other, generator)
        return WhatIf(action=taken[:, -1], other=other, change=change)

    def _other(
        self, action: Float[Tensor, "n a"], generator: torch.Generator
    ) -> Float[Tensor, "n a"]:
        drawn = torch.randn(action.shape, generator=generator) * self.filtering.what_if_reach
        near = action + drawn.to(action.device)
        anywhere = torch.rand(action.shape, generator=generator).to(action.device) * 2 - 1
        half = torch.arange(len(action), device=action.device)[:, None] % 2 == 0
        return torch.where(half, near, anywhere).clamp(-1, 1)


def what_ifs(
    dreamer: Denoiser,
    context: Float[Tensor, "n k d"],
    action: Float[Tensor, "n k a"],
    other: Float[Tensor, "n a"],
    generator: torch.Generator,
) -> Float[Tensor, "n d"]:
    """How the next latent changes if the last action is another one, everything else equal."""
    noise = normal(context[:, 0].shape, generator, context.device)
    instead = torch.cat([action[:, :-1], other[:, None]], dim=1)
    here, there = (in_one_call(dreamer, context, a, noise) for a in (action, instead))
    return there - here


def _drawn(belief: Belief, generator: torch.Generator) -> Float[Tensor, "b f"]:
    noise = torch.randn(belief.mean.shape, generator=generator).to(belief.mean.device)
    return torch.cat([belief.mean + belief.deviation * noise, belief.memory], dim=1)


def _detached(beliefs: list[Belief]) -> list[Belief]:
    return [
        Belief(mean=b.mean.detach(), deviation=b.deviation.detach(), memory=b.memory)
        for b in beliefs
    ]


def divergence(posteriors: list[Belief], priors: list[Belief]) -> Float[Tensor, ""]:
    """KL(q ‖ p) of normal distributions:  log σ_p/σ_q + (σ_q² + (μ_q − μ_p)²) / 2σ_p² − ½"""
    mean_q, mean_p = (torch.stack([b.mean for b in all]) for all in (posteriors, priors))
    wide_q, wide_p = (torch.stack([b.deviation for b in all]) for all in (posteriors, priors))
    spread = wide_q.square() + (mean_q - mean_p).square()
    return ((wide_p / wide_q).log() + spread / (2 * wide_p.square()) - 0.5).mean()


def _huber(off: Tensor, delta: float) -> Tensor:
    return huber_loss(off, torch.zeros_like(off), delta=delta) / delta
