"""Exams: how far policies get in any vector environment of ours, and how soon they get there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int

from wm_gym.evaluation.statistics import Interval, crossed_interval, interquartile_mean, mean
from wm_gym.types import PIXELS, PROPRIO

THRESHOLDS = (0.80, 0.90, 0.95)
"""A success is an episode whose best coverage is above."""

AnyVectorEnv: TypeAlias = VectorEnv[Any, Any, Any]

Starts: TypeAlias = Callable[[list[int]], dict[str, Any]]
"""Reset options, from the seeds of a round of episodes."""


@runtime_checkable
class Policy(Protocol):
    """As Stable-Baselines3's algorithms answer, and our agents: for a whole batch at once."""

    def predict(
        self, obs: Any, /, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions, and what a recurrent policy wants to be given back in the next step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Episodes:
    """Of one policy, in the order of their seeds."""

    returns: Float[np.ndarray, "n"]
    best: Float[np.ndarray, "n"]
    """Best coverage of the episode, the start's included; NaN where nobody knows any."""

    final: Float[np.ndarray, "n"]
    length: Int[np.ndarray, "n"]
    solved: Bool[np.ndarray, "n"] | None = None
    """Whether `is_success` held for as many steps in a row as the system's `solved_for` says. None
    in records of before; False where nobody knows of success."""

    def __len__(self) -> int:
        return len(self.returns)

    def first(self, n: int) -> "Episodes":
        return Episodes(
            returns=self.returns[:n], best=self.best[:n], final=self.final[:n],
            length=self.length[:n], solved=None if self.solved is None else self.solved[:n],
        )  # fmt: skip


def examine(
    policy: Policy, env: AnyVectorEnv, *, episodes: int, seed: int, starts: Starts | None = None
) -> Episodes:
    """All rounds, joined."""
    return joined(list(rounds(policy, env, episodes=episodes, seed=seed, starts=starts)))


def rounds(
    policy: Policy, env: AnyVectorEnv, *, episodes: int, seed: int, starts: Starts | None = None
) -> Iterator[Episodes]:
    """`num_envs` episodes at a time, each finished before it is yielded; the policy does its best.

    Episode j is the one that seed + j begins, whatever `num_envs` is; those that the last round has
    too many are played and left out. So none is counted for having ended early, or missed for being
    long. Any autoreset mode will do; what follows an episode's end is not looked at.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}, expected at least 1")
    if getattr(env.unwrapped, "staggered", False):
        raise ValueError("the environment is staggered: expected one whose episodes are all whole")
    n = env.num_envs
    for first in range(0, episodes, n):
        seeds = list(range(seed + first, seed + first + n))
        options = None if starts is None else starts(seeds)
        yield _round(policy, env, seeds, options).first(episodes - first)


def first_frames(real: AnyVectorEnv, starts: Starts | None = None) -> Starts:
    """Lets a dream begin from the frame that `real` shows at each seed (and with its `starts`), so
    that imagined and real episodes are pairs. It shows pixels, or with `obs_type="dict"` what it
    feels too, and is as many environments as the dream."""

    def options(seeds: list[int]) -> dict[str, Any]:
        begun = None if starts is None else starts(seeds)
        obs = _reset(real)(seed=seeds, options=begun)[0]
        if isinstance(obs, dict):
            return {"frames": obs[PIXELS][:, None], PROPRIO: obs[PROPRIO][:, None]}
        return {"frames": obs[:, None]}

    return options


def joined(parts: Sequence[Episodes]) -> Episodes:
    solved = [each.solved for each in parts if each.solved is not None]
    return Episodes(
        returns=np.concatenate([each.returns for each in parts]),
        best=np.concatenate([each.best for each in parts]),
        final=np.concatenate([each.final for each in parts]),
        length=np.concatenate([each.length for each in parts]),
        solved=None if len(solved) < len(parts) else np.concatenate(solved),
    )


def _round(
    policy: Policy, env: AnyVectorEnv, seeds: list[int], options: dict[str, Any] | None
) -> Episodes:
    n = env.num_envs
    returns, best, final, length = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, np.int64)
    unknown, nothing = np.full(n, np.nan), np.zeros(n, bool)
    streak, solved = np.zeros(n, np.int64), np.zeros(n, bool)
    needed = solved_for(env)
    obs, _ = _reset(env)(seed=seeds, options=options)
    state, begins, going = None, np.ones(n, bool), np.ones(n, bool)
    while going.any():
        action, state = policy.predict(obs, state=state, episode_start=begins, deterministic=True)
        obs, reward, terminated, truncated, info = env.step(action)
        returns[going] += reward[going]
        length += going
        begins = np.logical_or(terminated, truncated)
        ended = going & begins
        last = info.get("final_info", info)  # of an environment that has begun anew
        best[ended] = last.get("best_coverage", unknown)[ended]
        final[ended] = last.get("coverage", unknown)[ended]
        succeeds = info.get("is_success", nothing).copy()
        succeeds[ended] = last.get("is_success", nothing)[ended]
        streak = np.where(succeeds, streak + 1, 0)
        solved |= going & (streak >= needed)
        going &= ~begins
        if going.any():
            obs = _kept_going(env, obs, begins)
    return Episodes(returns=returns, best=best, final=final, length=length, solved=solved)


def solved_for(env: AnyVectorEnv) -> int:
    """Steps of success in a row that solve an episode; 1 where no system says more."""
    return int(getattr(getattr(env.unwrapped, "system", None), "solved_for", 1))


def _kept_going(env: AnyVectorEnv, obs: Any, over: Bool[np.ndarray, "b"]) -> Any:
    """Observations to step on from; where nothing is reset by itself, what is over begins anew."""
    if env.metadata["autoreset_mode"] == AutoresetMode.DISABLED and over.any():
        return env.reset(options={"reset_mask": over})[0]
    return obs


def _reset(env: AnyVectorEnv) -> Any:
    """Typed `seed: int | None` by Gymnasium, although lists are usual."""
    return env.reset


@runtime_checkable
class Graded(Protocol):
    """The exam of one training run: `Episodes`, or a record of them. Lists will do."""

    @property
    def best(self) -> Any: ...

    @property
    def final(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of one kind of agent, over its training runs. 95 % intervals cover other training runs judged
    from other starts; of one run, other starts for that very policy (see `crossed_interval`)."""

    best: Interval
    """Inter-quartile mean, over all episodes of all runs, of the best coverage."""

    final: Interval
    """The same of the last coverage."""

    mean_best: Interval
    success: Mapping[float, Interval]
    """Share of episodes, by threshold."""

    runs: int
    episodes: int
    """Of each run."""


def verdict(runs: Sequence[Graded], *, seed: int) -> Verdict:
    """Episode j of every run begins in the same start, as `examine` with one seed has it."""
    counts = sorted({len(each.best) for each in runs})
    if len(counts) != 1:
        raise ValueError(f"the runs have {counts} episodes, expected runs of equally many")
    best, final = (
        np.array([getattr(each, name) for each in runs], np.float64) for name in ("best", "final")
    )
    return Verdict(
        best=crossed_interval(best, interquartile_mean, seed=seed),
        final=crossed_interval(final, interquartile_mean, seed=seed),
        mean_best=crossed_interval(best, mean, seed=seed),
        success={
            threshold: crossed_interval((best > threshold).astype(np.float64), mean, seed=seed)
            for threshold in THRESHOLDS
        },
        runs=len(runs),
        episodes=counts[0],
    )


# Learning curves

Number: TypeAlias = int | float


def samples_to(
    samples: Sequence[Number], values: Sequence[Number], threshold: float
) -> float | None:
    """After how many samples a learning curve reaches a threshold; None where it never does.

    Goes by the means of two exams in a row, midway between them, and straight lines from one to the
    next: one lucky exam does not count for much, and a straight curve is not shifted. A curve that
    begins above has reached it by the first such mean. That it stays above is not asked.
    """
    if len(samples) != len(values):
        raise ValueError(f"got {len(samples)} numbers of samples for {len(values)} exams")
    if any(later <= earlier for earlier, later in pairwise(samples)):
        raise ValueError(f"samples is {list(samples)}, expected growing numbers")
    points = list(zip(_midway(samples), _midway(values), strict=True))
    if points and points[0][1] >= threshold:
        return points[0][0]
    for (x, y), (next_x, next_y) in pairwise(points):
        if next_y >= threshold:
            return x + (next_x - x) * (threshold - y) / (next_y - y)
    return None


def _midway(values: Sequence[Number]) -> list[float]:
    return [(one + other) / 2 for one, other in pairwise(values)]
