"""Refreshing what lends the gradients: does it learn the new, does it keep the old?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wm_gym.data import Dataset, Windows
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.evaluation.linear_probe import HISTORY, filtered
from wm_gym.models.protocol import LocalModel, Transitions

BATCH = 512
"""Transitions in a refresh."""

_KEEP, _STRENGTH = 0.8, 1.0
"""Of the smooth random actions that a surrogate is refreshed on."""


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """Errors of the surrogate's next features and rewards, on transitions that it never saw."""

    refreshes: int
    logged: float
    own: float
    """On dreams of the policy that it is refreshed on."""

    logged_reward: float
    own_reward: float


def practice(env: DreamVectorEnv, *, steps: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Transitions of smooth random actions from packaged starts, a batch of environments a step."""
    rng = np.random.default_rng(seed)
    obs, _ = env.reset(seed=seed)
    drift = rng.normal(size=env.action_space.shape)
    for _ in range(steps):
        drift = _KEEP * drift + np.sqrt(1 - _KEEP**2) * rng.normal(size=drift.shape)
        action = np.tanh(_STRENGTH * drift).astype(np.float32)
        next_obs, reward, *_ = env.step(action)
        earned = reward.astype(np.float32)
        yield {"obs": obs, "action": action, "reward": earned, "next_obs": next_obs}
        obs = next_obs


def refresh(
    env: DreamVectorEnv, practised: Sequence[dict[str, np.ndarray]], *, times: int, seed: int
) -> Iterator[dict[str, float]]:
    """What gives the gradients learns from batches drawn of these transitions."""
    if not times:  # which needs no practice
        return
    rng = np.random.default_rng(seed)
    every = {name: np.concatenate([each[name] for each in practised]) for name in practised[0]}
    for _ in range(times):
        pick = rng.integers(len(every["reward"]), size=BATCH)
        yield env.refresh({name: values[pick] for name, values in every.items()})


def refreshed(
    env: DreamVectorEnv, refreshes: int, logged: Transitions, own: Transitions
) -> Refreshed:
    """As it is now."""
    with torch.no_grad():
        (moved, reward), (own_moved, own_reward) = (
            env.surrogate.missed(each) for each in (logged, own)
        )
    scale = env.surrogate.reward_scale
    return Refreshed(
        refreshes=refreshes,
        logged=float(moved.mean()),
        own=float(own_moved.mean()),
        logged_reward=float(reward.abs().mean()) * scale,
        own_reward=float(own_reward.abs().mean()) * scale,
    )


def logged_transitions(
    local_model: LocalModel, dataset: Dataset, *, windows: int, seed: int
) -> Transitions:
    """Of logged windows, as the filter sees them."""
    rows = Windows(dataset, length=HISTORY, batch_size=windows, seed=seed).rows(0)
    features = filtered(local_model, dataset, rows)
    action, reward = (
        torch.from_numpy(values[rows[:-1]]).to(features.device).flatten(0, 1)
        for values in (dataset.action, dataset.reward)
    )
    return Transitions(
        features=features[:-1].flatten(0, 1),
        action=action,
        reward=reward,
        next_features=features[1:].flatten(0, 1),
    )


def practised_transitions(practised: Sequence[dict[str, np.ndarray]]) -> Transitions:
    every = {
        name: torch.from_numpy(np.concatenate([each[name] for each in practised]))
        for name in practised[0]
    }
    return Transitions(
        features=every["obs"],
        action=every["action"],
        reward=every["reward"],
        next_features=every["next_obs"],
    )
