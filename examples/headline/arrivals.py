"""When learning curves reach a coverage, and whether one agent's does so sooner than another's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from headline.records import REAL, Exam, Run
from wm_gym.evaluation import judge
from wm_gym.evaluation.statistics import RESAMPLES, resamples

TAILS = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A threshold, by the middle one of the seeds (of two, the later)."""

    samples: float | None
    """None where it never did."""

    seconds: float | None
    spent: float
    """It has not needed fewer samples than this, or it has not arrived in so many."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of how many times fewer samples: 95 % of draws lie within."""

    low: float
    high: float

    @property
    def open(self) -> bool:
        return self.low <= 1 <= self.high


def real_exams(run: Run) -> list[Exam]:
    return [exam for exam in run.exams if exam.env_id == REAL]


def coverages(run: Run) -> Float[np.ndarray, "n"]:
    """Each exam's mean best coverage in the real system."""
    return np.array([np.mean(exam.best) for exam in real_exams(run)], np.float64)


def reached(runs: Sequence[Run], threshold: float) -> Reached:
    samples, seconds, spent = [], [], []
    for run in runs:
        exams = real_exams(run)
        at = [exam.samples for exam in exams]
        found = judge.samples_to(at, coverages(run).tolist(), threshold)
        arrived = math.inf if found is None else found
        samples.append(arrived)
        times = [exam.seconds for exam in exams]
        seconds.append(math.inf if found is None else float(np.interp(found, at, times)))
        spent.append(min(arrived, at[-1] if at else 0))
    return Reached(
        samples=_finite(middle(samples)),
        seconds=_finite(middle(seconds)),
        spent=middle(spent),
    )


def times_fewer(
    lead: Sequence[Run], behind: Sequence[Run], threshold: float, *, seed: int = 0
) -> Bounds:
    """Samples of the second over those of the first, by a bootstrap over runs and starts.

    Where both had the same starts, both have the same ones in a draw. Who does not arrive in a draw
    needs more than was spent, perhaps far more: the interval is as wide as that allows.
    """
    rng = np.random.default_rng(seed)
    starts: dict[tuple[int, int], Int[np.ndarray, "r n"]] = {}
    for first in (real_exams(lead[0])[0], real_exams(behind[0])[0]):
        starts.setdefault((first.seed, len(first.best)), resamples(len(first.best), rng))
    (one, one_spent), (other, other_spent) = (
        _drawn(runs, threshold, starts, rng) for runs in (lead, behind)
    )
    both_low = np.minimum(other, other_spent) / one  # 0 where the first does not arrive
    both_high = np.full(RESAMPLES, math.inf)
    np.divide(other, np.minimum(one, one_spent), out=both_high, where=np.isfinite(other))
    return Bounds(
        low=float(np.quantile(both_low, TAILS[0], method="nearest")),
        high=float(np.quantile(both_high, TAILS[1], method="nearest")),
    )


def _drawn(
    runs: Sequence[Run],
    threshold: float,
    starts: dict[tuple[int, int], Int[np.ndarray, "r n"]],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "r"]]:
    """The middle run's samples, infinite where it does not arrive, and what was spent."""
    samples, spent = [], []
    for run in runs:
        exams = real_exams(run)
        at = [exam.samples for exam in exams]
        columns = starts[exams[0].seed, len(exams[0].best)]
        curves = np.stack([np.array(exam.best)[columns].mean(1) for exam in exams], axis=1)
        found = [judge.samples_to(at, curve, threshold) for curve in curves.tolist()]
        samples.append([math.inf if each is None else each for each in found])
        spent.append(np.minimum(samples[-1], at[-1]))
    rows = resamples(len(runs), rng)
    return _middle_of(np.array(samples), rows), _middle_of(np.stack(spent), rows)


def _middle_of(
    values: Float[np.ndarray, "runs r"], rows: Int[np.ndarray, "r runs"]
) -> Float[np.ndarray, "r"]:
    chosen = np.take_along_axis(values.T, rows, axis=1)
    return np.asarray(np.sort(chosen, axis=1)[:, rows.shape[1] // 2])


def middle(values: Sequence[float]) -> float:
    """The median; of an even number, the upper one."""
    return sorted(values)[len(values) // 2]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
