"""Training the autoencoder: a frame, painted from its own keypoints."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from wm_gym.data import Dataset, WindowBatch
from wm_gym.models.colours import to_unit


@dataclass(frozen=True, eq=False)
class ReconstructionLoss:
    """Squared error, where more counts what is not background: a small tool is few pixels."""

    background: Float[Tensor, "c h w"]
    weight: float = 8.0

    def __call__(
        self, model: nn.Module, batch: WindowBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        frames = to_unit(torch.from_numpy(batch.frames[0]).to(self.background.device))
        error = (model(frames) - frames).square()
        shown = (frames - self.background).abs().amax(1, keepdim=True) > 0.1
        with torch.no_grad():
            psnr = 10 * torch.log10(4 / error.mean())
        return (error * (1 + self.weight * shown)).mean(), {"psnr": psnr.item()}


def median_frame(dataset: Dataset, *, count: int = 400) -> UInt8[np.ndarray, "h w c"]:
    """What most frames show, which is what never moves: over frames spread evenly."""
    rows = np.concatenate([e["start"] + np.arange(e["length"]) for e in dataset.index])
    spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return np.median(dataset.frames(rows[spread]), axis=0).astype(np.uint8)
