"""The ablation *imitation*: a policy cloned from logged expert data, which never dreams."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fog_agent import FoG
from fog_agent.cloning import clone
from wm_gym.data import Dataset
from wm_gym.envs.latent_filter import LatentFilter
from wm_gym.models.protocol import LocalModel
from wm_gym.programs.progress import Bar

TOGETHER = 50
"""Episodes that are filtered side by side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Demonstrated:
    obs: Float[Tensor, "n x"]
    action: Float[Tensor, "n a"]


def demonstrations(folder: Path, local_model: LocalModel) -> Demonstrated:
    """Every step of a dataset, as a policy would have seen it on the real system."""
    dataset = Dataset.open(folder)
    parts = [dataset.episode(i) for i in range(len(dataset))]
    chosen = sorted(range(len(parts)), key=lambda i: len(parts[i].action))
    obs, action = [], []
    with Bar(total=len(parts), desc="filtering demonstrations", unit=" episodes") as bar:
        for first in range(0, len(chosen), TOGETHER):
            group = [parts[i] for i in chosen[first : first + TOGETHER]]
            steps = min(len(each.action) for each in group)
            frames = np.stack([each.frames[:steps] for each in group])
            acted = np.stack([each.action[:steps] for each in group])
            obs.append(torch.cat(list(_filtered(local_model, frames, acted))))
            action.append(torch.from_numpy(acted).transpose(0, 1).flatten(0, 1))
            bar.update(len(group))
    return Demonstrated(obs=torch.cat(obs), action=torch.cat(action))


def _filtered(
    local_model: LocalModel, frames: np.ndarray, action: np.ndarray
) -> Iterator[Float[Tensor, "n x"]]:
    every = np.arange(len(frames))
    known = LatentFilter(local_model, len(frames), exact=False)
    known.begin_at(every, frames[:, 0])
    yield known.features.clone()
    for t in range(1, frames.shape[1]):
        known.advance(every, action[:, t - 1], frames[:, t])
        yield known.features.clone()


def imitate(agent: FoG, shown: Demonstrated, *, updates: int, noise: float) -> None:
    learned = clone(agent, shown.obs, shown.action, updates=updates, noise=noise)
    with Bar(total=updates, desc="cloning", unit=" updates") as bar:
        for error in learned:
            bar.set_postfix_str(f"squared error {error:.4f}", refresh=False)
            bar.update()
