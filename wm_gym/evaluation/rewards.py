"""What is said of rewards against what was paid, beside always saying their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

TENTH = 0.1


@dataclass(frozen=True, kw_only=True)
class RewardErrors:
    name: str
    count: int
    bias: float
    """Mean of what is said, less what was paid."""

    error: float
    """Mean absolute."""

    rmse: float
    constant_rmse: float
    """The root mean square error of always saying the mean of all rewards."""


def reward_errors(said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"]) -> list[RewardErrors]:
    """Of all, and by band. A head that says the median has a small error and a small bias where
    events are rare: that it does not see them, their own band tells, and the RMSE."""
    mean = float(true.mean())
    return [
        errors_of("all", said, true, mean),
        *(errors_of(name, said[each], true[each], mean) for name, each in reward_bands(true)),
    ]


def errors_of(
    name: str, said: Float[np.ndarray, "n"], true: Float[np.ndarray, "n"], constant: float
) -> RewardErrors:
    off = (said - true).astype(np.float64)
    return RewardErrors(
        name=name,
        count=len(off),
        bias=float(off.mean()),
        error=float(np.abs(off).mean()),
        rmse=float(np.sqrt(np.square(off).mean())),
        constant_rmse=float(np.sqrt(np.square(constant - true.astype(np.float64)).mean())),
    )


def reward_bands(true: Float[np.ndarray, "n"]) -> list[tuple[str, Bool[np.ndarray, "n"]]]:
    """Lowest tenth, all between, highest tenth, with their names; equal rewards stay together.

    An outer band takes whole groups of equal rewards for as long as it has a tenth of all at most,
    and the outermost group in any case: an event that 3 % of the steps pay is a band of its own,
    and so are the 97 % without it. None where all rewards are equal.
    """
    values, counts = np.unique(true, return_counts=True)
    if len(values) < 2:
        return []
    most = TENTH * len(true)
    low = max(1, int(np.searchsorted(np.cumsum(counts), most, side="right")))
    high = max(1, int(np.searchsorted(np.cumsum(counts[::-1]), most, side="right")))
    edges = [0, low, len(values) - high, len(values)]
    groups = (values[a:b] for a, b in pairwise(edges))
    return [
        (_named(group), (true >= group[0]) & (true <= group[-1])) for group in groups if len(group)
    ]


def rewards_of(calibration: Sequence[Mapping[str, Any]]) -> list[RewardErrors]:
    """Those that `wm-gym evaluate` wrote, of all and by band; none where nobody logged rewards,
    and of evaluations that are older than these figures."""
    return [
        RewardErrors(
            name=line["name"], count=line["count"],
            bias=line["reward_bias"], error=line["reward_error"],
            rmse=line["reward_rmse"], constant_rmse=line["constant_rmse"],
        )
        for line in calibration
        if line["name"].split()[0] in ("all", "reward") and line.get("reward_rmse") is not None
    ]  # fmt: skip


def rewards_text(lines: Sequence[RewardErrors], *, between: str = "; ") -> str:
    """The errors of all, then those of the bands."""
    whole, *bands = lines
    return between.join(
        [
            f"off by {whole.bias:+.3g} on average, RMSE {whole.rmse:.3g} where always saying the "
            f"mean has {whole.constant_rmse:.3g}",
            *(f"{b.name} ({b.count:,} steps): {b.bias:+.3g}, RMSE {b.rmse:.3g}" for b in bands),
        ]
    )


def _named(group: Float[np.ndarray, "n"]) -> str:
    low, high = f"{group[0]:.3g}", f"{group[-1]:.3g}"
    return f"reward {low}" if low == high else f"reward {low} to {high}"
