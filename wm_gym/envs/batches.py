"""Running a model on a batch of environments: as it is, or exactly."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from wm_gym.envs.memory import explain_memory
from wm_gym.models import trees

EXACT_BATCH = 8
"""Where results must be exact, networks see batches of this many: sums are then always the same,
whatever else is computed beside."""


def computed(function: Callable[..., Any], *inputs: Any, exact: bool) -> Any:
    """function(*inputs) of trees; where it must be exact in batches of one size, put together
    again."""
    n = trees.size(inputs)
    with explain_memory(n):
        if not exact:
            return function(*inputs)
        parts = []
        for first in range(0, n, EXACT_BATCH):
            part = trees.rows(inputs, slice(first, first + EXACT_BATCH))
            parts.append(function(*trees.mapped(_filled, part)))
    return trees.rows(trees.joined(parts), slice(n))


def _filled(tensor: Tensor) -> Tensor:
    if (missing := EXACT_BATCH - len(tensor)) == 0:
        return tensor
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def finite(chosen: Sequence[int] | Int[np.ndarray, "n"], *computed: Any) -> list[np.ndarray]:
    """What was computed for the environments in `chosen`, trees of fractions, in NumPy, by one
    copy from the device: a number each as it is, of more numbers the largest size. Raises where
    one is not finite."""
    told = torch.stack([each.float() for each in trees.largest(computed)]).cpu().numpy()
    lost = ~np.isfinite(told).all(axis=0)
    if lost.any():
        raise FloatingPointError(
            f"what is computed for environments {np.asarray(chosen)[lost].tolist()} is not finite, "
            "so nothing was done: the world model's weights, or the snapshot or frames that these "
            "go on from, hold numbers that are too large. Reset them, or use another world model"
        )
    return list(told)
