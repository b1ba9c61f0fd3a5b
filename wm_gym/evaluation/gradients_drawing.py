"""The gradient card as pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm_gym.evaluation.gradients import HORIZONS
from wm_gym.evaluation.gradients_card import (
    DIFFUSION,
    DREAM,
    REAL,
    SURROGATE,
    Comparison,
    Measured,
    cosines,
)

_COLOURS = {SURROGATE: "C0", DIFFUSION: "C1", DREAM: "C2"}
_STYLES = ("-", "--", ":", "-.")
_SIDE = {True: "in contact", False: "out of contact"}


def draw_cosines(comparisons: Sequence[Comparison], *, delta: float) -> Figure:
    """Medians over horizons with their intervals: a panel for each reference, in and out of
    contact."""
    references = (REAL, DREAM, DIFFUSION)
    figure = Figure(figsize=(4.5 * len(references), 7), layout="constrained")
    axes = figure.subplots(2, len(references), squeeze=False, sharey=True)
    for row, contact in zip(axes, (True, False), strict=True):
        for one, reference in zip(row, references, strict=True):
            shown = [
                line
                for line in comparisons
                if (line.reference, line.contact) == (reference, contact)
                and line.delta in (None, delta)
                and line.horizon is not None
            ]
            _draw_panel(one, shown)
            one.set(title=f"to {reference}, {_SIDE[contact]}", xlabel="h", xscale="log")
            one.set_xticks(HORIZONS, [str(h) for h in HORIZONS])
            one.minorticks_off()
            one.axhline(0, color="grey", linewidth=0.5)
        row[0].set_ylabel("cosine, return over h steps")
    axes[0, 0].legend(fontsize="small")
    return figure


def _draw_panel(axes: Axes, lines: Sequence[Comparison]) -> None:
    for number, key in enumerate(dict.fromkeys((line.ours, line.refreshes) for line in lines)):
        ours, refreshes = key
        found = {
            line.horizon: line.cosine.median
            for line in lines
            if (line.ours, line.refreshes) == key and line.cosine is not None
        }
        label = ours if not refreshes else f"{ours}, {refreshes} refreshes"
        style = _STYLES[number % len(_STYLES)] if ours == SURROGATE else "-"
        steps = [float(h or 0) for h in found]
        values = [each.value for each in found.values()]
        axes.plot(steps, values, style, marker=".", color=_COLOURS[ours], label=label)
        low, high = ([getattr(each, end) for each in found.values()] for end in ("low", "high"))
        axes.fill_between(steps, low, high, color=_COLOURS[ours], alpha=0.2, linewidth=0)


def draw_one_step(measured: Measured, *, delta: float) -> Figure:
    """Histograms of cosines to each system's differences: a row for each quantity."""
    rows = len(measured.quantities)
    figure = Figure(figsize=(9, 3.5 * rows), layout="constrained")
    refreshes = next(iter(measured.surrogate))
    axes = figure.subplots(rows, 2, squeeze=False, sharey="row")
    for what, row in zip(measured.quantities, axes, strict=True):
        for one, reference in zip(row, (REAL, DREAM), strict=True):
            for contact, side in _SIDE.items():
                found = cosines(
                    measured, SURROGATE, reference, delta=delta, refreshes=refreshes, what=what,
                    contact=contact,
                )  # fmt: skip
                bins = np.linspace(-1, 1, 41)
                one.hist(found.clip(-1, 1), bins, alpha=0.6, label=f"{side}: {len(found)} states")
            one.set(title=f"surrogate to {reference}", xlabel=f"cosine, {what} after one step")
            one.legend(fontsize="small", loc="upper left")
    return figure
