"""Recording scenarios: a system's simulator stages cases, and each take becomes an episode."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.random import SeedSequence

from wm_gym.data.episode import Episode
from wm_gym.data.spec import Fact
from wm_gym.systems import System
from wm_gym.systems.scenarios import Recorder, Scenario, Take, scenarios_of

CASE, SHOWN = "case", "shown"
"""Facts of a take: which case it is of, and how many frames a dream is shown."""

TRIES = 200
"""Of a case, before it is given up."""


def scenario_named(system: System, name: str) -> Scenario:
    known = scenarios_of(system)
    if name not in known:
        raise ValueError(f"{system.name} has no scenario {name!r}, expected one of {sorted(known)}")
    return known[name]


class Stages:
    """Ready to record any case of a scenario."""

    def __init__(
        self, system: System, simulator: str, scenario: str, *, seed: int, split: str, felt: bool
    ) -> None:
        self.system, self.scenario = system, scenario_named(system, scenario)
        self._recorder = Recorder(system, simulator)
        self._seed, self._split, self._felt = seed, split, felt
        self._name = scenario

    @property
    def facts(self) -> Mapping[str, Fact]:
        states = len(self.system.state_names)
        known = {"progress": Fact(dtype="float64")} if self.system.progress else {}
        return {
            **known,
            "state": Fact(dtype="float64", shape=(states,)),
            "contact": Fact(dtype="bool"),
            CASE: Fact(dtype="int64"),
            SHOWN: Fact(dtype="int64"),
            **{name: Fact(dtype="float64") for name in self.scenario.told},
        }

    def recorded(self, case: int) -> Iterator[tuple[int, Episode]]:
        """Numbers and episodes of its takes: functions of the seed and the case alone."""
        for attempt in range(TRIES):
            seed = SeedSequence((self._seed, case, attempt))
            takes = self.scenario.stage(self._recorder, np.random.default_rng(seed), case)
            if takes is not None:
                break
        else:
            raise RuntimeError(f"case {case} of {self._name} did not come out in {TRIES} tries")
        told = int(seed.generate_state(1, np.uint32)[0])
        for i, take in enumerate(takes):
            yield case * self.scenario.takes + i, self._episode(take, case, told)

    def _episode(self, take: Take, case: int, seed: int) -> Episode:
        system, state = self.system, take.state
        earned = system.reward_of(state[:-1], take.action, state[1:])
        length = len(take.frames)
        facts = {
            "state": state,
            "contact": take.contact,
            CASE: np.full(length, case, np.int64),
            SHOWN: np.full(length, take.shown, np.int64),
            **{name: np.full(length, value) for name, value in take.told.items()},
        }
        if system.progress is not None:
            facts["progress"] = system.progress_of(state).astype(np.float64)
        return Episode(
            frames=take.frames,
            action=take.action,
            reward=earned.astype(np.float32),
            terminated=False,
            truncated=True,
            facts=facts,
            behaviour=take.kind,
            split=self._split,
            seed=seed,
            task=str(system.tasks[0].description),
            proprio=system.proprio_of(state) if self._felt else None,
        )
