"""Training the local model's eye: to point where the autoencoder does, also on painted frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from wm_gym.data import Windows
from wm_gym.models.colours import to_colour
from wm_gym.models.keypoints.autoencoder import Autoencoder
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.surrogate import soft


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenBatch:
    frames: UInt8[Tensor, "b h w c"]
    latents: Float[Tensor, "b d"]
    """What the autoencoder makes of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenWindows:
    """Single frames."""

    windows: Windows
    latents: Float32[np.ndarray, "n d"]

    def batch(self, k: int) -> SeenBatch:
        batch = self.windows.batch(k)
        return SeenBatch(
            frames=torch.from_numpy(batch.frames[0]),
            latents=torch.from_numpy(self.latents[batch.first_row]),
        )


@dataclass(frozen=True, eq=False)
class SeeingLoss:
    """The distance to the autoencoder's keypoints, in units of the change of a step."""

    autoencoder: Autoencoder
    painted: float = 0.25
    """Of the frames, how many are painted anew, as a dream's are."""

    def __call__(
        self, model: nn.Module, batch: SeenBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        local_model = cast(KeypointLocalModel, getattr(model, "module", model))
        target, many = batch.latents.to(local_model.device), round(self.painted * len(batch.frames))
        with torch.no_grad():
            painted = to_colour(self.autoencoder.decode(target[:many]))
        frames = torch.cat([painted, batch.frames[many:].to(painted.device)])
        off = (local_model.eye(frames) - target) / local_model.config.change_scale
        missed = off.square().mean(1)
        scores = {"off": missed[many:].mean().sqrt().item()}
        return soft(missed, softness=0.01).mean(), scores
