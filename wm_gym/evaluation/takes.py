"""Takes of scenarios, as rollouts: what a dream is shown of each, and where it ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from wm_gym.data import Dataset
from wm_gym.data.staged import CASE, SHOWN
from wm_gym.evaluation.rollouts import Plan

AT_ONCE = 48
"""Takes that are dreamt side by side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Takes:
    """Of one dataset, in its order."""

    dataset: Dataset
    context: int
    """Frames that the dreams are shown: the last before they begin."""

    @classmethod
    def of(cls, dataset: Dataset, prefill: int) -> "Takes":
        if lacking := {CASE, SHOWN, "state"} - set(dataset.spec.facts):
            raise ValueError(
                f"{dataset.folder} has no {sorted(lacking)}, expected takes of a scenario, as "
                "`wm-gym collect` logs them"
            )
        shown = dataset.fact(SHOWN)[dataset.index["start"]]
        return cls(dataset=dataset, context=int(min(prefill, shown.min())))

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def case(self) -> Int[np.ndarray, "n"]:
        return np.asarray(self.dataset.fact(CASE)[self.dataset.index["start"]])

    @cached_property
    def kind(self) -> np.ndarray:
        return np.asarray(self.dataset.index["behaviour"])

    @cached_property
    def first(self) -> Int[np.ndarray, "n"]:
        """Rows of the first frames that dreams are shown."""
        start = self.dataset.index["start"]
        return np.asarray(start + self.dataset.fact(SHOWN)[start] - self.context)

    @cached_property
    def last(self) -> Int[np.ndarray, "n"]:
        """Rows of the frames that they end in."""
        index = self.dataset.index
        return np.asarray(index["start"] + index["length"] - 1)

    @cached_property
    def steps(self) -> Int[np.ndarray, "n"]:
        return np.asarray(self.last - self.first - self.context + 1)

    def told(self, name: str) -> Float[np.ndarray, "n"]:
        """What they tell of themselves."""
        return np.asarray(self.dataset.fact(name)[self.dataset.index["start"]])

    def plan(self, which: Int[np.ndarray, "b"], steps: Sequence[int] | None = None) -> Plan:
        """Of some takes, to the end of the longest: the shorter ones stay at their last frame."""
        longest = int(self.steps[which].max()) if steps is None else max(steps)
        rows = self.first[which] + np.arange(self.context + longest)[:, None]
        return Plan(
            rows=np.minimum(rows, self.last[which]),
            context=self.context,
            steps=(longest,) if steps is None else tuple(steps),
        )

    def parts(self) -> Iterator[Int[np.ndarray, "b"]]:
        """All of them, those of like length together."""
        order = np.argsort(self.steps, kind="stable")
        for i in range(0, len(order), AT_ONCE):
            yield order[i : i + AT_ONCE]

    def pairs(self) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
        """The first and the second take of each case that has two."""
        order = np.argsort(self.case, kind="stable")
        same = np.flatnonzero(np.diff(self.case[order]) == 0)
        return order[same], order[same + 1]

    def frames(self, rows: Int[np.ndarray, "b"]) -> UInt8[np.ndarray, "b h w c"]:
        return self.dataset.frames(rows)

    def ending(self, which: Int[np.ndarray, "b"], step: int) -> Bool[np.ndarray, "b"]:
        return np.asarray(self.steps[which] == step)
