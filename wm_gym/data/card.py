"""What a dataset covers, in numbers and in one picture."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm_gym.data.absence import Absences, absences_in, absences_text, system_of
from wm_gym.data.dataset import Dataset
from wm_gym.data.motion import Motion, motion_of, motion_text
from wm_gym.storage.text import printable_name

BANDS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Of coverage, for the table."""


@dataclass(frozen=True, kw_only=True)
class Card:
    env_id: str
    hash: str
    episodes: int
    frames: int
    bytes_per_frame: float
    behaviours: dict[str, int]
    """Frames of each."""

    contact_share: float | None
    """Of the transitions, how many touched the thing to be moved; None where nobody logged it."""

    coverage_shares: dict[str, float] | None
    """Of the frames, how many lie in each band of coverage."""

    solved: dict[str, float] | None
    """Of each behaviour's episodes, the share whose best coverage exceeds 0.90."""

    action_std: list[float]
    saturated_share: float
    """Of the actions, how many have an entry at the edge of the box, ±1."""

    motion: Motion

    tasks: dict[str, int] | None = None
    """Frames of each, where there are several."""

    proprio_names: tuple[str, ...] = ()

    terminated_share: float = 0.0
    """Of the episodes, how many ended for good."""

    in_view: Absences | None = None
    """How often what is handled is seen; None where the system does not say."""

    licences: dict[str, str] = field(default_factory=dict)
    """Of what others made and the data show or follow."""


def dataset_card(dataset: Dataset) -> Card:
    rows = _rows(dataset)
    inner = rows[~_last_of_episode(dataset, rows)]
    action, facts = dataset.action[inner], dataset.spec.facts
    progress, system = dataset.progress, system_of(dataset)
    frames = {
        str(name): int(dataset.index["length"][dataset.index["behaviour"] == name].sum())
        for name in np.unique(dataset.index["behaviour"])
    }
    files = dataset.folder.glob("**/*.parquet")
    return Card(
        env_id=dataset.spec.env_id,
        hash=dataset.hash,
        episodes=len(dataset),
        frames=dataset.num_frames,
        bytes_per_frame=sum(f.stat().st_size for f in files) / len(dataset.action),
        behaviours=frames,
        contact_share=(
            float(dataset.fact("contact")[inner + 1].mean()) if "contact" in facts else None
        ),
        coverage_shares=None if progress is None else _coverage_shares(progress[rows]),
        solved=None if progress is None else _solved(dataset, progress),
        action_std=[round(float(s), 3) for s in action.std(0)],
        saturated_share=float((np.abs(action) >= 1).any(1).mean()),
        motion=motion_of(dataset),
        tasks=_frames_of_tasks(dataset) if len(dataset.tasks) > 1 else None,
        proprio_names=dataset.spec.proprio_names,
        terminated_share=float(dataset.ended.mean()),
        in_view=None if system is None else absences_in(dataset, system),
        licences={} if system is None else dict(system.licences),
    )


def _frames_of_tasks(dataset: Dataset) -> dict[str, int]:
    frames = np.bincount(
        dataset.index["task_index"], dataset.index["length"], minlength=len(dataset.tasks)
    )
    return dict(zip(dataset.tasks, frames.astype(int).tolist(), strict=True))


def card_text(card: Card) -> str:
    lines = [
        f"dataset of {printable_name(card.env_id)}  (content {card.hash[:12]})",
        f"  {card.episodes:,} episodes, {card.frames:,} frames, "
        f"{card.bytes_per_frame:,.0f} bytes a frame",
    ]
    for name, frames in card.behaviours.items():
        solved = f", {card.solved[name]:.0%} of episodes reach coverage 0.90" if card.solved else ""
        shown = f"{printable_name(name):<10}"
        lines.append(f"  {shown}{frames:>9,} frames ({frames / card.frames:.0%}){solved}")
    for task, frames in (card.tasks or {}).items():
        share = f"{frames:>9,} frames ({frames / card.frames:.0%})"
        lines.append(f"  {share} of task: {printable_name(task)}")
    if card.proprio_names:
        lines.append(f"  proprioception: {', '.join(map(printable_name, card.proprio_names))}")
    if card.contact_share is not None:
        lines.append(f"  contact in {card.contact_share:.0%} of transitions")
    if card.terminated_share:
        lines.append(f"  {card.terminated_share:.1%} of episodes terminated")
    if card.in_view is not None:
        lines += [f"  {line}" for line in absences_text(card.in_view)]
    edge = f"{card.saturated_share:.0%} at the edge of the box"
    lines.append(f"  actions: std {card.action_std}, {edge}")
    lines += [f"  {line}" for line in motion_text(card.motion)]
    if card.coverage_shares is not None:
        lines.append("  coverage, share of frames:")
        lines += [
            f"    {band}  {share:6.1%}  {'#' * round(60 * share)}"
            for band, share in card.coverage_shares.items()
        ]
    lines += [f"  {what}: {licence}" for what, licence in card.licences.items()]
    return "\n".join(lines)


def draw_card(dataset: Dataset, state_names: tuple[str, ...] = ()) -> Figure:
    """Where the thing was, how it was turned, how much was covered, what was done, some frames."""
    rows = _rows(dataset)
    facts = dataset.spec.facts
    panels: list[Callable[[Axes, Dataset, np.ndarray], None]] = []
    system = system_of(dataset)
    if "state" in facts and system is not None and system.places:
        panels += [partial(_draw_map, name=n, at=at) for n, at in system.where.items()]
    elif "state" in facts and len(state_names) > 1:
        panels += [partial(_draw_place, names=state_names), partial(_draw_turn, names=state_names)]
    if dataset.progress is not None:
        panels.append(_draw_coverage)
    panels.append(_draw_action)
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    halves = figure.subfigures(2, 1)
    assert isinstance(halves, np.ndarray)
    above, below = halves
    for draw, axes in zip(panels, above.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(axes, dataset, rows)
    _draw_frames(below.subplots(), dataset)
    figure.suptitle(
        f"{_plain(dataset.spec.env_id)}: {len(dataset):,} episodes, {dataset.num_frames:,} frames"
    )
    return figure


def _draw_map(
    axes: Axes, dataset: Dataset, rows: np.ndarray, *, name: str, at: tuple[int, int]
) -> None:
    state = dataset.fact("state")[rows]
    axes.hist2d(state[:, at[0]], state[:, at[1]], bins=64, norm="log", cmap="magma")
    axes.set(title=f"where the {name} was (log density)", xlabel="x", ylabel="y")
    axes.set_aspect("equal")


def _draw_place(axes: Axes, dataset: Dataset, rows: np.ndarray, names: tuple[str, ...]) -> None:
    x = names.index("block_x") if "block_x" in names else 0
    state = dataset.fact("state")[rows]
    axes.hist2d(state[:, x], state[:, x + 1], bins=64, norm="log", cmap="magma")
    axes.set(title="where it was (log density)", xlabel=names[x], ylabel=names[x + 1])
    axes.invert_yaxis()
    axes.set_aspect("equal")


def _draw_turn(axes: Axes, dataset: Dataset, rows: np.ndarray, names: tuple[str, ...]) -> None:
    at = names.index("block_angle") if "block_angle" in names else len(names) - 1
    values, unit = dataset.fact("state")[rows, at], ""
    if "angle" in names[at]:
        values, unit = np.degrees(values) % 360, ", °"
    axes.hist(values, bins=72, color="slategrey")
    axes.set(title="how it was turned" if unit else names[at], xlabel=names[at] + unit)
    axes.set_ylabel("frames")


def _draw_coverage(axes: Axes, dataset: Dataset, rows: np.ndarray) -> None:
    for name in np.unique(dataset.index["behaviour"]):
        part = dataset.select(behaviour=str(name))
        assert part.progress is not None
        coverage = part.progress[_rows(part)]
        axes.hist(
            coverage, bins=40, range=(0, 1), histtype="step", log=True, label=_plain(str(name))
        )
    name = dataset.spec.progress_fact or ""
    titles = {"coverage": "how much was covered", "progress": "how much was achieved"}
    axes.set(title=titles.get(name, name), xlabel=name, ylabel="frames")
    axes.legend(fontsize="small")


def _draw_action(axes: Axes, dataset: Dataset, rows: np.ndarray) -> None:
    action = dataset.action[rows[~_last_of_episode(dataset, rows)]]
    if action.shape[1] == 1:
        axes.hist(action[:, 0], bins=48, color="slategrey")
        axes.set(title="what was done", xlabel="action", ylabel="transitions")
        return
    axes.hist2d(action[:, 0], action[:, 1], bins=48, norm="log", cmap="magma")
    axes.set(title="what was done (log density)", xlabel="action[0]", ylabel="action[1]")


def _draw_frames(axes: Axes, dataset: Dataset) -> None:
    names = [str(name) for name in np.unique(dataset.index["behaviour"])]
    mosaic = _mosaic(dataset, names)
    axes.imshow(mosaic)
    axes.set_title("random frames of each behaviour", loc="left")
    axes.set_xticks([])
    height = len(mosaic) / len(names)
    axes.set_yticks([height * (row + 0.5) for row in range(len(names))], map(_plain, names))


def _plain(name: str) -> str:
    """Neither controls nor formulas, which a `$` would begin."""
    return printable_name(name).replace("$", r"\$")


def _mosaic(dataset: Dataset, names: list[str], columns: int = 12) -> np.ndarray:
    rng, strips = np.random.default_rng(0), []
    for name in names:
        rows = _rows(dataset.select(behaviour=name))
        frames = dataset.frames(rng.choice(rows, columns))
        framed = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)))
        strips.append(np.concatenate(list(framed), axis=1))
    return np.concatenate(strips)


def _rows(dataset: Dataset) -> np.ndarray:
    return np.concatenate(
        [np.arange(s, s + n) for s, n in zip(*_starts_and_lengths(dataset), strict=True)]
    )


def _last_of_episode(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    starts, lengths = _starts_and_lengths(dataset)
    return np.isin(rows, starts + lengths - 1)


def _starts_and_lengths(dataset: Dataset) -> tuple[Any, Any]:
    return dataset.index["start"], dataset.index["length"]


def _coverage_shares(coverage: Float[np.ndarray, "n"]) -> dict[str, float]:
    counts, _ = np.histogram(np.clip(coverage, 0, 1), bins=BANDS)
    pairs = zip(BANDS[:-1], BANDS[1:], counts / counts.sum(), strict=True)
    return {f"{low:.2f}–{high:.2f}": float(share) for low, high, share in pairs}


def _solved(dataset: Dataset, coverage: Float[np.ndarray, "n"]) -> dict[str, float]:
    best = np.array(
        [coverage[s : s + n].max() for s, n in zip(*_starts_and_lengths(dataset), strict=True)]
    )
    names = dataset.index["behaviour"]
    return {str(name): float((best[names == name] > 0.9).mean()) for name in np.unique(names)}
