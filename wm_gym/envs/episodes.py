"""The book-keeping that single and vector shells, real and dreamt, have in common."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from jaxtyping import Bool, Float

from wm_gym.envs.late_info import LateInfo
from wm_gym.envs.snapshots import check_episode
from wm_gym.envs.world import Noted, World
from wm_gym.types import Info


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When an episode ends."""

    horizon: int
    success_thresholds: tuple[float, ...]
    """Of progress, one for each task."""

    asked: bool = False
    """Whether these were asked for: then nobody else says what a success is."""

    terminate_on_success: bool

    def __post_init__(self) -> None:
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, int) or self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon!r}, expected a whole number of steps ≥ 1")
        for threshold in self.success_thresholds:
            if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
                raise ValueError(f"success_threshold is {threshold!r}, expected 0 to 1")
        if not isinstance(self.terminate_on_success, (bool, np.bool_)):
            raise ValueError(
                f"terminate_on_success is {self.terminate_on_success!r}, expected True or False"
            )


@dataclass(frozen=True, kw_only=True)
class EnvState:
    """One environment at one moment: its world, clock, best and random generator."""

    system: str
    kind: str
    """What world it is of: a simulated or a dreamt one."""
    world: Any
    episode: int
    """Which one since it was seeded, from 0."""
    elapsed: int
    progress: float
    best_progress: float
    success: bool
    over: bool
    rng: Any
    seed: int | None
    first: int = 0
    """What `elapsed` was as the episode began."""


Move = Callable[[Bool[np.ndarray, "b"]], Float[np.ndarray, "b"] | None]
"""Takes the worlds of these environments one step on; their rewards, 0 for the others, or None
where nobody waits for them."""


@dataclass(kw_only=True, eq=False)
class _Late:
    """A step that nobody has looked at yet."""

    which: Bool[np.ndarray, "b"]
    noted: Noted
    info: Info | None = None
    """Once it is settled."""


class Episodes:
    """n episodes in one world: when each began, how far it got, whether it is over."""

    def __init__(self, world: World, rules: Rules) -> None:
        n = world.num_envs
        self.world, self.rules = world, rules
        self.rngs: list[np.random.Generator | None] = [None] * n
        self.seeds: list[int | None] = [None] * n
        self.episode = np.full(n, -1)
        self.elapsed = np.zeros(n, np.int64)
        self._first = np.zeros(n, np.int64)
        self._progress, self._best = np.zeros(n), np.zeros(n)
        self._success = np.zeros(n, bool)
        self.over = np.ones(n, bool)
        self.begun = np.zeros(n, bool)
        self._late: list[_Late] = []

    def begin(
        self,
        which: Bool[np.ndarray, "b"],
        *,
        seeds: Sequence[int | None] | None = None,
        given: Any = None,
    ) -> None:
        """Start anew in those of `which`; a seed of None goes on with the generator there is."""
        self.settle()
        rngs: list[np.random.Generator] = []
        for i in range(self.world.num_envs):
            seed, rng = seeds[i] if seeds else None, self.rngs[i]
            if rng is None or (which[i] and seed is not None):
                rng, self.seeds[i] = seeding.np_random(seed)
                self.episode[i] = -1
            self.rngs[i] = rng
            rngs.append(rng)
        self.world.start(which, rngs, self.world.given({}) if given is None else given)
        self.episode[which] += 1
        self._progress[which] = self.world.noted().progress()[which]
        self._best[which], self._success[which] = self._progress[which], False
        self.elapsed[which] = self._first[which] = 0
        self.over[which], self.begun[which] = False, True

    def stagger(self) -> None:
        """Set the clocks of episodes that have just begun so that their ends spread evenly."""
        n = self.world.num_envs
        self._first = np.arange(n) * self.rules.horizon // n
        self.elapsed = self._first.copy()

    def advance(
        self, which: Bool[np.ndarray, "b"], move: Move
    ) -> tuple[Float[np.ndarray, "b"] | None, Bool[np.ndarray, "b"], Bool[np.ndarray, "b"]]:
        """Reward, terminated, truncated; 0 and False for those not in `which`.

        Where a move is not waited for, scores are noted and counted later, unless they may end
        an episode.
        """
        reward = move(which)
        self.elapsed += which
        terminated = np.zeros_like(which)
        self._late.append(_Late(which=which.copy(), noted=(noted := self.world.noted())))
        ends = self.rules.terminate_on_success or self.world.ends
        if self.world.waits or ends:
            self.settle()
            succeeded = self._success & self.rules.terminate_on_success
            terminated = which & (succeeded | noted.ended())
        truncated = which & (self.elapsed >= self.rules.horizon)
        self.over = np.where(which, terminated | truncated, self.over)
        return reward, terminated, truncated

    def settle(self) -> None:
        """Count what was only noted."""
        late, self._late = self._late, []
        for each in late:
            self._progress = np.where(each.which, each.noted.progress(), self._progress)
            self._best = np.maximum(self._best, self._progress)
            self._success = np.where(each.which, self._solved(each.noted), self._success)
            each.info = self._info(each.noted)

    def _solved(self, noted: Noted) -> Bool[np.ndarray, "b"]:
        if not self.rules.asked and (known := noted.success()) is not None:
            return known
        return self._progress > np.array(self.rules.success_thresholds)[noted.task()]

    def check_begun(self) -> None:
        if not self.begun.all():
            raise ResetNeeded("nothing has begun yet: call env.reset() first")

    def check_running(self) -> None:
        if self.over.any():
            raise ResetNeeded(
                f"the episode of environment {np.flatnonzero(self.over).tolist()} is over: "
                "reset it before stepping on"
            )

    def info(self) -> Info:
        """Of every environment, each entry with a leading axis b; nothing of progress and success
        where nobody knows. Nothing has succeeded before the first step."""
        self.settle()
        return self._info(self.world.noted())

    def info_when_asked(self, shown: Callable[[Info], Info]) -> Info:
        """`shown` of it, now or, if it was not waited for, at the first look."""
        if not self._late:
            return shown(self.info())
        last = self._late[-1]

        def read() -> Info:
            self.settle()
            assert last.info is not None
            return shown(last.info)

        return LateInfo(read)

    def _info(self, noted: Noted) -> Info:
        told = {"task": noted.task(), **noted.facts()}
        if np.isnan(self._progress).all():
            return told
        return {
            "progress": self._progress.copy(),
            "best_progress": self._best.copy(),
            "coverage": self._progress.copy(),  # as progress was called
            "best_coverage": self._best.copy(),
            "is_success": self._success.copy(),
            **told,
        }

    def snapshot(self, i: int) -> EnvState:
        self.check_begun()
        self.settle()
        return EnvState(
            system=self.world.system.name,
            kind=type(self.world).__name__,
            world=self.world.snapshot(i),
            episode=int(self.episode[i]),
            elapsed=int(self.elapsed[i]),
            progress=float(self._progress[i]),
            best_progress=float(self._best[i]),
            success=bool(self._success[i]),
            over=bool(self.over[i]),
            rng=copy.deepcopy(self.rngs[i]),
            seed=self.seeds[i],
            first=int(self._first[i]),
        )

    def check_state(self, state: Any) -> None:
        if not isinstance(state, EnvState):
            raise TypeError(f"got a {type(state).__name__}, expected what get_state() returned")
        if state.system != self.world.system.name:
            raise ValueError(
                f"the snapshot is of {state.system}, expected one of {self.world.system.name}"
            )
        if state.kind != (kind := type(self.world).__name__):
            raise TypeError(f"the snapshot is of a {state.kind}, not of a {kind}")
        check_episode(state)
        self.world.check_snapshot(state.world)

    def restore(self, i: int, state: EnvState) -> None:
        self.settle()
        self.world.restore(i, state.world)
        self.elapsed[i], self._first[i], self.over[i] = state.elapsed, state.first, state.over
        self._progress[i], self._best[i] = state.progress, state.best_progress
        self._success[i] = state.success
        self.rngs[i], self.seeds[i] = copy.deepcopy(state.rng), state.seed
        self.episode[i], self.begun[i] = state.episode, True
