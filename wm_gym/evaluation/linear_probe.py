"""A state, read off features by one linear map: how plainly a latent says it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wm_gym.data import Dataset, Windows
from wm_gym.evaluation.logged_frames import proprio_of
from wm_gym.evaluation.probes import Posed
from wm_gym.models.protocol import LocalModel

HISTORY = 16
"""Frames that a filter has seen before it is asked anything."""

_RIDGE = 1e-4
_SETTLED = 4
"""Frames after which features are used to fit a probe."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbe:
    """The targets of a system's pose, each linear."""

    posed: Posed
    weight: Float[Tensor, "f d"]
    offset: Float[Tensor, "d"]

    def read(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n d"]:
        return features @ self.weight + self.offset

    def pose(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n p"]:
        """As `Posed.pose_of`; differentiable, the angle within a turn."""
        said, (cos, sin) = self.read(features), self.posed.ANGLE
        angle = torch.atan2(said[..., sin : sin + 1], said[..., cos : cos + 1])
        return torch.cat([said[..., self.posed.PLACES], self.posed.LEVER * angle], dim=-1)

    def state(self, features: Float[Tensor, "n f"]) -> Float[np.ndarray, "n s"]:
        """As its errors are told of it."""
        said, pose = (
            each.double().cpu().numpy() for each in (self.read(features), self.pose(features))
        )
        return self.posed.state_read(said, pose)


def fit_linear_probe(
    posed: Posed, local_model: LocalModel, dataset: Dataset, *, windows: int, seed: int
) -> LinearProbe:
    """On what the filter makes of logged windows."""
    rows = Windows(dataset, length=HISTORY, batch_size=windows, seed=seed).rows(0)
    features = filtered(local_model, dataset, rows)[_SETTLED:].flatten(0, 1)
    return regressed(posed, features, dataset.fact("state")[rows[_SETTLED:].ravel()])


def regressed(
    posed: Posed, features: Float[Tensor, "n f"], state: Float[np.ndarray, "n s"]
) -> LinearProbe:
    """Ridge regression, each feature in units of its deviation."""
    told = torch.from_numpy(posed.targets(state)).to(features.device)
    seen = features.double()
    mean, deviation, middle = seen.mean(0), seen.std(0) + 1e-6, told.mean(0)
    seen = (seen - mean) / deviation
    ridge = _RIDGE * len(seen) * torch.eye(seen.shape[1], dtype=seen.dtype, device=seen.device)
    weight = torch.linalg.solve(seen.T @ seen + ridge, seen.T @ (told - middle))
    weight = weight / deviation[:, None]
    return LinearProbe(posed=posed, weight=weight.float(), offset=(middle - mean @ weight).float())


@torch.no_grad()
def filtered(
    local_model: LocalModel, dataset: Dataset, rows: Int[np.ndarray, "t b"]
) -> Float[Tensor, "t b f"]:
    """What the filter makes of windows of logged frames."""
    device, features = local_model.device, []
    for t, here in enumerate(rows):
        frames = torch.from_numpy(dataset.frames(here)).to(device)
        proprio = proprio_of(dataset, here, local_model.proprio_size).to(device)
        embedding = local_model.embed(frames, proprio)
        if t == 0:
            task = torch.from_numpy(dataset.task_index[here]).to(device)
            features.append(local_model.begin(embedding, task))
        else:
            action = torch.from_numpy(dataset.action[rows[t - 1]]).to(device)
            features.append(local_model.follow(features[-1], action, embedding))
    return torch.stack(features)
