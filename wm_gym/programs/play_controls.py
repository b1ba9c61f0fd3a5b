"""Keys and mouse of `wm-gym play`, and the actions that they mean."""

import math
from typing import Any

import numpy as np
import pygame
from jaxtyping import Float

from wm_gym.programs.play_session import Scene
from wm_gym.systems import System
from wm_gym.systems.registry import KEY_PAIRS

KEYS = {
    "a": (pygame.K_a, pygame.K_LEFT),
    "d": (pygame.K_d, pygame.K_RIGHT),
    "w": (pygame.K_w, pygame.K_UP),
    "s": (pygame.K_s, pygame.K_DOWN),
    "q": (pygame.K_q,),
    "e": (pygame.K_e,),
    "z": (pygame.K_z,),
    "c": (pygame.K_c,),
}
"""By the letters of a system's `keys`."""

OPPOSITE = {pair[i]: pair[1 - i] for pair in KEY_PAIRS for i in (0, 1)}

COMMANDS = {
    pygame.K_SPACE: "pause",
    pygame.K_PERIOD: "step",
    pygame.K_b: "branch",
    pygame.K_g: "back",
    pygame.K_y: "resync",
    pygame.K_r: "again",
    pygame.K_n: "next",
    pygame.K_v: "video",
    pygame.K_ESCAPE: "quit",
}

Place = tuple[str, float, float]
"""Whose picture, and where in it, as shares of its width and height."""


class Controls:
    """What is held down now: the keys that were touched last, or the mouse."""

    def __init__(self, system: System, speed: float) -> None:
        self._system, self._speed = system, speed
        self._held: set[int] = set()
        self.mouse: Place | None = None
        """Where it points, while it leads."""

    @property
    def moving(self) -> bool:
        return self.mouse is not None or bool(self._direction().any())

    def heed(self, event: Any, place: Place | None) -> None:
        """A key pressed or let go; `place` is where the mouse is."""
        letters = [each for more in self._system.steering for each in (more, OPPOSITE[more])]
        moves = [key for letter in letters for key in KEYS[letter]]
        if event.type == pygame.KEYDOWN and event.key in moves:
            self._held.add(event.key)
            self.mouse = None
        elif event.type == pygame.KEYUP:
            self._held.discard(event.key)
        elif event.type == pygame.MOUSEMOTION and not self._held:
            self.mouse = None if self._system.tool is None else place
        elif event.type == pygame.WINDOWLEAVE:
            self.mouse = None
        elif event.type == pygame.WINDOWFOCUSLOST:
            self.release()

    def release(self) -> None:
        """Nothing is held, until something is touched again."""
        self._held.clear()
        self.mouse = None

    def action(self, scene: Scene) -> Float[np.ndarray, "a"]:
        """Towards the mouse, as far as one step reaches; or as the keys say."""
        if self.mouse is None:
            way = self._direction()
            return (self._speed * way / max(math.sqrt(way @ way), 1.0)).astype(np.float32)
        action, tool = np.zeros(self._system.action_size, np.float32), self._system.tool
        side, x, y = self.mouse
        at = (scene.real if side == "real" else scene.dream) or scene.real or scene.dream
        if tool is not None and at is not None and at.tool is not None:
            away = (np.array([x, y]) - at.tool) * tool.board / tool.reach
            action[:2] = np.clip(away, -1, 1)[: len(action)]
        return action

    def _direction(self) -> Float[np.ndarray, "a"]:
        way = np.zeros(self._system.action_size)
        for i, more in enumerate(self._system.steering):
            way[i] = self._holds(more) - self._holds(OPPOSITE[more])
        return way

    def _holds(self, letter: str) -> bool:
        return any(key in self._held for key in KEYS[letter])
