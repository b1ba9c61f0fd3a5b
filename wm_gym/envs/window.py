"""A window for `render_mode="human"`."""

import os
import threading

import numpy as np
import pygame
from jaxtyping import UInt8

_display = threading.Lock()
"""There is but one: windows, of other threads too, take it from each other, and resize it."""


class Window:
    """Shows pictures at a steady rate; opened by the first one."""

    def __init__(self, title: str, fps: float) -> None:
        self._title, self._fps = title, fps
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, picture: UInt8[np.ndarray, "h w c"]) -> None:
        size = picture.shape[1::-1]
        with _display:
            shown = pygame.display.get_surface()
            if self._screen is None or shown is not self._screen or shown.get_size() != size:
                self._screen = _opened(self._title, size)
            pygame.surfarray.blit_array(self._screen, picture.swapaxes(0, 1))
            pygame.event.pump()
            pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        with _display:
            if self._screen is not None:
                if pygame.display.get_surface() is self._screen:
                    pygame.display.quit()
                self._screen = None


def _opened(title: str, size: tuple[int, ...]) -> pygame.Surface:
    try:
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen" and "SDL_VIDEODRIVER" not in os.environ:
            pygame.display.quit()
            raise pygame.error("it would be drawn where nobody sees it")
        pygame.display.set_caption(title)
        return pygame.display.set_mode(size)
    except pygame.error as error:
        raise RuntimeError(
            f"render_mode='human' needs a display to open a window on, and there is none: {error}. "
            "Take render_mode='rgb_array' and look at what render() returns, or run under xvfb-run"
        ) from error
