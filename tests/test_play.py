"""Playing with the keyboard, with keys that nobody presses."""

import threading
import time

import numpy as np
import pygame
import pytest
from tiny_world import make_world_model

from wm_gym.programs.play import key_actions, play


def test_two_keys_at_once_push_at_a_slant_and_opposite_ones_nowhere():
    ways = key_actions()
    np.testing.assert_array_equal(ways["w"], [0, -1])
    np.testing.assert_allclose(ways["dw"], [0.5**0.5, -(0.5**0.5)])
    assert "ad" not in ways
    assert all(np.linalg.norm(way) == pytest.approx(1) for way in ways.values())


def test_a_dream_is_played_until_the_window_is_closed(tmp_path, capsys):
    make_world_model().save_pretrained(tmp_path / "model")

    def close_soon():
        while not pygame.display.get_init() or pygame.display.get_surface() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    thread = threading.Thread(target=close_soon)
    thread.start()
    play("WM-v0", world_model=tmp_path / "model", fps=60)
    thread.join()
    assert "best coverage" in capsys.readouterr().out


def test_a_speed_that_is_none_is_refused():
    with pytest.raises(ValueError, match="speed is 0"):
        play(speed=0)
