"""A window for `render_mode="human"`."""

import numpy as np
import pygame
from jaxtyping import UInt8


class Window:
    """Shows pictures at a steady rate; opened by the first one."""

    def __init__(self, title: str, fps: float) -> None:
        self._title, self._fps = title, fps
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, picture: UInt8[np.ndarray, "h w c"]) -> None:
        if self._screen is None or pygame.display.get_surface() is not self._screen:
            pygame.display.init()  # there is but one display; another window may have taken it
            pygame.display.set_caption(self._title)
            self._screen = pygame.display.set_mode(picture.shape[1::-1])
        pygame.surfarray.blit_array(self._screen, picture.swapaxes(0, 1))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        if self._screen is not None:
            if pygame.display.get_surface() is self._screen:
                pygame.display.quit()
            self._screen = None
