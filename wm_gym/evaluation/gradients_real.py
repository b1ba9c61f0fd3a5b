"""The real system's gradients: central differences from restored states.

Where the system has noise of its own, a state under one seed has one future: what is perturbed and
what is not have this noise in common, and slopes are averaged over several seeds. Noise is not
turned off: dreams have learned from it, and without it a gait is as chaotic, but has a single
future to be chaotic in.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from wm_gym.data.workers import begin_as_worker, starting_workers
from wm_gym.evaluation.gradients import Cases, Gradients, central_differences, offsets
from wm_gym.evaluation.probes import posed_of
from wm_gym.systems import NoisySimulator, System

Found = tuple[list[Gradients], bool]
"""For each δ, of one state; and whether the tool touched what it moves in the first step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    state: Float[np.ndarray, "s"]
    action: Float32[np.ndarray, "t a"]
    seed: tuple[int, ...]
    """Of the noise; another one in each state."""


def trials(
    cases: Cases, state: Float[np.ndarray, "b s"], seeds: Sequence[tuple[int, ...]] = ((0,),)
) -> list[Trial]:
    """From these states: under each seed in the first, then in the second, ..."""
    moments = zip(state, cases.action.swapaxes(0, 1), cases.rows[-1].tolist(), strict=True)
    return [
        Trial(state=start, action=action, seed=(*seed, row))
        for start, action, row in moments
        for seed in seeds
    ]


def averaged(found: Sequence[Found], many: int) -> tuple[list[Gradients], Bool[np.ndarray, "b"]]:
    """Over so many seeds of each state; contact is what most of them have."""
    states = [found[i : i + many] for i in range(0, len(found), many)]
    means = [
        [Gradients.mean(each) for each in zip(*(slopes for slopes, _ in state), strict=True)]
        for state in states
    ]
    touched = [sum(touch for _, touch in state) * 2 >= many for state in states]
    return [Gradients.joined(each) for each in zip(*means, strict=True)], np.array(touched)


def merged(
    once: Sequence[Gradients], again: Sequence[Gradients], which: Int[np.ndarray, "n"]
) -> list[Gradients]:
    """For each δ: the mean of two estimates, of the states that have two."""
    found = []
    for one, other in zip(once, again, strict=True):
        both = Gradients(pose=one.pose.copy(), total=one.total.copy())
        mean = Gradients.mean([one.at(which), other])
        both.pose[which], both.total[which] = mean.pose, mean.total
        found.append(both)
    return found


class RealSystem:
    """One simulator, and what is measured in it."""

    def __init__(self, system: System, env_id: str, deltas: Sequence[float]) -> None:
        known = env_id if env_id in system.simulators else None
        self.simulator = system.make_simulator(known)
        self._system, self._posed, self._deltas = system, posed_of(system), deltas
        self._shift = offsets(deltas, system.action_size)

    @property
    def noisy(self) -> bool:
        return isinstance(self.simulator, NoisySimulator)

    def gradients(self, trial: Trial) -> Found:
        snapshots, touched = self._nominal(trial)

        def perturbed(t: int) -> tuple[np.ndarray, np.ndarray]:
            tried = np.repeat(trial.action[None, t:], len(self._shift), axis=0)
            tried[:, 0] += self._shift
            states = np.stack([self._rolled(snapshots[t], each) for each in tried])
            rewards = self._system.reward_of(states[:, :-1], tried, states[:, 1:])
            return rewards[None], self._posed.pose_of(states[:, 1])[None, None]

        turn = 2 * np.pi * self._posed.LEVER
        slopes = central_differences(
            perturbed, self._deltas, self._system.action_size, turn=turn
        )[0]  # fmt: skip
        return slopes, touched

    def _nominal(self, trial: Trial) -> tuple[list[object], bool]:
        """A snapshot before each step, each of which has the noise that is still to come."""
        simulator = self.simulator
        simulator.place(trial.state)
        if isinstance(simulator, NoisySimulator):
            simulator.seed_noise(np.random.default_rng(trial.seed))
        snapshots, touched = [], False
        for t, one in enumerate(trial.action):
            snapshots.append(simulator.snapshot())
            simulator.advance(one)
            touched = simulator.contact if t == 0 else touched
        return snapshots, bool(touched)

    def _rolled(
        self, snapshot: object, action: Float32[np.ndarray, "t a"]
    ) -> Float[np.ndarray, "t1 s"]:
        self.simulator.restore(snapshot)
        states = [self.simulator.state()]
        for one in action:
            self.simulator.advance(one)
            states.append(self.simulator.state())
        return np.stack(states)


def real_gradients(
    system: System,
    env_id: str,
    tried: Sequence[Trial],
    deltas: Sequence[float],
    *,
    workers: int = 1,
) -> Iterator[Found]:
    """One trial after the other; several processes share them."""
    if workers == 1:
        yield from map(RealSystem(system, env_id, deltas).gradients, tried)
        return
    context = multiprocessing.get_context("spawn")
    with starting_workers():
        pool = ProcessPoolExecutor(workers, context, _begin_work, (system, env_id, deltas))
        running = [pool.submit(_work, trial) for trial in tried]
    try:
        for each in running:
            yield each.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: RealSystem


def _begin_work(system: System, env_id: str, deltas: Sequence[float]) -> None:
    global _worker
    begin_as_worker()
    _worker = RealSystem(system, env_id, deltas)


def _work(trial: Trial) -> Found:
    return _worker.gradients(trial)
