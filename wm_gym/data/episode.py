"""One episode, and what time means in it.

    frame 0 --action 0, reward 0--> frame 1 --action 1, reward 1--> ... --> frame t

An episode of t transitions has t + 1 frames. `reward[i]` and `action[i]` belong to the transition
from frame i to frame i + 1; facts are true of a frame, so there are t + 1 of each.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8


class TooShortError(ValueError):
    """Of an episode that holds no transition."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    frames: UInt8[np.ndarray, "t1 h w c"]
    action: Float32[np.ndarray, "t a"]
    reward: Float32[np.ndarray, "t"]
    terminated: bool
    """Whether the last transition reached a terminal state; no other one can."""
    truncated: bool
    """Whether the last transition was cut off, by a time limit for instance."""
    facts: Mapping[str, np.ndarray]
    """Truths about each frame (leading axis t + 1): labels for heads and probes, never inputs."""
    behaviour: str
    split: str
    seed: int
    task: str
    """A sentence."""
    proprio: Float32[np.ndarray, "t1 p"] | None = None
    """What the robot felt of itself in each frame: an input beside it; None where nobody logged
    it."""

    def __post_init__(self) -> None:
        _check("frames", self.frames, np.dtype(np.uint8), ndim=4)
        _check("action", self.action, np.dtype(np.float32), ndim=2)
        _check("reward", self.reward, np.dtype(np.float32), ndim=1)
        length = len(self.frames)
        if length < 2:
            raise TooShortError(
                f"frames has {length} pictures, expected at least 2: one transition"
            )
        _check_length("action", self.action, length - 1, f"one per transition of {length} frames")
        _check_length("reward", self.reward, length - 1, f"one per transition of {length} frames")
        for name, values in self.facts.items():
            _check(f"fact {name!r}", values, None, ndim=None)
            _check_length(f"fact {name!r}", values, length, "one per frame")
        if self.proprio is not None:
            _check("proprio", self.proprio, np.dtype(np.float32), ndim=2)
            _check_length("proprio", self.proprio, length, "one per frame")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}, expected 0 <= seed < 2**63")

    @property
    def digest(self) -> str:
        """SHA-256 of the decoded content: the same however it was compressed, packed or stored."""
        arrays = {"frames": self.frames, "action": self.action, "reward": self.reward}
        arrays |= {} if self.proprio is None else {"proprio": self.proprio}
        arrays |= {f"fact {name}": self.facts[name] for name in sorted(self.facts)}
        layout = [[name, _portable(array).str, list(array.shape)] for name, array in arrays.items()]
        words = [self.behaviour, self.split, int(self.seed), self.task]
        ends = [bool(self.terminated), bool(self.truncated)]
        sha = hashlib.sha256(json.dumps([layout, words, ends]).encode())
        for array in arrays.values():
            sha.update(np.ascontiguousarray(array, dtype=_portable(array)).data)
        return sha.hexdigest()


def _portable(array: np.ndarray) -> np.dtype:
    return array.dtype.newbyteorder("<")


def _check(what: str, values: np.ndarray, dtype: np.dtype | None, *, ndim: int | None) -> None:
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{what} is a {type(values).__name__}, expected a NumPy array")
    if dtype is not None and values.dtype != dtype:
        raise ValueError(
            f"{what} has dtype {values.dtype}, expected {dtype}; "
            "convert it where it is made, so that nothing is rounded unseen"
        )
    if ndim is not None and values.ndim != ndim:
        raise ValueError(f"{what} has shape {values.shape}, expected {ndim} axes")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{what} has dtype {values.dtype}, expected booleans or numbers")
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise ValueError(f"{what} is not finite in row {row}; expected finite numbers only")


def _check_length(what: str, values: np.ndarray, expected: int, why: str) -> None:
    if values.ndim == 0 or len(values) != expected:
        raise ValueError(f"{what} has shape {values.shape}, expected {expected} rows: {why}")
