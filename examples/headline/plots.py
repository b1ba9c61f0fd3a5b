"""Learning curves: in the real system over samples and over time, and in the dream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from headline.arrivals import coverages, real_exams
from headline.records import Run
from headline.table import THRESHOLDS, compare
from headline.verdict import headline

_KNOWN = {"FoG": "C0", "PPO": "C1", "SAC": "C2"}
_OTHERS = ("C3", "C4", "C5", "C6", "C7", "C8", "C9", "black", "goldenrod", "navy")
_UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}

SAMPLES = "imagined samples"

_LOG_FROM = 4
"""Budgets this many times apart want a logarithmic axis."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    x: Float[np.ndarray, "n"]
    y: Float[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    x: str
    y: str
    curve: Callable[[Run], Curve]
    coverage: bool


def colours(agents: Sequence[str]) -> dict[str, str]:
    """FoG's, PPO's and SAC's are the same in every picture."""
    others = dict.fromkeys(agent for agent in agents if agent not in _KNOWN)
    return _KNOWN | dict(zip(others, cycle(_OTHERS), strict=False))


def draw_curves(
    runs: Sequence[Run], out: Path, *, behind: Sequence[Run] = (), title: str | None = None
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    curves_figure(runs, behind=behind, title=title).savefig(out, dpi=150)


def curves_figure(
    runs: Sequence[Run], *, behind: Sequence[Run] = (), title: str | None = None
) -> Figure:
    """Each agent's mean over seeds, each seed, and a band from the least to the most; faint and
    dotted, the runs `behind`, whose times may be another machine's. The title is a verdict's, if
    none is given."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    colour = colours([run.agent for run in (*runs, *behind)])
    panels = _panels(runs)
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _draw_panel(axes, panel, runs, behind, colour)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=11)
    figure.suptitle(headline(compare(runs)) if title is None else title, fontsize=14)
    return figure


def _panels(runs: Sequence[Run]) -> list[Panel]:
    seconds = max((run.progress[-1].seconds for run in runs if run.progress), default=0)
    name = next((name for name, unit in _UNITS.items() if seconds > 2 * unit), "seconds")

    def over_time(run: Run) -> Curve:
        times = np.array([exam.seconds for exam in real_exams(run)], np.float64)
        return Curve(x=times / _UNITS[name], y=coverages(run))

    def over_samples(run: Run) -> Curve:
        samples = np.array([exam.samples for exam in real_exams(run)], np.float64)
        return Curve(x=samples, y=coverages(run))

    real = "best coverage in the real system"
    return [
        Panel(x=SAMPLES, y=real, curve=over_samples, coverage=True),
        Panel(x=f"{name} of work", y=real, curve=over_time, coverage=True),
        Panel(x=SAMPLES, y="reward a step, in the dream", curve=_reward, coverage=False),
    ]


def _reward(run: Run) -> Curve:
    lines = np.array([(line.samples, line.reward) for line in run.progress], float).reshape(-1, 2)
    return Curve(x=lines[:, 0], y=lines[:, 1])


def _draw_panel(
    axes: Axes, panel: Panel, runs: Sequence[Run], behind: Sequence[Run], colour: dict[str, str]
) -> None:
    axes.set_xlabel(panel.x, fontsize=12)
    axes.set_ylabel(panel.y, fontsize=12)
    if panel.coverage:
        for threshold in THRESHOLDS:
            axes.axhline(threshold, color="0.85", linewidth=0.8, zorder=0)
        axes.set(ylim=(0, 1), yticks=(0, *THRESHOLDS, 1))
    shown, study = _by_agent(panel, runs), _by_agent(panel, behind)
    for agent, curves in shown.items():
        _draw_agent(axes, curves, label=agent, colour=colour[agent])
    for agent, curves in study.items():
        x, values = pooled(curves)
        faint = axes.plot(x, values.mean(0), ":", color=colour[agent], alpha=0.6, zorder=1)
        faint[0].set_label(f"{agent}, README's study")
    drawn = [*chain.from_iterable([*shown.values(), *study.values()])]
    _scale(axes, panel, [curve.x for curve in drawn])


def _by_agent(panel: Panel, runs: Sequence[Run]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for run in runs:
        if len((curve := panel.curve(run)).x):
            found.setdefault(run.agent, []).append(curve)
    return found


def _draw_agent(axes: Axes, curves: Sequence[Curve], *, label: str, colour: str) -> None:
    x, values = pooled(curves)
    many = len(curves) > 1
    name = f"{label}, {len(curves)} seeds" if many else f"{label}, one seed"
    marker = "o" if len(x) == 1 else None  # of one point there is no line
    axes.plot(x, values.mean(0), color=colour, linewidth=2.4, label=name, marker=marker)
    if many:
        axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        for curve in curves:
            axes.plot(curve.x, curve.y, color=colour, linewidth=0.7, alpha=0.7)


def pooled(
    curves: Sequence[Curve],
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "c n"]]:
    """All curves at all of their places between the last beginning and the first end."""
    low, high = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    places = np.unique(np.concatenate([curve.x for curve in curves]))
    places = places[(places >= low) & (places <= high)]
    return places, np.stack([np.interp(places, curve.x, curve.y) for curve in curves])


def _scale(axes: Axes, panel: Panel, places: Sequence[Float[np.ndarray, "n"]]) -> None:
    ends = [x[-1] for x in places if x[-1] > 0 and len(x) > 1]
    if ends and max(ends) > _LOG_FROM * min(ends):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(x[x > 0].min() for x in places if (x > 0).any()), 1.1 * max(ends))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if panel.x == SAMPLES else "{x:g}")
