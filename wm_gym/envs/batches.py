"""Running a model on a batch of environments: as it is, or exactly."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from wm_gym.envs.memory import explain_memory

EXACT_BATCH = 8
"""Where results must be exact, networks see batches of this many: sums are then always the same,
whatever else is computed beside."""


def computed(function: Callable[..., Any], *tensors: Tensor, exact: bool) -> Any:
    """function(*tensors); where it must be exact in batches of one size, put together again."""
    with explain_memory(len(tensors[0])):
        if not exact:
            return function(*tensors)
        n, parts = len(tensors[0]), []
        for first in range(0, n, EXACT_BATCH):
            part = [t[first : first + EXACT_BATCH] for t in tensors]
            parts.append(function(*(_filled(t, EXACT_BATCH) for t in part)))
    return _joined(parts, n)


def _filled(tensor: Tensor, n: int) -> Tensor:
    if len(tensor) == n:
        return tensor
    return torch.cat([tensor, tensor[-1:].expand(n - len(tensor), *tensor.shape[1:])])


def _joined(parts: list[Any], n: int) -> Any:
    """Tensors, and tuples and records of them, put together along their first axis."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)[:n]
    if isinstance(first, tuple):
        return tuple(_joined(list(each), n) for each in zip(*parts, strict=True))
    names = first.__dataclass_fields__
    return type(first)(**{name: _joined([getattr(p, name) for p in parts], n) for name in names})


def finite(chosen: Sequence[int] | Int[np.ndarray, "n"], *values: Tensor) -> list[np.ndarray]:
    """What was computed for the environments in `chosen`, in NumPy, by one copy from the device: a
    number each as it is, of more numbers the largest size. Raises where one is not finite."""
    sizes = [v.detach() if v.ndim == 1 else v.detach().flatten(1).abs().amax(1) for v in values]
    told = torch.stack(sizes).cpu().numpy()
    lost = ~np.isfinite(told).all(axis=0)
    if lost.any():
        raise FloatingPointError(
            f"what is computed for environments {np.asarray(chosen)[lost].tolist()} is not finite, "
            "so nothing was done: the world model's weights, or the snapshot or frames that these "
            "go on from, hold numbers that are too large. Reset them, or use another world model"
        )
    return list(told)
