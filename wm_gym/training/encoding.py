"""A dataset as an encoder sees it: one vector a row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from wm_gym.data import Dataset, prefetch

BATCH = 256


@dataclass(frozen=True, eq=False)
class _Rows:
    dataset: Dataset
    rows: np.ndarray

    def batch(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rows[k * BATCH : (k + 1) * BATCH]
        felt = self.dataset.proprio
        none = np.zeros((len(rows), 0), np.float32)
        return self.dataset.frames(rows), none if felt is None else felt[rows]


Encode = Callable[[UInt8[Tensor, "b h w c"], Float[Tensor, "b p"]], Float[Tensor, "b d"]]


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
        frames, proprio = (torch.from_numpy(each).to(device) for each in next(batches))
        parts.append(encode(frames, proprio).float().cpu().numpy())
        if progress is not None:
            progress(len(rows[first : first + BATCH]))
    batches.close()
    found = np.concatenate(parts)
    encoded = np.zeros((int(rows.max()) + 1, found.shape[1]), np.float32)
    encoded[rows] = found
    return encoded
