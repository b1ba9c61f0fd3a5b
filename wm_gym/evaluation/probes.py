"""What reads states off frames: a system's module, or a network that it teaches."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from wm_gym.systems import System


@runtime_checkable
class Reading(Protocol):
    @property
    def state(self) -> Float[np.ndarray, "n s"]: ...

    @property
    def residual(self) -> Float[np.ndarray, "n"]: ...


@runtime_checkable
class Errors(Protocol):
    """How far states are apart, whoever read them."""

    @property
    def WHOLE(self) -> float:  # noqa: N802
        """A frame with a residual below this shows what it should."""

    @property
    def UNITS(self) -> Mapping[str, str]:  # noqa: N802
        """Of the errors, by name."""

    @property
    def WRONG(self) -> tuple[str, float]:  # noqa: N802
        """An error, and how much of it makes a frame a wrong one."""

    def errors(
        self, state: Float[np.ndarray, "n s"], truth: Float[np.ndarray, "n s2"], /
    ) -> dict[str, Float[np.ndarray, "n"]]:
        """Of what was read, or of another state."""


@runtime_checkable
class Probe(Errors, Protocol):
    """What a system's module for reading states off frames has to offer."""

    def read_state(self, frames: UInt8[np.ndarray, "n h w c"], /) -> Reading: ...


@runtime_checkable
class Nudging(Probe, Protocol):
    """One that knows states to hold the real system against itself."""

    def nudged(
        self, state: Float[np.ndarray, "n s"], rng: np.random.Generator, /
    ) -> Float[np.ndarray, "n s"]:
        """States that a picture hardly tells from these."""


@runtime_checkable
class Posed(Errors, Protocol):
    """A module that says of what the gradients of a step are, its *pose*: some places, and last an
    angle. And how many states, distances and noises it takes to measure them in its real system.

    What a linear map reads off features are its *targets*: among them the places as they are, and
    cosine and sine of the angle.
    """

    STATE: tuple[str, ...]
    """What a state has to begin with."""

    POSE: Mapping[str, int]
    """How many of the pose's numbers each quantity has, in order; each is compared by itself."""

    PLACES: slice
    """The places, among the targets."""

    ANGLE: tuple[int, int]
    """Its cosine and its sine, among them."""

    LEVER: float
    """What an angle is multiplied by."""

    FITTED: str
    """Name of the dataset that the linear map is fitted to, usually."""

    STATES: int
    DELTAS: tuple[float, ...]
    NOISES: int
    """Usual numbers; noises are of each of two estimates in a state."""

    REPEATED: int
    """Of how many states one is measured again, for the floor."""

    AIMED: bool
    """Whether the card's aims, which were set for Push-T, are its own."""

    def pose_of(self, state: Float[np.ndarray, "*n s"], /) -> Float[np.ndarray, "*n p"]:
        """Of true states, or of what a probe read."""

    def targets(self, state: Float[np.ndarray, "n s"], /) -> Float[np.ndarray, "n d"]: ...

    def state_read(
        self, said: Float[np.ndarray, "n d"], pose: Float[np.ndarray, "n p"], /
    ) -> Float[np.ndarray, "n s"]:
        """A state that errors are told of, of targets and the pose that they make."""

    def shown(
        self, frames: UInt8[np.ndarray, "n h w c"], residual: Float[np.ndarray, "n"], /
    ) -> Bool[np.ndarray, "n p"]:
        """What of the pose these frames show at all; the residual is a reading's."""


@runtime_checkable
class Looking(Errors, Protocol):
    """Where frames do not always show what they are asked for. What cannot be told is NaN."""

    def hidden(self, real: UInt8[np.ndarray, "n h w c"], /) -> dict[str, Bool[np.ndarray, "n"]]:
        """By error: which of these real frames do not show what it is of."""

    def missing(
        self, frames: UInt8[np.ndarray, "n h w c"], real: UInt8[np.ndarray, "n h w c"], /
    ) -> Float[np.ndarray, "n"]:
        """In place of a residual: how much of what the real frames show is not in these. No network
        is asked."""


@runtime_checkable
class Lesson(Looking, Protocol):
    """A module whose probe is a network that has yet to learn, from real frames alone."""

    LEARNED_FROM: str
    """Name of the dataset that is logged for it, usually."""

    TARGETS: tuple[str, ...]
    """What is read off a frame."""

    def targets(self, state: Float[np.ndarray, "n s"], /) -> Float[np.ndarray, "n d"]: ...

    def readable(self, frames: UInt8[np.ndarray, "n h w c"], /) -> Bool[np.ndarray, "n d"]:
        """Which of its targets a real frame shows."""


def probe_of(system: System) -> Probe | None:
    """One that need not learn."""
    module = _module(system)
    return module if isinstance(module, Probe) else None


def lesson_of(system: System) -> Lesson | None:
    module = _module(system)
    return module if isinstance(module, Lesson) else None


def posed_of(system: System) -> Posed:
    module = _module(system)
    if not isinstance(module, Posed):
        raise ValueError(
            f"the system {system.name!r} has no probe that says what a pose is, expected a "
            "`wm_gym.evaluation.probes.Posed`: gradients of a step are of poses"
        )
    if system.state_names[: len(module.STATE)] != module.STATE:
        raise ValueError(
            f"the system {system.name!r} has the state {system.state_names}, expected one that "
            f"begins with {module.STATE}: gradients are of a pose"
        )
    return module


def quantities(posed: Posed) -> dict[str, slice]:
    """Which of a pose's numbers each of them is."""
    ends = np.cumsum(list(posed.POSE.values())).tolist()
    return {
        name: slice(end - size, end)
        for (name, size), end in zip(posed.POSE.items(), ends, strict=True)
    }


def units_of(system: System) -> Mapping[str, str]:
    """Of the errors that are read off frames; nothing where there are none."""
    module = _module(system)
    return {} if module is None else module.UNITS


def _module(system: System) -> Any:
    return None if system.probe is None else import_module(system.probe)


def readings(
    probe: Probe,
    frames: UInt8[np.ndarray, "n h w c"],
    truth: Float[np.ndarray, "n s"],
    real: UInt8[np.ndarray, "n h w c"],
) -> tuple[Float[np.ndarray, "n"], dict[str, Float[np.ndarray, "n"]]]:
    """The residual and the errors of frames that should show what the real ones do."""
    reading = probe.read_state(frames)
    found = told_errors(probe, reading.state, truth, real)
    if isinstance(probe, Looking):
        return probe.missing(frames, real), found
    return reading.residual, found


def told_errors(
    probe: Errors,
    state: Float[np.ndarray, "n s"],
    truth: Float[np.ndarray, "n s2"],
    real: UInt8[np.ndarray, "n h w c"],
) -> dict[str, Float[np.ndarray, "n"]]:
    """NaN where the real frame does not show what an error is of."""
    found = probe.errors(state, truth)
    if isinstance(probe, Looking):
        hidden = probe.hidden(real)
        found = {
            name: np.where(hidden[name], np.nan, each) if name in hidden else each
            for name, each in found.items()
        }
    return found
