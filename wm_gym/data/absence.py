"""How long what is handled was out of a moving camera's sight."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool

from wm_gym.data.dataset import Dataset
from wm_gym.systems import System, registered_systems, system_named

BANDS = (0, 1, 3, 6, 12, 24)
"""Seconds, for the table; the last is open."""


@dataclass(frozen=True, kw_only=True)
class Absences:
    frames: float
    """Share of them in which it is seen."""

    seconds: dict[str, int]
    """How many times it went out of sight and came back, by for how long."""

    never: float
    """Share of the episodes in which it is not seen at all."""


def system_of(dataset: Dataset) -> System | None:
    """The registered one that it was logged of."""
    name = dataset.spec.robot_type
    return system_named(name) if name in registered_systems() else None


def absences_in(dataset: Dataset, system: System) -> Absences | None:
    if system.in_view is None or dataset.spec.picture != system.frame_shape:
        return None
    lengths, shown, total, never = list[int](), 0, 0, 0
    for start, length in zip(dataset.index["start"], dataset.index["length"], strict=True):
        seen = system.in_view(dataset.frames(np.arange(start, start + length)))
        lengths += absences(seen)
        shown, total, never = shown + int(seen.sum()), total + len(seen), never + (not seen.any())
    counts, _ = np.histogram(np.array(lengths) / dataset.spec.fps, bins=(*BANDS, np.inf))
    names = [f"{low}–{high} s" for low, high in pairwise(BANDS)]
    return Absences(
        frames=shown / total,
        seconds=dict(zip([*names, f"over {BANDS[-1]} s"], counts.tolist(), strict=True)),
        never=never / len(dataset),
    )


def absences(seen: Bool[np.ndarray, "t"]) -> list[int]:
    """Lengths, in frames, of those that begin and end within an episode."""
    at = np.flatnonzero(seen)
    gaps = np.diff(at) - 1
    return [int(gap) for gap in gaps if gap > 0]


def absences_text(told: Absences) -> list[str]:
    spans = ", ".join(f"{count:,} of {span}" for span, count in told.seconds.items())
    return [
        f"in view in {told.frames:.0%} of frames, never in {told.never:.0%} of episodes",
        f"out of view and back: {spans}",
    ]
