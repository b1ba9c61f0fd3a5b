"""What the records say, agent by agent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headline.arrivals import Reached, coverages, middle, reached, real_exams
from headline.records import GYM, LOCAL_WORLD, REAL, Run
from wm_gym.evaluation import judge
from wm_gym.evaluation.statistics import Interval, crossed_interval
from wm_gym.evaluation.statistics import mean as mean_of

THRESHOLDS = (0.5, 0.7, 0.8)
"""Mean best coverages in the real system, whose price is compared."""

_Z = 1.96
"""Standard deviations within which 95 % of a normal distribution lie."""

_ABOUT = (
    "Intervals are of 95 %, by bootstrap over runs and starts; of one run they cover other starts, "
    "not another training, and three runs that differ are covered three times in four. IQM: mean "
    "of the middle half. Where all or no episodes succeed, it is Wilson's interval of as many "
    "starts."
)
_LOCAL = f"Samples of {LOCAL_WORLD} are the local model's: it asks no other."


@dataclass(frozen=True, kw_only=True)
class Row:
    """One agent. Prices are means over seeds."""

    agent: str
    runs: Sequence[Run]
    samples: float
    local_samples: float
    gradient_steps: float
    seconds: float
    reached: Mapping[float, Reached]
    peak: float
    """How far the middle seed's curve ever got, by the means of two exams in a row, if there were
    two."""

    rise: Interval | None
    """Of the last quarter of the exams over the one before; None of a single exam."""

    judged: Mapping[str, judge.Verdict]
    """By environment."""

    @property
    def seeds(self) -> int:
        return len(self.runs)


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


def _row(runs: Sequence[Run], seed: int) -> Row:
    def mean(price: Callable[[Run], float]) -> float:
        return float(np.mean([price(run) if run.progress else 0 for run in runs]))

    return Row(
        agent=runs[0].agent,
        runs=runs,
        samples=mean(lambda run: run.progress[-1].samples),
        local_samples=mean(lambda run: run.progress[-1].local_samples),
        gradient_steps=mean(lambda run: run.progress[-1].gradient_steps),
        seconds=mean(lambda run: run.progress[-1].seconds),
        reached={threshold: reached(runs, threshold) for threshold in THRESHOLDS},
        peak=-middle([-_peak(run) for run in runs]),
        rise=_rise(runs, seed),
        judged={
            env_id: judge.verdict(
                [run.judged[env_id] for run in runs if env_id in run.judged], seed=seed
            )
            for env_id in dict.fromkeys(env_id for run in runs for env_id in run.judged)
        },
    )


def _peak(run: Run) -> float:
    found = coverages(run)
    pairs = (found[1:] + found[:-1]) / 2 if len(found) > 1 else found
    return float(max(pairs, default=0.0))


def _rise(runs: Sequence[Run], seed: int) -> Interval | None:
    """Episodes that begin alike are pairs."""
    changes = []
    for run in runs:
        best = [exam.best for exam in real_exams(run)]
        quarter = -(-len(best) // 4)
        if not (before := best[-2 * quarter : -quarter]):
            return None
        changes.append(np.mean(best[-quarter:], axis=0) - np.mean(before, axis=0))
    return crossed_interval(np.stack(changes), mean_of, seed=seed)


# As text


def rendered(comparison: Comparison) -> str:
    """Two Markdown tables that can be read as they are, and how to read them."""
    notes = [_ABOUT, *([_LOCAL] if LOCAL_WORLD in comparison.rows else [])]
    return "\n\n".join([_prices(comparison), judged_table(comparison), " ".join(notes)])


def _prices(comparison: Comparison) -> str:
    rows = comparison.rows.values()
    return _table([
        ["agent", "seeds", "samples", "local-model transitions", "gradient steps", "time of work"]
        + [f"samples to coverage {threshold}" for threshold in THRESHOLDS],
        *(
            [row.agent, str(row.seeds), count(row.samples), count(row.local_samples),
             count(row.gradient_steps), duration(row.seconds)]
            + [_arrival(row, threshold) for threshold in THRESHOLDS]
            for row in rows
        ),
    ])  # fmt: skip


def judged_table(comparison: Comparison) -> str:
    rows = comparison.rows.values()
    return _table(
        [
            ["judged on", "agent", "episodes", "best coverage, IQM", "best coverage, mean"]
            + ["in the end, IQM"]
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
    )


def _arrival(row: Row, threshold: float) -> str:
    found = row.reached[threshold]
    if found.samples is not None:
        return count(found.samples)
    return f"never (> {count(found.spent)})" if found.spent else "–"


def _judged(env_id: str, row: Row) -> list[str]:
    found = row.judged[env_id]
    episodes = f"{found.runs} × {found.episodes}" if found.runs > 1 else str(found.episodes)
    figures = [with_interval(each) for each in (found.best, found.mean_best, found.final)]
    shares = [_percent(found.success[threshold], found.episodes) for threshold in judge.THRESHOLDS]
    return [env_id, row.agent, episodes, *figures, *shares]


def alike_table(runs: Sequence[Run]) -> str:
    """Agents after equally many samples: as many as all of them have had, by their exams there."""
    least = min(run.exams[-1].samples for run in runs if run.exams[-1].samples)
    found: dict[str, list[float]] = {}
    for run in runs:
        shown = [exam for exam in real_exams(run) if exam.samples <= least]
        found.setdefault(run.agent, []).append(float(np.mean(shown[-1].best)))
    ordered = sorted(found.items(), key=lambda item: -float(np.mean(item[1])))
    return _table(
        [
            ["agent", "seeds", f"real coverage after {count(least)} samples, mean (least–most)"],
            *(
                [agent, str(len(each)), f"{np.mean(each):.2f} ({min(each):.2f}–{max(each):.2f})"]
                for agent, each in ordered
            ),
        ]
    )


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


def _percent(found: Interval, starts: int) -> str:
    """Where all episodes are equal, a bootstrap has no interval to tell."""
    low, high = found.low, found.high
    if low == high:
        least = _Z**2 / (starts + _Z**2)  # Wilson 1927, where none does
        low, high = (0, least) if found.value < 0.5 else (1 - least, 1)
    return f"{100 * found.value:.0f} % ({100 * low:.0f}–{100 * high:.0f})"
