"""What a simulator of a system has to have."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8


@runtime_checkable
class Simulator(Protocol):
    """One real system. Nothing here is random but `start`, unless it is a `NoisySimulator`."""

    contact: bool
    """Whether the tool touched the thing it moves during the last `advance`."""

    def start(self, rng: np.random.Generator) -> None:
        """Begin an episode by the system's start rule, drawing from `rng` alone."""

    def place(self, state: Float[np.ndarray, "s"]) -> None:
        """Begin an episode in this state."""

    def advance(self, action: Float[np.ndarray, "a"]) -> None:
        """One control step; the action is finite and within [−1, 1]."""

    def state(self) -> Float[np.ndarray, "s"]:
        """The true state, in the order of the record's `state_names`."""

    def frame(self) -> UInt8[np.ndarray, "h w c"]:
        """The observation."""

    def picture(self) -> UInt8[np.ndarray, "h2 w2 c"]:
        """A picture for people, of any size."""

    def snapshot(self) -> Any:
        """All that the future depends on, picklable."""

    def restore(self, snapshot: Any) -> None:
        """The same snapshot always has the same future."""


@runtime_checkable
class TaskSimulator(Simulator, Protocol):
    """The simulator of a system with several tasks; those with one need not know."""

    def set_task(self, task: int) -> None:
        """Of the episodes that `start` and `place` begin from now on. A snapshot has its own."""


@runtime_checkable
class NoisySimulator(Simulator, Protocol):
    """One whose steps are random too: by a generator of its own, which its snapshots include.

    So one snapshot has one future, and one state has as many as there are seeds.
    """

    def seed_noise(self, rng: np.random.Generator) -> None:
        """Called after every `start` and `place` of an environment: the noise of the episode is
        drawn from a generator that is seeded by what is drawn from `rng` here. Before any such
        call, and again after each `place`, noise is that of a fixed seed."""


@runtime_checkable
class CheckingSimulator(Simulator, Protocol):
    """One that has states which it cannot be in, although their numbers are within bounds."""

    def check_state(self, state: Float[np.ndarray, "s"]) -> None:
        """Raises ValueError, before anything has changed, with what is wrong with it."""
