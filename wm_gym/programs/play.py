"""`wm-gym play`: push the T about with the keyboard, in the dream or in the real system."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.play import play as play_with_keys

import wm_gym  # noqa: F401

KEYS = {"w": (0, -1), "a": (-1, 0), "s": (0, 1), "d": (1, 0)}
"""And which way each moves the tool: x to the right, y down."""


def play(
    env_id: str = "WM-PushT-v0",
    /,
    world_model: Path | None = None,
    seed: int = 0,
    speed: float = 0.5,
    fps: int = 5,
) -> None:
    """Move the tool with W, A, S and D, two at once for slants; Escape ends it.

    Args:
        env_id: WM-PushT-v0 (the dream), Real-PushT-v0, or WM-v0 with --world-model.
        world_model: A model folder to dream with.
        seed: Of the first episode.
        speed: The length of an action, of the most there is.
        fps: Steps a second; 5 is real time.
    """
    if not 0 < speed <= 1:
        raise ValueError(f"speed is {speed}, expected more than 0, up to 1")
    chosen: dict[str, Any] = {} if world_model is None else {"world_model": world_model}
    env = SeededOnce(gym.make(env_id, render_mode="rgb_array", **chosen))
    best = 0.0

    def note(*step: Any) -> None:
        nonlocal best
        best = max(best, step[-1]["best_coverage"])

    actions = {keys: speed * way for keys, way in key_actions().items()}
    try:
        play_with_keys(
            env, keys_to_action=actions, noop=np.zeros(2, np.float32), fps=fps, seed=seed,
            callback=note,
        )  # fmt: skip
    finally:
        env.close()
    print(f"best coverage: {best:.2f}")


class SeededOnce(gym.Wrapper[Any, Any, Any, Any]):
    """Every reset of `gymnasium.utils.play` gives the seed; only the first is meant."""

    seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        seed, self.seeded = None if self.seeded else seed, True
        return self.env.reset(seed=seed, options=options)


def key_actions() -> dict[str, np.ndarray]:
    """One key or two at once, in any order, to a direction of length 1."""
    ways = {key: np.array(way, np.float32) for key, way in KEYS.items()}
    for first in KEYS:
        for second in KEYS:
            way = ways[first] + ways[second]
            if first != second and way.any():
                ways[first + second] = way / np.sqrt(2, dtype=np.float32)
    return ways
