"""Figures with an interval: bootstrap over rollouts, which are independent; frames of one are not.
Of several training runs: over runs and episodes.

Percentile intervals of 95 % (Efron & Tibshirani 1993, ch. 13).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

RESAMPLES = 1000
_TAILS = (2.5, 97.5)

Statistic = Callable[[Float[np.ndarray, "*r n"]], Float[np.ndarray, "*r"]]
"""Of the numbers along the last axis."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One figure of many rollouts."""

    median: Interval
    quartiles: tuple[float, float]
    ninth_decile: float
    mean: float
    count: int


def spread(values: Float[np.ndarray, "n"], *, seed: int) -> Spread:
    drawn = np.median(values[_drawn(len(values), seed)], axis=1)
    first, median, third, decile = np.percentile(values, (25, 50, 75, 90)).tolist()
    return Spread(
        median=percentile_interval(median, drawn),
        quartiles=(first, third),
        ninth_decile=decile,
        mean=float(values.mean()),
        count=len(values),
    )


def told_spread(values: Float[np.ndarray, "n"], *, seed: int) -> Spread | None:
    """Of those that are told, which NaN are not; None where there are none."""
    told = values[~np.isnan(values)]
    return spread(told, seed=seed) if len(told) else None


def ratio(
    above: Float[np.ndarray, "n"], below: Float[np.ndarray, "n"], *, seed: int
) -> Interval | None:
    """Of two medians over the same rollouts, which are drawn anew in pairs; NaN are left out. None
    where the one below is 0, or would be in draws that the interval depends on."""
    told = ~(np.isnan(above) | np.isnan(below))
    if not told.any():
        return None
    above, below = above[told], below[told]
    drawn = _drawn(len(above), seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
        value = float(np.median(above) / np.median(below))
        found = percentile_interval(value, each)
    return found if np.isfinite((found.value, found.low, found.high)).all() else None


@dataclass(frozen=True, kw_only=True)
class Average:
    """One figure of many states, two ways."""

    median: Interval
    mean: Interval


def average(values: Float[np.ndarray, "n"], *, seed: int) -> Average:
    drawn = values[_drawn(len(values), seed)]
    return Average(
        median=percentile_interval(float(np.median(values)), np.median(drawn, axis=1)),
        mean=percentile_interval(float(values.mean()), drawn.mean(1)),
    )


def share(true: Bool[np.ndarray, "n"], *, seed: int) -> Interval:
    """How many of them are, as a share."""
    return percentile_interval(float(true.mean()), true[_drawn(len(true), seed)].mean(1))


def mean(values: Float[np.ndarray, "*r n"]) -> Float[np.ndarray, "*r"]:
    return np.asarray(values.mean(-1))


def interquartile_mean(values: Float[np.ndarray, "*r n"]) -> Float[np.ndarray, "*r"]:
    """Mean of the middle half: without the ⌊n/4⌋ lowest and highest (Agarwal et al. 2021)."""
    n = values.shape[-1]
    return np.asarray(np.sort(values, axis=-1)[..., n // 4 : n - n // 4].mean(-1))


def crossed_interval(
    values: Float[np.ndarray, "runs n"], statistic: Statistic, *, seed: int
) -> Interval:
    """Of all numbers of several runs, whose columns are episodes that begin alike in every run.

    Draws runs anew and, for all of them together, episodes (Owen 2007, the pigeonhole bootstrap):
    a start that is easy is easy for every run, so runs do not average it out. Covers other training
    runs judged from other starts; of one run, that run from other starts. Of few runs no bootstrap
    knows much: where three differ more than their episodes do, the interval goes from the worst to
    the best of them, which covers three times in four.
    """
    runs, n = values.shape
    rng = np.random.default_rng(seed)
    columns, rows = resamples(n, rng), resamples(runs, rng)
    drawn = values[rows[:, :, None], columns[:, None, :]].reshape(RESAMPLES, runs * n)
    return percentile_interval(float(statistic(values.ravel())), statistic(drawn))


def auroc(
    score: Float[np.ndarray, "n"],
    wrong: Bool[np.ndarray, "n"],
    weight: Float[np.ndarray, "*r n"] | None = None,
) -> Float[np.ndarray, "*r"]:
    """P(a wrong one scores higher than a right one) + ½ P(equal), by ranks (Hanley & McNeil 1982).

    Each counts as often as its weight says. NaN where all are right, or all are wrong.
    """
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # of each run of equals
    sorted_weight = weight[..., order]
    bad, good = (
        np.add.reduceat(sorted_weight * which, first, axis=-1)
        for which in (wrong[order], ~wrong[order])
    )
    below = np.cumsum(good, axis=-1) - good / 2
    with np.errstate(invalid="ignore"):
        return np.asarray((bad * below).sum(-1) / (bad.sum(-1) * good.sum(-1)))


def auroc_interval(
    score: Float[np.ndarray, "n"],
    wrong: Bool[np.ndarray, "n"],
    group: Int[np.ndarray, "n"],
    *,
    seed: int,
) -> Interval | None:
    """Of whole groups drawn anew, a group being one rollout; None where none, or all, are wrong."""
    if wrong.all() or not wrong.any():
        return None
    number = np.unique(group, return_inverse=True)[1]
    groups = int(number.max()) + 1
    parts = []
    for drawn in np.array_split(_drawn(groups, seed), 20):  # a few resamples at a time, for memory
        times = np.stack([np.bincount(one, minlength=groups) for one in drawn])
        parts.append(auroc(score, wrong, times[:, number].astype(np.float64)))
    return percentile_interval(float(auroc(score, wrong)), np.concatenate(parts))


def resamples(n: int, rng: np.random.Generator) -> Int[np.ndarray, "r n"]:
    """Indices, with replacement."""
    return rng.integers(n, size=(RESAMPLES, n))


def percentile_interval(value: float, drawn: Float[np.ndarray, "r"]) -> Interval:
    low, high = np.nanpercentile(drawn, _TAILS).tolist()
    return Interval(value=value, low=low, high=high)


def _drawn(n: int, seed: int) -> Int[np.ndarray, "r n"]:
    return resamples(n, np.random.default_rng(seed))
