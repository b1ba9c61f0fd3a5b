"""The part of `wm-gym gradients` that asks the real system, which takes minutes and is kept."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from wm_gym.evaluation.gradients import Cases, Gradients
from wm_gym.evaluation.gradients_kept import Kept
from wm_gym.evaluation.gradients_real import (
    RealSystem,
    averaged,
    merged,
    real_gradients,
    trials,
)
from wm_gym.evaluation.probes import Nudging, Posed
from wm_gym.programs.progress import Bar
from wm_gym.systems import System

KEPT = "real.npz"
"""What was measured so far, beside the figures."""

_SHARE = 8
"""States for which another process is worth starting."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RealCard:
    """By δ: the best estimate of all states, and two of some; and contact in all."""

    best: list[Gradients]
    once: list[Gradients]
    again: list[Gradients]
    touched: Bool[np.ndarray, "b"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Asking:
    """How the real system is asked."""

    system: System
    env_id: str
    posed: Posed
    deltas: list[float]
    noises: int
    workers: int | None
    seed: int
    noisy: bool

    @classmethod
    def checked(
        cls, system: System, env_id: str, posed: Posed, deltas: list[float], *, noises: int,
        workers: int | None, seed: int,
    ) -> "Asking":  # fmt: skip
        """What the simulator needs is there, and it can be measured twice."""
        noisy = RealSystem(system, env_id, deltas).noisy
        if not noisy and (noises > 1 or not isinstance(posed, Nudging)):
            raise ValueError(
                f"noises is {noises}, but nothing in the real system {system.name!r} is random, "
                "expected 1, and a probe that nudges states"
            )
        return cls(
            system=system, env_id=env_id, posed=posed, deltas=deltas, noises=noises,
            workers=workers, seed=seed, noisy=noisy,
        )  # fmt: skip

    def card(self, cases: Cases, which: Int[np.ndarray, "n"], out: Path) -> RealCard:
        """These of the cases twice: under other noise, or from a state that is nudged."""
        kept = Kept(out / KEPT, self.system, self.env_id, self.deltas)
        some = cases.at(which)
        first, touched = self._measured(kept, "real system", cases, cases.state, 0)
        once = [each.at(which) for each in first]
        if self.noisy:
            again, _ = self._measured(kept, "real system, other noise", some, some.state, 1)
            best = merged(first, again, which)
        else:
            assert isinstance(self.posed, Nudging)
            nudged = self.posed.nudged(some.state, np.random.default_rng(self.seed))
            again, _ = self._measured(kept, "real system, nudged", some, nudged, 0)
            best = first
        return RealCard(best=best, once=once, again=again, touched=touched)

    def _measured(
        self, kept: Kept, what: str, cases: Cases, state: Float[np.ndarray, "b s"], other: int
    ) -> tuple[list[Gradients], Bool[np.ndarray, "b"]]:
        many = self.noises
        tried = trials(cases, state, [(self.seed, other * many + i) for i in range(many)])
        found = kept.known(what, tried)
        if found:
            print(f"{what}: {len(found)} of {len(tried)} are in {kept.file}")
        todo = tried[len(found) :]
        cores = min(os.cpu_count() or 1, max(1, len(todo) // (_SHARE * many)))
        run = real_gradients(
            self.system, self.env_id, todo, self.deltas, workers=self.workers or cores
        )
        unit = "state" if many == 1 else "noisy state"
        with Bar(total=len(tried), initial=len(found), desc=what, unit=unit) as bar:
            for one in kept.added(what, run):
                found.append(one)
                bar.update()
        return averaged(found, many)
