"""The figures, and dreams, as pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from wm_gym.data import Dataset
from wm_gym.evaluation.fidelity import Fidelity, Table
from wm_gym.evaluation.logged_frames import reconstructed
from wm_gym.evaluation.report import HIDDEN
from wm_gym.evaluation.rollouts import RECONSTRUCTION, Dreamer, Plan
from wm_gym.models.colours import to_colour

SHOWN = (0, 1, 5, 15, 30, 50, 100, 147)
"""Steps on a filmstrip; 0 is the last frame that the model is shown, and its reconstruction."""

_TOP, _LEFT, _GAP, _EDGE = 28, 64, 12, (2, 2)


def draw_fidelity(found: Mapping[str, Fidelity], units: Mapping[str, str]) -> Figure:
    """Median errors over steps, with bands between quartiles; the real system's own are dashed."""
    panels = {
        **{name: f"{name.replace('_', ' ')} error, {unit}" for name, unit in units.items()},
        "coverage": "coverage error",
        "reward": "reward error",
        "ssim": "SSIM",
    }
    has = [n for n in panels if any(n in each.figures for each in found.values())]
    rows = -(-len(has) // 3)
    figure = Figure(figsize=(13, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel()
    for one in axes[len(has) :]:
        one.set_axis_off()
    for one, name in zip(axes, has, strict=False):
        _draw_panel(one, name, found)
        one.set(title=panels[name], xlabel="steps dreamt", xscale="log")
        if name in units:  # from far below a pixel to a whole board
            one.set_yscale("symlog", linthresh=1)
            one.set_ylim(bottom=0)
        tables = [each.figures[name] for each in found.values() if name in each.figures]
        steps = {step for table in tables for step in table} - set(HIDDEN)
        one.set_xticks(sorted(steps), [str(step) for step in sorted(steps)])
        one.minorticks_off()
    axes[0].legend(fontsize="small")
    return figure


def _draw_panel(axes: Axes, name: str, found: Mapping[str, Fidelity]) -> None:
    for number, (behaviour, each) in enumerate(found.items()):
        draw = partial(_draw_curve, axes, name=name, colour=f"C{number}")
        draw(each.figures, style="-", label=behaviour, band=True)
        draw(each.floor, style="--", label="" if number else "the real system, nudged")
    first = next(iter(found.values()))
    reconstructed = name + RECONSTRUCTION
    label = "reconstruction of the real frame"
    _draw_curve(axes, first.figures, name=reconstructed, colour="grey", style=":", label=label)


def _draw_curve(
    axes: Axes,
    table: Table,
    *,
    name: str,
    colour: str,
    style: str,
    label: str,
    band: bool = False,
) -> None:
    if name not in table:
        return
    steps = sorted(table[name])
    spreads = [table[name][step] for step in steps]
    axes.plot(steps, [s.median.value for s in spreads], style, color=colour, label=label)
    if band:
        low, high = zip(*(s.quartiles for s in spreads), strict=True)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """Rollouts frame by frame, from the last frame that the model is shown."""

    real: UInt8[np.ndarray, "t b h w c"]
    dream: UInt8[np.ndarray, "t b h w c"]

    @classmethod
    def joined(cls, films: "Sequence[Film]") -> "Film":
        """Beside each other, as long as the shortest."""
        steps = min(len(film.real) for film in films)
        parts = {n: [getattr(f, n)[:steps] for f in films] for n in ("real", "dream")}
        return cls(**{name: np.concatenate(part, axis=1) for name, part in parts.items()})


@torch.no_grad()
def film(dreamer: Dreamer, dataset: Dataset, plan: Plan) -> Film:
    """All steps of a few rollouts."""
    model = dreamer.model
    real = dreamer.frames(dataset, plan.rows[plan.context - 1 :])
    first = reconstructed(model, dataset, plan.at(0))
    seen = [first, *(model.decode(out.state) for _, out in dreamer.dream(dataset, plan))]
    dream = [to_colour(each.frames) for each in seen]
    steps = plan.steps[-1] + 1
    return Film(real=real[:steps].cpu().numpy(), dream=torch.stack(dream).cpu().numpy())


def filmstrip(shown: Film, steps: Sequence[int] = SHOWN) -> UInt8[np.ndarray, "h w c"]:
    """A pair of rows for each rollout, twice enlarged, with the steps above."""
    steps = [step for step in steps if step < len(shown.real)]
    pairs = [
        np.concatenate([_row(part[steps, b], 2) for part in (shown.real, shown.dream)])
        for b in range(shown.real.shape[1])
    ]
    gap, margins = ((0, _GAP), (0, 0), (0, 0)), ((_TOP, 0), (_LEFT, 0), (0, 0))
    strip = np.concatenate([np.pad(pair, gap, constant_values=255) for pair in pairs])
    picture = Image.fromarray(np.pad(strip, margins, constant_values=255))
    write = partial(ImageDraw.Draw(picture).text, fill=(0, 0, 0), anchor="mm", font_size=16)
    width, height = pairs[0].shape[1] / len(steps), len(pairs[0]) / 2
    for i, step in enumerate(steps):
        write((_LEFT + (i + 0.5) * width, _TOP / 2), f"step {step}")
    for i in range(len(pairs)):
        top = _TOP + i * (2 * height + _GAP)
        write((_LEFT / 2, top + 0.5 * height), "real")
        write((_LEFT / 2, top + 1.5 * height), "dream")
    return np.asarray(picture)


def film_frames(shown: Film, *, enlarge: int = 3) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """Real above dream, rollouts side by side; one by one, as all of them may not fit in memory."""
    for pair in zip(shown.real, shown.dream, strict=True):
        yield np.concatenate([_row(part, enlarge) for part in pair])


def _row(frames: UInt8[np.ndarray, "n h w c"], enlarge: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Side by side and in colour, with a little white around each; sizes stay even, for videos."""
    larger = frames.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    coloured = np.broadcast_to(larger, (*larger.shape[:3], 3))
    framed = np.pad(coloured, ((0, 0), _EDGE, _EDGE, (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)
