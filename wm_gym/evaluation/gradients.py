"""Gradients to be compared: of which states, and what finite differences make of a rollout.

    pose     ∂(what a system calls its pose, after one step) / ∂ action
    total    ∂(r₀ + … + r_{h−1}) / ∂ (a₀, …, a_{h−1})                     h in `HORIZONS`

Central differences (f(a + δ eₖ) − f(a − δ eₖ)) / 2δ begin where the perturbed action is taken: what
was before is the same for both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from wm_gym.data import Dataset
from wm_gym.evaluation.linear_probe import HISTORY
from wm_gym.types import PROPRIO

HORIZONS = (1, 2, 4, 8, 16)
STEPS = HORIZONS[-1]

_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """Logged moments, and what to do from there."""

    dataset: Dataset
    rows: Int[np.ndarray, "k b"]
    """Of the frames so far."""

    action: Float32[np.ndarray, "t b a"]
    """As logged, but kept so far from the box's edges that each can be moved either way."""

    felt: bool = False
    """Whether dreams are told proprioception, too."""

    def __len__(self) -> int:
        return int(self.rows.shape[1])

    def at(self, chosen: Int[np.ndarray, "n"] | slice) -> "Cases":
        return replace(self, rows=self.rows[:, chosen], action=self.action[:, chosen])

    @property
    def state(self) -> Float[np.ndarray, "b s"]:
        """The true one of the last frame."""
        return np.asarray(self.dataset.fact("state")[self.rows[-1]])

    @property
    def start(self) -> dict[str, np.ndarray]:
        """As reset's options."""
        rows, proprio = self.rows.T, self.dataset.proprio
        frames: UInt8[np.ndarray, "n h w c"] = self.dataset.frames(rows.ravel())
        felt = {} if proprio is None or not self.felt else {PROPRIO: proprio[rows]}
        return {
            "frames": frames.reshape(*rows.shape, *self.dataset.spec.picture),
            "actions": self.dataset.action[rows[:, :-1]],
            **felt,
        }


def choose_cases(
    dataset: Dataset, *, count: int, reach: float, seed: int, shown: int = HISTORY,
    felt: bool = False,
) -> Cases:  # fmt: skip
    """Half of them begin with a step in contact, as logged; as far as there are. Dreams are shown
    so many frames."""
    for name in ("state", "contact"):
        if name not in dataset.spec.facts:
            raise ValueError(f"{dataset.folder} does not log {name!r}, which gradients need")
    length, rng = shown + STEPS, np.random.default_rng(seed)
    index = dataset.index[dataset.index["length"] >= length]
    if not len(index):
        raise ValueError(
            f"{dataset.folder}: its longest episode has {dataset.index['length'].max()} frames, "
            f"expected at least {length}"
        )
    first = [np.arange(e["start"], e["start"] + e["length"] - length + 1) for e in index]
    windows = rng.permutation(np.concatenate(first))
    touched = dataset.fact("contact")[windows + shown].astype(bool)
    half = windows[touched][: count // 2]
    chosen = np.sort(np.concatenate([half, windows[~touched][: count - len(half)]]))
    rows = chosen + np.arange(shown)[:, None]
    action = dataset.action[rows[-1] + np.arange(STEPS)[:, None]]
    moved = _movable(action, 1 - reach, rng)
    return Cases(dataset=dataset, rows=rows, action=moved, felt=felt)


def _movable(
    action: Float32[np.ndarray, "t b a"], limit: float, rng: np.random.Generator
) -> Float32[np.ndarray, "t b a"]:
    """What is beyond the limit comes to lie anywhere just below it: were it all clipped to one
    number, gradients would be of that number, where a two-hot encoding may have a kink."""
    below = np.sign(action) * rng.uniform(limit - _SPREAD, limit, action.shape)
    return np.where(np.abs(action) > limit, below, action).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Of some states, from one source. NaN where a source cannot tell."""

    pose: Float[np.ndarray, "b p a"]
    total: Float[np.ndarray, "b h t a"]
    """By horizon; 0 for actions beyond it."""

    def at(self, chosen: Int[np.ndarray, "n"] | Bool[np.ndarray, "b"] | slice) -> "Gradients":
        return Gradients(pose=self.pose[chosen], total=self.total[chosen])

    def of(self, horizon: int | None, rows: slice = slice(None)) -> Float[np.ndarray, "b n"]:
        """A vector each: of the return over this horizon, or of these numbers of the pose."""
        if horizon is None:
            return self.pose[:, rows].reshape(len(self.pose), -1)
        total = self.total[:, HORIZONS.index(horizon), :horizon]
        return total.reshape(len(total), -1)

    @classmethod
    def joined(cls, parts: "Sequence[Gradients]") -> "Gradients":
        return cls(
            pose=np.concatenate([part.pose for part in parts]),
            total=np.concatenate([part.total for part in parts]),
        )

    @classmethod
    def mean(cls, parts: "Sequence[Gradients]") -> "Gradients":
        """Of several estimates of the same states."""
        return cls(
            pose=np.mean([part.pose for part in parts], axis=0),
            total=np.mean([part.total for part in parts], axis=0),
        )


def offsets(deltas: Sequence[float], action_size: int) -> Float32[np.ndarray, "p a"]:
    """What is added to an action, for each δ, each of its numbers, forth and back."""
    way = np.array([1.0, -1.0])[:, None] * np.eye(action_size)[:, None]
    return (np.array(deltas)[:, None, None, None] * way).reshape(-1, action_size).astype(np.float32)


Perturbed = Callable[[int], tuple[Float[np.ndarray, "b p u"], Float[np.ndarray, "r b p n"]]]
"""Rewards from step t on with its action perturbed, and poses after that step, as some
readers see them."""


def central_differences(
    perturbed: Perturbed, deltas: Sequence[float], action_size: int, *, turn: float
) -> list[list[Gradients]]:
    """For each reader and each δ; readers differ in the pose alone, whose last number is an angle
    that is the same after a turn."""
    poses: list[Float[np.ndarray, "b d a n"]] = []
    totals: list[np.ndarray] = []
    for t in range(STEPS):
        rewards, seen = perturbed(t)
        if t == 0:
            poses = [_slopes(_unwrapped(one, deltas, action_size, turn), deltas) for one in seen]
        returns = np.cumsum(rewards, axis=2)
        slope = _slopes(_paired(returns, deltas, action_size), deltas)  # b d a u
        totals.append(np.pad(slope, [(0, 0)] * 3 + [(t, 0)]))
    total = np.stack(totals)[..., [h - 1 for h in HORIZONS]].transpose(2, 1, 4, 0, 3)
    return [
        [Gradients(pose=pose[:, i].transpose(0, 2, 1), total=total[i]) for i in range(len(deltas))]
        for pose in poses
    ]


def _paired(
    values: Float[np.ndarray, "b p u"], deltas: Sequence[float], action_size: int
) -> Float[np.ndarray, "b d a 2 u"]:
    b, _, u = values.shape
    return values.reshape(b, len(deltas), action_size, 2, u)


def _unwrapped(
    pose: Float[np.ndarray, "b p n"], deltas: Sequence[float], action_size: int, turn: float
) -> Float[np.ndarray, "b d a 2 n"]:
    """With angles on the same side of the cut."""
    paired = _paired(pose, deltas, action_size).copy()
    forth, back = paired[..., 0, -1], paired[..., 1, -1]
    paired[..., 0, -1] = back + np.remainder(forth - back + turn / 2, turn) - turn / 2
    return paired


def _slopes(
    paired: Float[np.ndarray, "b d a 2 u"], deltas: Sequence[float]
) -> Float[np.ndarray, "b d a u"]:
    step = 2 * np.array(deltas)[:, None, None]
    return np.asarray((paired[..., 0, :] - paired[..., 1, :]) / step)


def parts(count: int, at_once: int) -> Iterator[Int[np.ndarray, "n"]]:
    """Batches of one size; the last one is filled up with others."""
    at_once = min(at_once, count)
    for first in range(0, count, at_once):
        yield np.arange(first, first + at_once) % count
