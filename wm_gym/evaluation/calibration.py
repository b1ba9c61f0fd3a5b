"""What the heads say of real frames, against what was logged: no dreaming in between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from wm_gym.data import Dataset
from wm_gym.models.world_model import WorldModel

EDGES = (0.0, 0.2, 0.5, 0.8, 0.95)
"""Between bands of coverage; the first band is 0 alone."""

_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Real transitions: what is said of each, and what is true."""

    coverage: Float[np.ndarray, "n"]
    true_coverage: Float[np.ndarray, "n"]
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
    coverage_bias: float
    coverage_error: float
    """Mean absolute."""

    reward_bias: float | None
    """None where nobody logged rewards."""

    reward_error: float | None


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
    coverage, has_reward = dataset.fact("coverage"), dataset.spec.has_reward
    reward = dataset.reward if has_reward else np.full_like(dataset.reward, np.nan)
    for i in range(0, len(rows), _AT_ONCE):
        here = rows[i : i + _AT_ONCE]
        before, after = (
            model.encode(torch.from_numpy(dataset.frames(each)).to(model.device))
            for each in (here, here + 1)
        )
        action = torch.from_numpy(dataset.action[here]).to(model.device)
        said = model.heads.judge(before, action, after)
        yield Judged(
            coverage=said.coverage.double().cpu().numpy(),
            true_coverage=coverage[here + 1].astype(np.float64),
            reward=said.reward.double().cpu().numpy(),
            true_reward=reward[here].astype(np.float64),
            reward_before=reward[here - 1].astype(np.float64),
            last=np.full(len(here), last),
        )


def calibration_card(judged: Judged) -> list[Line]:
    """By band of coverage, and of the last transitions alone. What leads to an episode's last frame
    is where a reward logged one row off would show: the error against the reward before it has to
    be the larger one."""
    drawn, ends = judged.at(~judged.last), judged.at(judged.last)
    band = np.searchsorted(EDGES, drawn.true_coverage, side="left")
    uppers = [*EDGES[1:], 1.0]
    names = ["0", *(f"{low:g}–{high:g}" for low, high in zip(EDGES, uppers, strict=True))]
    lines = [
        _line(f"coverage {name}", drawn.at(band == i), drawn.true_reward[band == i])
        for i, name in enumerate(names)
        if (band == i).any()
    ]
    before = _line("against the reward before", ends, ends.reward_before)
    return [
        _line("all", drawn, drawn.true_reward),
        *lines,
        _line("last of episodes", ends, ends.true_reward),
        *([] if before.reward_error is None else [before]),
    ]


def _line(name: str, judged: Judged, true_reward: Float[np.ndarray, "n"]) -> Line:
    coverage, reward = judged.coverage - judged.true_coverage, judged.reward - true_reward
    reward = reward[~np.isnan(true_reward)]
    return Line(
        name=name,
        count=len(coverage),
        coverage_bias=float(coverage.mean()),
        coverage_error=float(np.abs(coverage).mean()),
        reward_bias=float(reward.mean()) if len(reward) else None,
        reward_error=float(np.abs(reward).mean()) if len(reward) else None,
    )
