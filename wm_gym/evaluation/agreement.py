"""Imagined against real: does the dream rank policies as the real system does, and flatter none?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wm_gym.evaluation.statistics import Interval, percentile_interval, resamples


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One policy's mean over episodes."""

    imagined: Interval
    real: Interval
    excess: Interval
    """Imagined less real."""

    exploits: bool
    """Whether the dream flatters it: the excess is above the margin, and its interval above 0."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one figure, a return or a coverage, of several policies.

    Intervals are of 95 %, over episodes: they cover these very policies judged once more, not
    another choice of policies, which moves a correlation at least as much. Resampled means are
    noisier than the means themselves, so intervals of ranks lean towards disagreement.
    """

    pearson: Interval | None
    """None where all policies do equally well, in the dream or in truth."""

    spearman: Interval | None
    mmrv: Interval
    """Mean maximum rank violation, in units of the figure."""

    policies: tuple[Compared, ...]
    margin: float

    @property
    def exploited(self) -> bool:
        """Whether anybody exploits the dream."""
        return any(each.exploits for each in self.policies)


def agreement(
    imagined: Float[np.ndarray, "p n"],
    real: Float[np.ndarray, "p m"],
    *,
    margin: float,
    seed: int,
    paired: bool = False,
) -> Agreement:
    """Of policies × episodes each; column j begins alike for all policies, and, where `paired`, in
    the dream as in truth. Where dreams begin elsewhere, so may the excess of all policies."""
    _check(imagined, real, paired)
    rng = np.random.default_rng(seed)
    columns = resamples(imagined.shape[1], rng)
    of_real = columns if paired else resamples(real.shape[1], rng)
    dreamt, true = imagined[:, columns].mean(-1).T, real[:, of_real].mean(-1).T
    means = imagined.mean(1), real.mean(1)
    return Agreement(
        pearson=_correlation(pearson(*means), pearson(dreamt, true)),
        spearman=_correlation(spearman(*means), spearman(dreamt, true)),
        mmrv=percentile_interval(float(mmrv(*means)), mmrv(dreamt, true)),
        policies=tuple(
            _compared(float(one), float(other), dreamt[:, i], true[:, i], margin)
            for i, (one, other) in enumerate(zip(*means, strict=True))
        ),
        margin=margin,
    )


def pearson(x: Float[np.ndarray, "*r p"], y: Float[np.ndarray, "*r p"]) -> Float[np.ndarray, "*r"]:
    """NaN where all of x, or all of y, are equal."""
    dx, dy = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    equal = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    scale = np.sqrt(np.square(dx).sum(-1) * np.square(dy).sum(-1))
    r = (dx * dy).sum(-1) / np.where(equal, np.nan, scale)
    return np.asarray(np.clip(r, -1.0, 1.0))


def spearman(x: Float[np.ndarray, "*r p"], y: Float[np.ndarray, "*r p"]) -> Float[np.ndarray, "*r"]:
    """Pearson's, of ranks; equals share theirs."""
    return pearson(_ranks(x), _ranks(y))


def mmrv(
    imagined: Float[np.ndarray, "*r p"], real: Float[np.ndarray, "*r p"]
) -> Float[np.ndarray, "*r"]:
    """Mean maximum rank violation (Li et al. 2024, SIMPLER): how much of the truth a wrong order of
    two policies hides, the worst pair of each policy, on average.

        mean_i max_j |Rᵢ − Rⱼ| [sign(R̂ᵢ − R̂ⱼ) ≠ sign(Rᵢ − Rⱼ)]

    Policies that are equal in the dream alone count as out of order, for both of them.
    """
    dreamt, true = _differences(imagined), _differences(real)
    return np.asarray((np.abs(true) * (np.sign(dreamt) != np.sign(true))).max(-1).mean(-1))


def _ranks(values: Float[np.ndarray, "*r p"]) -> Float[np.ndarray, "*r p"]:
    """From the middle one, which has 0."""
    return np.asarray(np.sign(_differences(values)).sum(-1) / 2)


def _differences(values: Float[np.ndarray, "*r p"]) -> Float[np.ndarray, "*r p p"]:
    return np.asarray(values[..., :, None] - values[..., None, :])


def _correlation(value: Float[np.ndarray, ""], drawn: Float[np.ndarray, "r"]) -> Interval | None:
    return None if np.isnan(value) else percentile_interval(float(value), drawn)


def _compared(
    imagined: float,
    real: float,
    dreamt: Float[np.ndarray, "r"],
    true: Float[np.ndarray, "r"],
    margin: float,
) -> Compared:
    excess = percentile_interval(imagined - real, dreamt - true)
    return Compared(
        imagined=percentile_interval(imagined, dreamt),
        real=percentile_interval(real, true),
        excess=excess,
        exploits=excess.value > margin and excess.low > 0,
    )


def _check(
    imagined: Float[np.ndarray, "p n"], real: Float[np.ndarray, "q m"], paired: bool
) -> None:
    if len(imagined) != len(real) or len(real) < 2:
        raise ValueError(
            f"got {len(imagined)} policies imagined and {len(real)} real, expected the same, "
            "at least 2"
        )
    if paired and imagined.shape != real.shape:
        raise ValueError(
            f"paired episodes have shapes {imagined.shape} and {real.shape}, expected equal ones"
        )
