"""Logged frames, as a world model takes them."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wm_gym.data import Dataset
from wm_gym.models.protocol import Prefill, Seen
from wm_gym.models.world_model import WorldModel


def proprio_of(dataset: Dataset, rows: Int[np.ndarray, "*n"], size: int) -> Float[Tensor, "*n p"]:
    """As the model takes it: nothing where it uses none."""
    if size == 0 or dataset.proprio is None:
        return torch.zeros(*rows.shape, 0)
    return torch.from_numpy(dataset.proprio[rows])


def logged_prefill(model: WorldModel, dataset: Dataset, rows: Int[np.ndarray, "k b"]) -> Prefill:
    """Of frames that are all in one episode; where there are fewer than the model looks at, it
    is told that the first ones are missing."""
    spec, device = model.spec, model.device
    (k, b), missing = rows.shape, max(spec.prefill - len(rows), 0)
    frames = torch.from_numpy(dataset.frames(rows.T.ravel()).reshape(b, k, *dataset.spec.picture))
    action = torch.from_numpy(dataset.action[rows[:-1]]).transpose(0, 1)
    several = spec.tasks > 1
    task = dataset.task_index[rows[0]] if several else np.zeros(b, np.int64)

    def filled(values: Tensor) -> Tensor:
        nothing = values.new_zeros(b, missing, *values.shape[2:])
        return torch.cat([nothing, values], dim=1).to(device)

    return Prefill(
        frames=filled(frames),
        proprio=filled(proprio_of(dataset, rows.T, spec.proprio_size)),
        action=filled(action),
        known=filled(torch.ones(b, k, dtype=torch.bool)),
        task=torch.from_numpy(task).to(device),
    )


def reconstructed(model: WorldModel, dataset: Dataset, rows: Int[np.ndarray, "b"]) -> Seen:
    """What the model makes of these frames, one by one."""
    frames = torch.from_numpy(dataset.frames(rows)).to(model.device)
    proprio = proprio_of(dataset, rows, model.spec.proprio_size).to(model.device)
    return model.global_model.reconstruct(frames, proprio)
