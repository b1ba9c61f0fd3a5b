"""The same start under several action sequences, each tried in truth: which does a dream pick?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from wm_gym.evaluation.rollouts import Dreamer
from wm_gym.evaluation.statistics import Interval, mean, percentile_interval, resamples, share
from wm_gym.evaluation.takes import Takes


@dataclass(frozen=True, kw_only=True)
class Choices:
    cases: int
    chance: float
    best: Interval
    """Share of the cases in which the dream's summed reward picks what was best in truth."""

    kept: Interval
    """Of what the best choice has over the average one: the share that the dream's choice has, on
    average over cases."""

    without_noise: Interval | None
    """Share in which the real system without its noise picks the same: nobody can be expected to do
    better."""


def dreamt_returns(
    dreamer: Dreamer, takes: Takes
) -> Iterator[tuple[Int[np.ndarray, "b"], Float[np.ndarray, "b"]]]:
    """Summed rewards, up to where a dream ends, of a part of the takes after the other."""
    for which in takes.parts():
        total, goes_on = np.zeros(len(which)), np.ones(len(which), bool)
        for step, out in dreamer.dream(takes.dataset, takes.plan(which)):
            reward = out.outcome.reward.double().cpu().numpy()
            total += np.where(goes_on & (step <= takes.steps[which]), reward, 0.0)
            goes_on &= ~out.outcome.ended.cpu().numpy()
        yield which, total


def true_returns(takes: Takes) -> Float[np.ndarray, "n"]:
    reward, begin = takes.dataset.reward, takes.first + takes.context - 1
    return np.array(
        [reward[a:b].sum(dtype=np.float64) for a, b in zip(begin, takes.last, strict=True)]
    )


def choices(dreamt: Float[np.ndarray, "n"], takes: Takes, *, seed: int) -> Choices:
    truth = _by_case(true_returns(takes), takes)
    dream = _by_case(dreamt, takes)
    cases, tried = truth.shape
    best, picked = truth.argmax(1), dream.argmax(1)
    gained = truth[np.arange(cases), picked] - truth.mean(1)
    kept = gained / (truth.max(1) - truth.mean(1))
    drawn = resamples(cases, np.random.default_rng(seed))
    quiet = None
    if "without_noise" in takes.dataset.spec.facts:
        quiet = _by_case(takes.told("without_noise"), takes).argmax(1) == best
    return Choices(
        cases=cases,
        chance=1 / tried,
        best=share(picked == best, seed=seed),
        kept=percentile_interval(float(kept.mean()), mean(kept[drawn])),
        without_noise=None if quiet is None else share(quiet, seed=seed),
    )


def _by_case(values: Float[np.ndarray, "n"], takes: Takes) -> Float[np.ndarray, "c k"]:
    """Of cases that are all there."""
    order = np.argsort(takes.case, kind="stable")
    _, counts = np.unique(takes.case, return_counts=True)
    if counts.min() != counts.max():
        raise ValueError(
            f"{takes.dataset.folder} has cases of {counts.min()} to {counts.max()} takes, expected "
            "as many in each: log it to the end"
        )
    return np.asarray(values[order].reshape(len(counts), -1))
