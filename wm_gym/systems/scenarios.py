"""Runs of a real system that ask one question of a dream: logged once, and compared ever after.

A system's record names a module with `SCENARIOS`, each of which stages cases: of one case there may
be several takes from one start. What a scenario is for is told by `FORMS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from wm_gym.systems.registry import System
from wm_gym.systems.simulator import NoisySimulator, Simulator
from wm_gym.types import Info

FORMS = {
    "away": "what is handled leaves the picture and is seen again at the end of a take",
    "choices": "takes of a case differ in their actions: which of them pays best?",
    "floor": "two takes of a case have equal actions, and other noise",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Take:
    """A run, of which a dream is shown the first frames."""

    kind: str
    shown: int
    frames: UInt8[np.ndarray, "t1 h w c"]
    action: Float32[np.ndarray, "t a"]
    state: Float[np.ndarray, "t1 s"]
    contact: Bool[np.ndarray, "t1"]
    told: Mapping[str, float] = field(default_factory=dict)
    """More that is true of all of it, by the names that the scenario says."""


class Recorder:
    """Steps a simulator, and keeps what it shows."""

    def __init__(self, system: System, env_id: str | None = None) -> None:
        self.system, self.simulator = system, system.make_simulator(env_id)
        self.frames: list[np.ndarray] = []
        self.states: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._contact: list[bool] = []

    def __len__(self) -> int:
        """Frames."""
        return len(self.frames)

    @property
    def state(self) -> Float[np.ndarray, "s"]:
        return self.states[-1]

    @property
    def frame(self) -> UInt8[np.ndarray, "h w c"]:
        return self.frames[-1]

    @property
    def info(self) -> Info:
        """As behaviours are told it."""
        return {"state": self.state.copy(), "contact": self._contact[-1]}

    @property
    def actions(self) -> list[Float32[np.ndarray, "a"]]:
        return list(self._actions)

    def start(self, rng: np.random.Generator, state: Float[np.ndarray, "s"] | None = None) -> None:
        """By the system's start rule, or in this state."""
        if state is None:
            self.simulator.start(rng)
        else:
            self.simulator.place(state)
        self._reseed(rng)
        for kept in (self.frames, self.states, self._actions, self._contact):
            kept.clear()
        self._keep()

    def act(self, action: np.ndarray) -> bool:
        """False where that was the end of it."""
        bounded = np.clip(action, -1, 1).astype(np.float32)
        self._actions.append(bounded)
        self.simulator.advance(bounded)
        self._keep()
        return not bool(self.system.ended_in(self.state))

    def _keep(self) -> None:
        self.frames.append(np.array(self.simulator.frame()))
        self.states.append(np.array(self.simulator.state()))
        self._contact.append(bool(self.simulator.contact))

    def moment(self) -> tuple[Any, int]:
        """To come back to."""
        return self.simulator.snapshot(), len(self)

    def back(self, moment: tuple[Any, int], rng: np.random.Generator) -> None:
        """Go on from there under other noise."""
        snapshot, frames = moment
        self.simulator.restore(snapshot)
        self._reseed(rng)
        for kept in (self.frames, self.states, self._contact):
            del kept[frames:]
        del self._actions[frames - 1 :]

    def _reseed(self, rng: np.random.Generator) -> None:
        simulator: Simulator = self.simulator
        if isinstance(simulator, NoisySimulator):
            simulator.seed_noise(rng)

    def take(self, kind: str, *, shown: int, most: int | None = None, **told: float) -> Take:
        """All since the start, or only the last `most` of the frames that are shown."""
        first = 0 if most is None else max(0, shown - most)
        return Take(
            kind=kind,
            shown=shown - first,
            frames=np.stack(self.frames[first:]),
            action=np.stack(self._actions[first:]),
            state=np.stack(self.states[first:]),
            contact=np.array(self._contact[first:]),
            told=told,
        )


Stage: TypeAlias = Callable[[Recorder, np.random.Generator, int], "tuple[Take, ...] | None"]
"""Records a case, by its number; None where it did not come out, and another try is needed."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    form: str
    """One of `FORMS`."""

    stage: Stage
    takes: int = 1
    """Of each case."""

    told: tuple[str, ...] = ()
    """What its takes tell of themselves."""

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kinds that are reported together, too, by a name."""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {self.form!r}, expected one of {list(FORMS)}")


def scenarios_of(system: System) -> Mapping[str, Scenario]:
    """By the name of the dataset that each is logged into."""
    if system.scenarios is None:
        return {}
    found: Mapping[str, Scenario] = import_module(system.scenarios).SCENARIOS
    return found
