"""A dataset as an encoder sees it: one vector a row, and batches of windows of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from wm_gym.data import Dataset, Windows, prefetch

BATCH = 256


@dataclass(frozen=True, eq=False)
class _Rows:
    dataset: Dataset
    rows: np.ndarray

    def batch(self, k: int) -> np.ndarray:
        return self.dataset.frames(self.rows[k * BATCH : (k + 1) * BATCH])


Encode = Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]


@torch.no_grad()
def encode_dataset(
    encode: Encode,
    dataset: Dataset,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "n d"]:
    """By row; progress(frames) is called after each batch of them."""
    rows = np.concatenate([e["start"] + np.arange(e["length"]) for e in dataset.index])
    batches, parts = prefetch(_Rows(dataset, rows)), []
    for first in range(0, len(rows), BATCH):
        frames = torch.from_numpy(next(batches)).to(device)
        parts.append(encode(frames).float().cpu().numpy())
        if progress is not None:
            progress(len(rows[first : first + BATCH]))
    batches.close()
    found = np.concatenate(parts)
    encoded = np.zeros((int(rows.max()) + 1, found.shape[1]), np.float32)
    encoded[rows] = found
    return encoded


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
                torch.from_numpy(data.fact("coverage")[rows].astype(np.float32))
                if "coverage" in data.spec.facts
                else None
            ),
            terminated=torch.from_numpy(data.terminated[rows[:, :-1]]),
        )
