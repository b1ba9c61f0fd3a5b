"""A dataset as the autoencoder sees it: one latent a row, and batches of windows of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from wm_gym.data import Dataset, Windows, prefetch
from wm_gym.models.autoencoder import Autoencoder
from wm_gym.models.world_model import to_unit

BATCH = 256


@dataclass(frozen=True, eq=False)
class _Rows:
    dataset: Dataset
    rows: np.ndarray

    def batch(self, k: int) -> np.ndarray:
        return self.dataset.frames(self.rows[k * BATCH : (k + 1) * BATCH])


@torch.no_grad()
def encode_dataset(
    model: Autoencoder, dataset: Dataset, progress: Callable[[int], None] | None = None
) -> Float32[np.ndarray, "n d"]:
    """By row; progress(frames) is called after each batch of them."""
    rows = np.concatenate([e["start"] + np.arange(e["length"]) for e in dataset.index])
    latents = np.zeros((int(rows.max()) + 1, model.latent_size), np.float32)
    batches = prefetch(_Rows(dataset, rows))
    for first in range(0, len(rows), BATCH):
        frames = torch.from_numpy(next(batches)).to(model.device)
        latents[rows[first : first + BATCH]] = model.encode(to_unit(frames)).cpu().numpy()
        if progress is not None:
            progress(len(frames))
    batches.close()
    return latents


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentBatch:
    """Batch first, as the models take contexts."""

    latents: Float[Tensor, "b t d"]
    action: Float[Tensor, "b t0 a"]
    reward: Float[Tensor, "b t0"]
    coverage: Float[Tensor, "b t"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentWindows:
    windows: Windows
    latents: Float32[np.ndarray, "n d"]

    def batch(self, k: int) -> LatentBatch:
        rows, data = self.windows.rows(k).T, self.windows.dataset
        return LatentBatch(
            latents=torch.from_numpy(self.latents[rows]),
            action=torch.from_numpy(data.action[rows[:, :-1]]),
            reward=torch.from_numpy(data.reward[rows[:, :-1]]),
            coverage=torch.from_numpy(data.fact("coverage")[rows].astype(np.float32)),
        )
