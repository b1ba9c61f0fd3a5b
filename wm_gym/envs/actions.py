"""The door for actions: what is let in, and what is told why not."""

from typing import Any

import numpy as np
from jaxtyping import Float32


def checked_action(action: Any, shape: tuple[int, ...], *, axes: str) -> Float32[np.ndarray, "..."]:
    """A finite float32 action of this shape within [−1, 1]; `axes` names the shape in errors."""
    try:
        array = np.asarray(action)
    except Exception as error:
        raise TypeError(f"action {action!r} is not an array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"action has dtype {array.dtype}, expected real numbers")
    if array.shape != shape:
        raise ValueError(f"action has shape {array.shape}, expected {shape} = {axes}")
    if not np.isfinite(array).all():
        raise ValueError(f"action is not finite: {array}")
    return np.clip(array, -1.0, 1.0).astype(np.float32)
