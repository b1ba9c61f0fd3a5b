"""What a shell needs from the world behind it: n independent systems that are stepped together."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float32, UInt8

from wm_gym.systems import Simulator, System


@runtime_checkable
class World(Protocol):
    """n systems. All arrays have them first; what is returned is the caller's to keep."""

    system: System
    num_envs: int

    @property
    def observation_space(self) -> Box:
        """Of one of them."""

    def given(self, options: Mapping[str, Any]) -> Any:
        """What reset options ask for; raises before anything has changed. {} asks for nothing."""

    def start(
        self, which: Bool[np.ndarray, "b"], rngs: Sequence[np.random.Generator], given: Any
    ) -> None:
        """Begin an episode in those of `which`."""

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        """One control step of those of `which`; their rewards, 0 for the others."""

    def observations(self, which: Bool[np.ndarray, "b"]) -> np.ndarray:
        """Of those of `which`, each of the observation space."""

    def coverage(self) -> Float[np.ndarray, "b"]:
        """NaN, in all of them, where nobody knows."""

    def ended(self) -> Bool[np.ndarray, "b"]:
        """Whether its last step was the last one there can be."""

    def facts(self) -> dict[str, np.ndarray]:
        """More that `info` should say, each with a leading axis b."""

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]: ...

    def snapshot(self, i: int) -> Any: ...

    def check_snapshot(self, snapshot: Any) -> None:
        """Raises where `restore` could not go on from it, before anything has changed."""

    def restore(self, i: int, snapshot: Any) -> None: ...


def checked_options(options: Any) -> dict[str, Any]:
    """A copy of reset's options."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options is a {type(options).__name__}, expected a dictionary")
    return dict(options or {})


def checked_render_mode(render_mode: str | None, modes: list[str]) -> str | None:
    if render_mode not in (None, *modes):
        raise ValueError(f"render_mode is {render_mode!r}, expected None or one of {modes}")
    return render_mode


class SimulatedWorld:
    """Simulators of one system, stepped one after the other."""

    def __init__(self, system: System, simulator: str, num_envs: int) -> None:
        self.system = system
        self.num_envs = num_envs
        self._simulators = [system.make_simulator(simulator) for _ in range(num_envs)]
        self._state = np.zeros((num_envs, len(system.state_names)))
        self._checked = False
        self._simulator = simulator
        self._spare: Simulator | None = None
        """What snapshots are tried in, before they are restored."""

    @property
    def observation_space(self) -> Box:
        return self.system.observation_space

    def start(
        self, which: Bool[np.ndarray, "b"], rngs: Sequence[np.random.Generator], given: Any
    ) -> None:
        for i in np.flatnonzero(which).tolist():
            if given is None:
                self._simulators[i].start(rngs[i])
            else:
                self._simulators[i].place(given[i])
            self._check(self._simulators[i])
            self._state[i] = self._simulators[i].state()

    def _check(self, simulator: Simulator) -> None:
        """Once, that a simulator is what its record says: NumPy would broadcast a mistake away."""
        if self._checked:
            return
        frame, state = simulator.frame(), simulator.state()
        if frame.shape != self.system.frame_shape or frame.dtype != np.uint8:
            raise ValueError(
                f"{type(simulator).__name__}.frame() is {frame.dtype} {frame.shape}, "
                f"expected uint8 {self.system.frame_shape}"
            )
        if state.shape != self._state.shape[1:]:
            raise ValueError(
                f"{type(simulator).__name__}.state() has shape {state.shape}, "
                f"expected one number for each of {self.system.state_names}"
            )
        self._checked = True

    def given(self, options: Mapping[str, Any]) -> Float[np.ndarray, "b s"] | None:
        """`options={"state": ...}`: one state for all, or one each."""
        unknown = set(options) - {"state"}
        if unknown:
            raise ValueError(
                f"unknown reset options {sorted(unknown)}; a real system takes 'state'"
            )
        if options.get("state") is None:
            return None
        state, names = np.asarray(options["state"], np.float64), self.system.state_names
        expected = (self.num_envs, len(names))
        if state.shape not in (expected, expected[1:]):
            raise ValueError(
                f"options['state'] has shape {state.shape}, expected {expected[1:]} or {expected}: "
                + ", ".join(names)
            )
        low, high = self.system.state_low, self.system.state_high
        if not ((state >= low) & (state <= high)).all():  # NaN is neither
            raise ValueError(
                f"options['state'] is {state}, expected finite numbers from {low} to {high}"
            )
        return np.broadcast_to(state, expected)

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        before = self._state.copy()
        for i in np.flatnonzero(which):
            self._simulators[i].advance(action[i])
            self._state[i] = self._simulators[i].state()
        return np.where(which, self.system.reward_of(before, action, self._state), 0.0)

    def observations(self, which: Bool[np.ndarray, "b"]) -> UInt8[np.ndarray, "n h w c"]:
        return np.stack([self._simulators[i].frame() for i in np.flatnonzero(which)])

    def coverage(self) -> Float[np.ndarray, "b"]:
        return self.system.progress_of(self._state)

    def ended(self) -> Bool[np.ndarray, "b"]:
        """A simulator can always be stepped on."""
        return np.zeros(self.num_envs, bool)

    def facts(self) -> dict[str, np.ndarray]:
        contact = np.array([simulator.contact for simulator in self._simulators])
        return {"state": self._state.copy(), "contact": contact}

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        return self._simulators[i].picture()

    def snapshot(self, i: int) -> Any:
        return self._simulators[i].snapshot()

    def check_snapshot(self, snapshot: Any) -> None:
        """Only a simulator knows its own: a spare one tries it."""
        if self._spare is None:
            self._spare = self.system.make_simulator(self._simulator)
        try:
            self._spare.restore(snapshot)
            state = self._spare.state()
        except Exception as error:
            raise ValueError(
                f"the snapshot's world is {reprlib.repr(snapshot)}, expected what "
                f"{type(self._spare).__name__}.snapshot() returned: {error}"
            ) from error
        if state.shape != self._state.shape[1:] or not np.isfinite(state).all():
            raise ValueError(f"the snapshot leads to the state {state}, expected finite numbers")

    def restore(self, i: int, snapshot: Any) -> None:
        self._simulators[i].restore(snapshot)
        self._state[i] = self._simulators[i].state()
