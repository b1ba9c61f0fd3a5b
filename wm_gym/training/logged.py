"""Choosing the logged windows that are kept with a model."""

import numpy as np
import torch
from jaxtyping import Float32

from wm_gym.data import Dataset, Windows
from wm_gym.models.logged import Logged


def choose_logged(
    dataset: Dataset,
    embedding: Float32[np.ndarray, "n e"],
    *,
    count: int,
    length: int,
    seed: int,
    tasks: int | None = None,
) -> Logged:
    """Windows of so many frames; `embedding` is the local model's, by row. They say their task
    only where the model knows several; it knows all of the dataset's unless `tasks` says how many.
    """
    rows = Windows(dataset, length=length, batch_size=count, seed=seed).rows(0).T
    several = (len(dataset.tasks) if tasks is None else tasks) > 1
    return Logged(
        embedding=torch.from_numpy(embedding[rows]),
        action=torch.from_numpy(dataset.action[rows[:, :-1]]),
        reward=torch.from_numpy(dataset.reward[rows[:, :-1]]),
        task=torch.from_numpy(dataset.task_index[rows[:, 0]]) if several else None,
    )
