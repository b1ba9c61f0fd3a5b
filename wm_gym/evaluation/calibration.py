"""What the heads say of real frames, against what was logged: no dreaming in between."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from wm_gym.data import Dataset
from wm_gym.evaluation.logged_frames import logged_prefill, proprio_of
from wm_gym.evaluation.rewards import errors_of, reward_bands
from wm_gym.models.world_model import WorldModel

EDGES = (0.0, 0.2, 0.5, 0.8, 0.95)
"""Between bands of coverage; the first band is 0 alone."""

_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Real transitions: what is said of each, and what is true."""

    coverage: Float[np.ndarray, "n"]
    true_coverage: Float[np.ndarray, "n"]
    """NaN where nobody logged any."""

    reward: Float[np.ndarray, "n"]
    true_reward: Float[np.ndarray, "n"]
    """NaN where nobody logged any."""

    reward_before: Float[np.ndarray, "n"]
    """The true one of the transition before: had the heads learned a shifted log, they would say
    this."""

    last: Bool[np.ndarray, "n"]
    """Whether it is its episode's last."""

    @classmethod
    def joined(cls, parts: "Sequence[Judged]") -> "Judged":
        names = cls.__dataclass_fields__
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})

    def at(self, chosen: Bool[np.ndarray, "n"]) -> "Judged":
        return Judged(**{n: getattr(self, n)[chosen] for n in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Line:
    """Of the calibration card."""

    name: str
    count: int
    coverage_bias: float | None
    """None where nobody logged coverages."""

    coverage_error: float | None
    """Mean absolute."""

    reward_bias: float | None
    """None where nobody logged rewards."""

    reward_error: float | None
    """Mean absolute."""

    reward_rmse: float | None
    constant_rmse: float | None
    """The root mean square error of always saying the mean of the rewards drawn."""


def transitions(
    dataset: Dataset, *, count: int, seed: int
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]]:
    """Rows that some of them leave: drawn from all, and of some episodes the last."""
    rng, index = np.random.default_rng(seed), dataset.index[dataset.index["length"] > 2]
    rows = np.concatenate([np.arange(e["start"], e["start"] + e["length"] - 1) for e in index])
    ends = index["start"] + index["length"] - 2
    return rng.choice(rows, min(count, len(rows)), replace=False), rng.permutation(ends)[:count]


@torch.no_grad()
def judge(
    model: WorldModel, dataset: Dataset, rows: Int[np.ndarray, "n"], *, last: bool
) -> Iterator[Judged]:
    unknown = np.full(len(dataset.reward), np.nan, np.float32)
    coverage = unknown if dataset.progress is None else dataset.progress
    reward = dataset.reward if dataset.spec.has_reward else unknown
    for i in range(0, len(rows), _AT_ONCE):
        here = rows[i : i + _AT_ONCE]
        after = torch.from_numpy(dataset.frames(here + 1)).to(model.device)
        action = torch.from_numpy(dataset.action[here]).to(model.device)
        proprio = proprio_of(dataset, here + 1, model.spec.proprio_size).to(model.device)
        before = logged_prefill(model, dataset, here[None])
        said = model.global_model.judge(before, action, after, proprio)
        yield Judged(
            coverage=said.progress.double().cpu().numpy(),
            true_coverage=coverage[here + 1].astype(np.float64),
            reward=said.reward.double().cpu().numpy(),
            true_reward=reward[here].astype(np.float64),
            reward_before=reward[here - 1].astype(np.float64),
            last=np.full(len(here), last),
        )


def calibration_card(judged: Judged) -> list[Line]:
    """By band of coverage and of reward, where anybody logged them, and of the last transitions
    alone. What leads to an episode's last frame is where a reward logged one row off would show:
    the error against the reward before it has to be the larger one."""
    drawn, ends = judged.at(~judged.last), judged.at(judged.last)
    known = ~np.isnan(drawn.true_reward)
    mean = float(drawn.true_reward[known].mean()) if known.any() else math.nan
    rewarded = drawn.at(known)
    before = _line("against the reward before", ends, ends.reward_before, mean)
    return [
        _line("all", drawn, drawn.true_reward, mean),
        *(
            _line(f"coverage {name}", drawn.at(each), drawn.true_reward[each], mean)
            for name, each in _coverage_bands(drawn.true_coverage)
        ),
        *(
            _line(name, rewarded.at(each), rewarded.true_reward[each], mean)
            for name, each in reward_bands(rewarded.true_reward)
        ),
        *([_line("last of episodes", ends, ends.true_reward, mean)] if len(ends.last) else []),
        *([] if before.reward_error is None else [before]),
    ]


def _coverage_bands(
    true: Float[np.ndarray, "n"],
) -> Iterator[tuple[str, Bool[np.ndarray, "n"]]]:
    """Those that hold any, with their names."""
    band = np.searchsorted(EDGES, true, side="left")
    uppers = [*EDGES[1:], 1.0]
    names = ["0", *(f"{low:g}–{high:g}" for low, high in zip(EDGES, uppers, strict=True))]
    for i, name in enumerate(names):
        chosen = (band == i) & ~np.isnan(true)
        if chosen.any():
            yield name, chosen


def _line(name: str, judged: Judged, true_reward: Float[np.ndarray, "n"], constant: float) -> Line:
    coverage = (judged.coverage - judged.true_coverage)[~np.isnan(judged.true_coverage)]
    known = ~np.isnan(true_reward)
    reward = (
        errors_of(name, judged.reward[known], true_reward[known], constant) if known.any() else None
    )
    return Line(
        name=name,
        count=len(judged.reward),
        coverage_bias=float(coverage.mean()) if len(coverage) else None,
        coverage_error=float(np.abs(coverage).mean()) if len(coverage) else None,
        reward_bias=reward.bias if reward else None,
        reward_error=reward.error if reward else None,
        reward_rmse=reward.rmse if reward else None,
        constant_rmse=reward.constant_rmse if reward else None,
    )
