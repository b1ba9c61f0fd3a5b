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
