"""Whether dreams end where logged episodes terminated, under the logged actions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from wm_gym.data import Dataset, Windows
from wm_gym.evaluation.rollouts import Dreamer, Plan

AHEAD = 15
"""Steps before an end that a dream begins, where episodes are long enough."""

CLOSE = 2
"""Steps before the true end that count as in time. Later cannot be seen: no actions were logged."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    steps: int
    """Of each dream."""

    ended: int
    """Dreams of episodes that terminated with their last step."""

    in_time: float
    early: float
    missed: float
    """Shares of them; `missed` are those that had not ended by then."""

    going: int
    """Dreams of episodes that went on."""

    false: float
    """The share of them that ended nevertheless."""


def ends(dreamer: Dreamer, dataset: Dataset, *, count: int, seed: int) -> Ends | None:
    """None where there is nothing to tell: no episode that is long enough terminated."""
    context, index = dreamer.model.context, dataset.index
    last = index["start"] + index["length"] - 1
    steps = int(min(AHEAD, index["length"].max() - context))
    terminated = dataset.terminated[last - 1] & (index["length"] >= context + steps)
    if steps < 1 or not terminated.any():
        return None
    rng, length = np.random.default_rng(seed), context + steps
    chosen = rng.permutation(last[terminated])[:count]
    windows = Windows(dataset, length=length, batch_size=count, seed=seed).rows(0)
    going = windows[:, ~dataset.terminated[windows[-2]]]
    told = _dreamt(dreamer, dataset, chosen - np.arange(length)[::-1, None])
    others = _dreamt(dreamer, dataset, going)
    first = np.where(told.any(0), told.argmax(0) + 1, steps + 1)
    early = first < steps - CLOSE
    return Ends(
        steps=steps,
        ended=len(chosen),
        in_time=float((~early & (first <= steps)).mean()),
        early=float(early.mean()),
        missed=float((first > steps).mean()),
        going=going.shape[1],
        false=float(others.any(0).mean()) if going.size else 0.0,
    )


def _dreamt(
    dreamer: Dreamer, dataset: Dataset, rows: Int[np.ndarray, "t b"]
) -> Bool[np.ndarray, "s b"]:
    """What the dream says after each step of each window."""
    context = dreamer.model.context
    plan = Plan(rows=rows, context=context, steps=(len(rows) - context,))
    parts = [
        np.stack([out.ended.cpu().numpy() for _, out in dreamer.dream(dataset, part)])
        for part in plan.parts()
    ]
    return np.concatenate(parts, axis=1) if parts else np.zeros((plan.steps[0], 0), bool)


def ends_text(name: str, found: Ends) -> str:
    text = (
        f"{name}: of {found.ended:,} dreams of {found.steps} steps that lead to an end, "
        f"{found.in_time:.0%} end in the last {CLOSE + 1} steps, {found.early:.0%} before, "
        f"{found.missed:.0%} not at all"
    )
    if not found.going:
        return text
    return f"{text}; of {found.going:,} that do not, {found.false:.1%} end"
