"""Minimum, maximum, mean and deviation of columns, gathered episode by episode."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, eq=False)
class Moments:
    count: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def merge(self, other: "Moments") -> "Moments":
        """Chan, Golub and LeVeque (1979): σ² = Σ nᵢ (σᵢ² + (μᵢ − μ)²) / n."""
        count = self.count + other.count
        share = other.count / count
        step = other.mean - self.mean
        within = self.variance * (1 - share) + other.variance * share
        return type(self)(
            count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + step * share,
            within + step**2 * share * (1 - share),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "min": self.low.tolist(),
            "max": self.high.tolist(),
            "mean": self.mean.tolist(),
            "std": np.sqrt(self.variance).tolist(),
            "count": [self.count],
        }


def column_moments(values: np.ndarray) -> Moments:
    """Over rows (n, k); minimum and maximum keep the dtype."""
    exact = values.astype(np.float64)
    return Moments(
        len(values), values.min(axis=0), values.max(axis=0), exact.mean(axis=0), exact.var(axis=0)
    )


def picture_moments(frames: UInt8[np.ndarray, "n h w c"]) -> Moments:
    """Per channel, of values in [0, 1], shaped (c, 1, 1); it counts pictures, as LeRobot does."""
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(frames, -1, 0)]
    levels = np.arange(256) / 255
    share = np.stack(counts) / (frames.size / frames.shape[-1])
    mean = share @ levels
    seen = share > 0
    shape = (-1, 1, 1)
    return Moments(
        len(frames),
        levels[seen.argmax(axis=1)].reshape(shape),
        levels[255 - seen[:, ::-1].argmax(axis=1)].reshape(shape),
        mean.reshape(shape),
        np.maximum(share @ levels**2 - mean**2, 0).reshape(shape),
    )
