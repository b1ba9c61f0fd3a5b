"""Batches of windows, as the autoencoder sees their frames."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from wm_gym.data import Windows


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentBatch:
    """Batch first, as the models take contexts."""

    latents: Float[Tensor, "b t d"]
    action: Float[Tensor, "b t0 a"]
    reward: Float[Tensor, "b t0"]
    coverage: Float[Tensor, "b t"] | None
    """None where nobody logged it."""
    terminated: Bool[Tensor, "b t0"]


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
            coverage=(
                torch.from_numpy(data.progress[rows].astype(np.float32))
                if data.progress is not None
                else None
            ),
            terminated=torch.from_numpy(data.terminated[rows[:, :-1]]),
        )
