"""The state of Push-T, read off features by one linear map: how plainly a latent says it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wm_gym.data import Dataset, Windows
from wm_gym.evaluation.logged_frames import proprio_of
from wm_gym.models.protocol import LocalModel
from wm_gym.systems import System
from wm_gym.systems.pusht.geometry import CENTRE, to_board

LEVER = 60.0
"""Board pixels: an angle counts as how far it moves a point this far from the centre."""

STATE = ("tool_x", "tool_y", "block_x", "block_y", "block_angle")
"""What a state has to begin with, for a probe to be fitted to it."""

HISTORY = 16
"""Frames that a filter has seen before it is asked anything."""

_RIDGE = 1e-4
_SETTLED = 4
"""Frames after which features are used to fit a probe."""


def check_probed(system: System) -> None:
    if system.state_names[: len(STATE)] != STATE:
        raise ValueError(
            f"the system {system.name!r} has the state {system.state_names}, expected one that "
            f"begins with {STATE}: gradients are of a block's pose"
        )


def pose_of(state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n 3"]:
    """The block's centre of gravity x, y and 60·angle, all in px."""
    centre = to_board(CENTRE[None], state[..., 2:5])[..., 0, :]
    return np.concatenate([centre, LEVER * state[..., 4:5]], axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbe:
    """Tool x, y, centre of gravity x, y, and cosine and sine of the angle, each linear."""

    weight: Float[Tensor, "f 6"]
    offset: Float[Tensor, "6"]

    def read(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n 6"]:
        return features @ self.weight + self.offset

    def pose(self, features: Float[Tensor, "*n f"]) -> Float[Tensor, "*n 3"]:
        """As `pose_of`; differentiable, the angle within a turn."""
        said = self.read(features)
        angle = torch.atan2(said[..., 5:6], said[..., 4:5])
        return torch.cat([said[..., 2:4], LEVER * angle], dim=-1)

    def state(self, features: Float[Tensor, "n f"]) -> Float[np.ndarray, "n s=5"]:
        """As the system's own: its block's origin is off its centre of gravity."""
        tool = self.read(features)[:, :2].double().cpu().numpy()
        pose = self.pose(features).double().cpu().numpy()
        turned = np.concatenate([np.zeros((len(pose), 2)), pose[:, 2:] / LEVER], axis=1)
        origin = pose[:, :2] - to_board(CENTRE[None], turned)[:, 0]
        return np.concatenate([tool, origin, turned[:, 2:]], axis=1)


def fit_linear_probe(
    local_model: LocalModel, dataset: Dataset, *, windows: int, seed: int
) -> LinearProbe:
    """On what the filter makes of logged windows."""
    rows = Windows(dataset, length=HISTORY, batch_size=windows, seed=seed).rows(0)
    features = filtered(local_model, dataset, rows)[_SETTLED:].flatten(0, 1)
    return regressed(features, dataset.fact("state")[rows[_SETTLED:].ravel()])


def regressed(features: Float[Tensor, "n f"], state: Float[np.ndarray, "n s"]) -> LinearProbe:
    """Ridge regression, each feature in units of its deviation."""
    angle = state[:, 4:5]
    columns = [state[:, :2], pose_of(state)[:, :2], np.cos(angle), np.sin(angle)]
    told = torch.from_numpy(np.concatenate(columns, axis=1)).to(features.device)
    seen = features.double()
    mean, deviation, middle = seen.mean(0), seen.std(0) + 1e-6, told.mean(0)
    seen = (seen - mean) / deviation
    ridge = _RIDGE * len(seen) * torch.eye(seen.shape[1], dtype=seen.dtype, device=seen.device)
    weight = torch.linalg.solve(seen.T @ seen + ridge, seen.T @ (told - middle))
    weight = weight / deviation[:, None]
    return LinearProbe(weight=weight.float(), offset=(middle - mean @ weight).float())


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
