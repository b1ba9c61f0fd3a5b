"""What the records say, agent by agent."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from headline.records import Exam, Run
from wm_gym.evaluation import judge
from wm_gym.evaluation.statistics import Interval

THRESHOLDS = (0.5, 0.7, 0.8)
"""Mean best coverages in the real system, whose price is compared."""

REAL, GYM = "Real-PushT-v0", "Real-GymPushT-v0"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A threshold, by the middle one of the seeds (of two, the later)."""

    samples: float | None
    """None where it never did."""

    seconds: float | None
    spent: float
    """It has not needed fewer samples than this, or it has not arrived in so many."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One agent. Prices are means over seeds."""

    agent: str
    seeds: int
    samples: float
    local_samples: float
    gradient_steps: float
    seconds: float
    reached: Mapping[float, Reached]
    peak: float
    """How far the middle seed's curve ever got, by the means of two exams in a row."""

    rising: bool | None
    """Whether the last quarter of the exams is better than the one before, by two standard errors
    of their episodes; None of a single exam."""

    judged: Mapping[str, judge.Verdict]
    """By environment."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    rows: Mapping[str, Row]
    """By agent."""


def compare(runs: Sequence[Run], *, seed: int = 0) -> Comparison:
    """The seed is the bootstrap's."""
    agents = dict.fromkeys(run.agent for run in runs)
    return Comparison(
        rows={name: _row([run for run in runs if run.agent == name], seed) for name in agents}
    )


def real_exams(run: Run) -> list[Exam]:
    return [exam for exam in run.exams if exam.env_id == REAL]


def coverages(run: Run) -> Float[np.ndarray, "n"]:
    """Each exam's mean best coverage in the real system."""
    return np.array([np.mean(exam.best) for exam in real_exams(run)], np.float64)


def _row(runs: Sequence[Run], seed: int) -> Row:
    def mean(price: Callable[[Run], float]) -> float:
        return float(np.mean([price(run) if run.progress else 0 for run in runs]))

    return Row(
        agent=runs[0].agent,
        seeds=len(runs),
        samples=mean(lambda run: run.progress[-1].samples),
        local_samples=mean(lambda run: run.progress[-1].local_samples),
        gradient_steps=mean(lambda run: run.progress[-1].gradient_steps),
        seconds=mean(lambda run: run.progress[-1].seconds),
        reached={threshold: _reached(runs, threshold) for threshold in THRESHOLDS},
        peak=-_middle([-_peak(run) for run in runs]),
        rising=_rising(runs),
        judged={
            env_id: judge.verdict(
                [run.judged[env_id] for run in runs if env_id in run.judged], seed=seed
            )
            for env_id in dict.fromkeys(env_id for run in runs for env_id in run.judged)
        },
    )


def _reached(runs: Sequence[Run], threshold: float) -> Reached:
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
        samples=_finite(_middle(samples)),
        seconds=_finite(_middle(seconds)),
        spent=_middle(spent),
    )


def _peak(run: Run) -> float:
    found = coverages(run)
    pairs = (found[1:] + found[:-1]) / 2
    return float(max(pairs, default=0.0))


def _rising(runs: Sequence[Run]) -> bool | None:
    last: list[float] = []
    before: list[float] = []
    for run in runs:
        exams = real_exams(run)
        quarter = -(-len(exams) // 4)
        last += [best for exam in exams[-quarter:] for best in exam.best]
        before += [best for exam in exams[-2 * quarter : -quarter] for best in exam.best]
    if not before:
        return None
    error = math.sqrt(np.var(last) / len(last) + np.var(before) / len(before))
    return float(np.mean(last) - np.mean(before)) > 2 * error


def _middle(values: Sequence[float]) -> float:
    """The median; of an even number, the upper one."""
    return sorted(values)[len(values) // 2]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# As text


def rendered(comparison: Comparison) -> str:
    """Two Markdown tables that can be read as they are."""
    rows = comparison.rows.values()
    prices = [
        ["agent", "seeds", "samples", "local-model transitions", "gradient steps", "time of work"]
        + [f"samples to coverage {threshold}" for threshold in THRESHOLDS],
        *(
            [row.agent, str(row.seeds), count(row.samples), count(row.local_samples),
             count(row.gradient_steps), duration(row.seconds)]
            + [_arrival(row.reached[threshold]) for threshold in THRESHOLDS]
            for row in rows
        ),
    ]  # fmt: skip
    judged = [
        ["judged on", "agent", "episodes", "best coverage, IQM", "mean", "in the end, IQM"]
        + [f"success at {threshold:.2f}" for threshold in judge.THRESHOLDS],
        *(
            _judged(env_id, row)
            for env_id in dict.fromkeys(
                [REAL, GYM, *(env_id for row in rows for env_id in row.judged)]
            )
            for row in rows
            if env_id in row.judged
        ),
    ]
    return _table(prices) + "\n\n" + _table(judged)


def _arrival(reached: Reached) -> str:
    return (
        f"never (> {count(reached.spent)})" if reached.samples is None else count(reached.samples)
    )


def _judged(env_id: str, row: Row) -> list[str]:
    found = row.judged[env_id]
    episodes = f"{found.runs} × {found.episodes}" if found.runs > 1 else str(found.episodes)
    figures = [with_interval(each) for each in (found.best, found.mean_best, found.final)]
    shares = [_percent(found.success[threshold]) for threshold in judge.THRESHOLDS]
    return [env_id, row.agent, episodes, *figures, *shares]


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *rest = (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
    return "\n".join([head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rest])


def count(n: float) -> str:
    """In three digits: 120 k, 1.4 M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if n >= 0.9995 * unit:
            return f"{float(f'{n / unit:.3g}'):g} {name}"
    return f"{n:.0f}"


def duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def with_interval(found: Interval) -> str:
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _percent(found: Interval) -> str:
    """Where all episodes are equal, a bootstrap has no interval to tell."""
    value, low, high = (f"{100 * each:.0f}" for each in (found.value, found.low, found.high))
    return f"{value} %" if found.low == found.high else f"{value} % ({low}–{high})"
