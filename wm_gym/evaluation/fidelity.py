"""The figures: how far dreams are from the truth, how whole, and whether they know it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wm_gym.evaluation.probes import Probe
from wm_gym.evaluation.rollouts import (
    REAL,
    RECONSTRUCTION,
    RESIDUAL,
    STILL,
    UNCERTAINTY,
    Rollouts,
)
from wm_gym.evaluation.statistics import (
    Interval,
    Spread,
    auroc_interval,
    share,
    told_spread,
)

Table = Mapping[str, Mapping[int, Spread]]
"""A figure's name, a step, and how it is spread over rollouts."""

Shares = Mapping[str, Mapping[int, Interval]]
"""What is shown, a step, and the share of rollouts."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Whether the model's uncertainty tells wrong frames from right ones."""

    auroc: Interval | None
    """None where none is wrong, or all are."""

    wrong: float
    """Share of the frames."""

    frames: int


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Of the dreams of one behaviour. Without a probe there are only `figures`."""

    figures: Table
    floor: Table
    """Of the real system against itself, nudged or under other noise."""

    whole: Shares
    """Frames that show what they should, as one whole block: dreamt, reconstructed, real."""

    wrong: Shares
    """Frames with an error above the probe's `WRONG`: dreamt, reconstructed, real, of a system that
    stands still, and of the real system, nudged."""

    detection: Detection | None
    """Over all recorded frames; errors and uncertainty both grow with the step, which alone makes
    it better than a half."""

    detection_by_step: Mapping[int, Detection]
    """Among frames of one step, where that does not help."""


def fidelity(
    rollouts: Sequence[Rollouts], floor: Sequence[Rollouts], probe: Probe | None, *, seed: int
) -> Fidelity:
    """Of rollouts of several plans."""
    figures, nudged = _table(rollouts, seed), _table(floor, seed)
    if probe is None or RESIDUAL not in figures:
        return Fidelity(
            figures=figures, floor=nudged, whole={}, wrong={}, detection=None, detection_by_step={}
        )
    whole, wrong = {}, {}
    for of, suffix in {"dream": "", "reconstruction": RECONSTRUCTION, "real": REAL}.items():
        whole[of] = _shares(rollouts, RESIDUAL + suffix, (-np.inf, probe.WHOLE), seed)
    error, most = probe.WRONG
    kinds = {"dream": "", "reconstruction": RECONSTRUCTION, "real": REAL, "still": STILL}
    for of, suffix in kinds.items():
        wrong[of] = _shares(rollouts, error + suffix, (most, np.inf), seed)
    if error in nudged:
        wrong["nudged"] = _shares(floor, error, (most, np.inf), seed)
    return Fidelity(
        figures=figures,
        floor=nudged,
        whole=whole,
        wrong=wrong,
        detection=detection(rollouts, probe, seed=seed),
        detection_by_step={
            step: detection([each.at(row)], probe, seed=seed)
            for each in rollouts
            for row, step in enumerate(each.steps)
        },
    )


def detection(rollouts: Iterable[Rollouts], probe: Probe, *, seed: int) -> Detection:
    """Of all frames, also of several behaviours; rollouts are drawn anew as wholes."""
    name, most = probe.WRONG
    score, error, group = [], [], []
    for number, each in enumerate(rollouts):
        score.append(each.figures[UNCERTAINTY].ravel())
        error.append(each.figures[name].ravel())
        group.append(np.tile(np.arange(len(each.first_row)) + number * 10**6, len(each.steps)))
    told = ~np.isnan(np.concatenate(error))
    wrong, scores, groups = (np.concatenate(each)[told] for each in (error, score, group))
    wrong = wrong > most
    return Detection(
        auroc=auroc_interval(scores, wrong, groups, seed=seed),
        wrong=float(wrong.mean()) if len(wrong) else 0.0,
        frames=len(wrong),
    )


def _table(rollouts: Sequence[Rollouts], seed: int) -> dict[str, dict[int, Spread]]:
    table: dict[str, dict[int, Spread]] = {}
    for each in rollouts:
        for name, values in each.figures.items():
            for step, row in zip(each.steps, values, strict=True):
                if (found := told_spread(row, seed=seed)) is not None:
                    table.setdefault(name, {})[step] = found
    return table


def _shares(
    rollouts: Sequence[Rollouts], name: str, between: tuple[float, float], seed: int
) -> dict[int, Interval]:
    """Of rollouts with a figure in this open interval, by step; those where nobody can tell do not
    count."""
    low, high = between
    rows = [
        (step, row[~np.isnan(row)])
        for each in rollouts
        for step, row in zip(each.steps, each.figures[name], strict=True)
    ]
    return {step: share((low < row) & (row < high), seed=seed) for step, row in rows if len(row)}
