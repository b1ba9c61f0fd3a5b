"""Whether dreams end where logged episodes terminated, under the logged actions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from wm_gym.data import Dataset, Windows
from wm_gym.evaluation.rollouts import Dreamer, Plan, shown_of

AHEAD, LEAST = 15, 5
"""Steps before an end that a dream begins: the first where most episodes that ended are so long,
and no fewer than the second, where early and in time would be the same."""

CLOSE = 2
"""Steps before the true end that count as in time. Later cannot be seen: no actions were logged."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    steps: int
    """Of each dream."""

    ended: int
    """Dreams that lead to an end, the last step of an episode that terminated."""

    in_time: float
    early: float
    missed: float
    """Shares of them; `missed` are those that had not ended by then."""

    short: int
    """Episodes that terminated and are too short to be dreamt of."""

    going: int
    """Dreams that lead to no end, nor as close to one as counts as in time."""

    false: float
    """The share of them that ended nevertheless."""


def ends(dreamer: Dreamer, dataset: Dataset, *, count: int, seed: int) -> Ends | None:
    """None where there is nothing to tell: no episode that is long enough terminated."""
    context, over, length = shown_of(dreamer.model, dataset), dataset.ended, dataset.index["length"]
    if not over.any():
        return None
    steps = int(np.clip(np.median(length[over]) - context, LEAST, AHEAD))
    fits, last = over & (length >= context + steps), dataset.index["start"] + length - 1
    if not fits.any():
        return None
    chosen = np.random.default_rng(seed).permutation(last[fits])[:count]
    windows = Windows(dataset, length=context + steps, batch_size=count, seed=seed).rows(0)
    episode = np.searchsorted(dataset.index["start"], windows[-1], side="right") - 1
    near = over[episode] & (last[episode] - windows[-1] <= CLOSE)
    told = _dreamt(dreamer, dataset, chosen - np.arange(context + steps)[::-1, None])
    others = _dreamt(dreamer, dataset, windows[:, ~near])
    first = np.where(told.any(0), told.argmax(0) + 1, steps + 1)
    early = first < steps - CLOSE
    return Ends(
        steps=steps,
        ended=len(chosen),
        in_time=float((~early & (first <= steps)).mean()),
        early=float(early.mean()),
        missed=float((first > steps).mean()),
        short=int((over & ~fits).sum()),
        going=others.shape[1],
        false=float(others.any(0).mean()) if others.size else 0.0,
    )


def _dreamt(
    dreamer: Dreamer, dataset: Dataset, rows: Int[np.ndarray, "t b"]
) -> Bool[np.ndarray, "s b"]:
    """What the dream says after each step of each window."""
    context = shown_of(dreamer.model, dataset)
    plan = Plan(rows=rows, context=context, steps=(len(rows) - context,))
    parts = [
        np.stack([out.outcome.ended.cpu().numpy() for _, out in dreamer.dream(dataset, part)])
        for part in plan.parts()
    ]
    return np.concatenate(parts, axis=1) if parts else np.zeros((plan.steps[0], 0), bool)


def ends_text(name: str, found: Ends) -> str:
    text = (
        f"{name}: of {found.ended:,} dreams of {found.steps} steps that lead to an end, "
        f"{found.in_time:.0%} end in the last {CLOSE + 1} steps, {found.early:.0%} before, "
        f"{found.missed:.0%} not by then"
    )
    if found.going:
        text += f"; of {found.going:,} that do not, {found.false:.1%} end"
    if found.short:
        text += f" ({found.short:,} episodes that ended were too short)"
    return text
