"""`render_mode="human"`: a window, where there is a display."""

import os
import subprocess
import sys
import threading

import gymnasium as gym
import numpy as np
import pygame
import pytest

import wm_gym  # noqa: F401
from wm_gym.envs.window import Window

NO_DISPLAY = "render_mode='human' needs a display .* Take render_mode='rgb_array'"


def test_without_a_display_it_says_what_to_do(monkeypatch):
    def fail(*args):
        raise pygame.error("No available video device")

    monkeypatch.setattr(pygame.display, "set_mode", fail)
    env = gym.make("Real-Dot-v0", render_mode="human")
    with pytest.raises(RuntimeError, match=f"{NO_DISPLAY}"):
        env.reset(seed=0)


def test_a_window_that_nobody_sees_is_no_display():
    """SDL draws offscreen where there is no display, and says nothing."""
    asks = "import gymnasium as gym; gym.make('wm_gym:Real-Dot-v0', render_mode='human').reset()"
    hidden = ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", asks], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: render_mode='human' needs a display" in done.stderr


def test_two_windows_of_different_sizes_take_turns():
    """There is one display, and one surface of it, which the last window has resized."""
    windows = Window("one", 10_000.0), Window("two", 10_000.0)
    for _ in range(3):
        for window, side in zip(windows, (32, 48), strict=True):
            window.show(np.zeros((side, side, 3), np.uint8))
    for window in windows:
        window.close()


def test_windows_of_three_threads_take_turns():
    errors = []

    def show(side):
        try:
            window = Window("test", 10_000.0)
            for _ in range(200):
                window.show(np.zeros((side, side, 3), np.uint8))
            window.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=show, args=(side,)) for side in (32, 48, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
