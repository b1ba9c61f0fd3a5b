"""Actions of others' data, told in [−1, 1]."""

import numpy as np
from jaxtyping import Float, Float32

from wm_gym.systems import Bounds


def bounds_of(action: Float[np.ndarray, "n a"]) -> Bounds:
    """The least and the greatest finite ones; one more on either side where they are equal."""
    action = action[np.isfinite(action).all(axis=1)]
    if not len(action):
        raise ValueError("no action is finite, so none says what ±1 stands for; give low and high")
    low, high = action.min(axis=0), action.max(axis=0)
    still = low == high
    return Bounds(low=tuple((low - still).tolist()), high=tuple((high + still).tolist()))


def told(bounds: Bounds | None, action: Float[np.ndarray, "n a"]) -> Float32[np.ndarray, "n a"]:
    """In [−1, 1]; what lies beyond is clipped."""
    unit = action if bounds is None else bounds.to_unit(np.asarray(action, np.float64))
    return np.clip(unit, -1, 1).astype(np.float32)


def share_beyond(bounds: Bounds | None, action: Float[np.ndarray, "n a"]) -> float:
    """Of actions, how many are clipped."""
    unit = action if bounds is None else bounds.to_unit(np.asarray(action, np.float64))
    return float((np.abs(unit) > 1 + 1e-6).any(axis=1).mean())
