"""The window of `wm-gym play`: pictures, the arrow, the strip and the keys."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pygame
from jaxtyping import Float, UInt8

from wm_gym.programs.play_controls import Place
from wm_gym.programs.play_session import Session, Side, drawn
from wm_gym.programs.play_strip import (
    COLOURS,
    FAINT,
    GREY,
    INK,
    PAPER,
    WHITE,
    draw_charts,
    font,
    write,
)
from wm_gym.systems import System

SIZE = (1024, 720)
_MARGIN, _TOP, _PANEL, _GAP, _CHART = 16, 44, 480, 32, 116
_ARROW, _RED = (196, 0, 110), (200, 30, 30)
_NAMES = {"real": "real system", "dream": "dream"}
_UNSEEN = "dummy", "offscreen"
"""Drivers that draw where nobody can see it."""

_HELP = (
    (
        ("space", "pause"), (".", "one step"), ("R", "same start"), ("N", "new start"),
        ("V", "video"), ("esc", "end"),
    ),
    (
        ("B", "branch: save this moment"), ("G", "go back to it"),
    ),
)  # fmt: skip
_RESYNC = "Y", "let the dream go on from the real frames"


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the window says besides the session."""

    word: str = ""
    """Why nothing moves."""

    notice: str = ""
    """What the last key did."""

    filming: bool = False
    mouse: Place | None = None


class Window:
    """Opened at once; people may resize it, for which nothing is drawn anew."""

    def __init__(self, session: Session) -> None:
        self._session = session
        font.cache_clear()  # somebody may have ended pygame since
        pygame.display.init()
        driver = pygame.display.get_driver()
        if driver in _UNSEEN and os.environ.get("SDL_VIDEODRIVER") != driver:
            raise RuntimeError(
                "there is no display to open a window on, expected a desktop; without one, "
                "gym.make(..., render_mode='rgb_array').render() gives pictures"
            )
        flags = 0 if driver in _UNSEEN else pygame.SCALED | pygame.RESIZABLE
        pygame.display.set_caption(f"wm-gym play: {session.system.name}")
        self.surface = pygame.display.set_mode(SIZE, flags)
        sides = [side for side in _NAMES if getattr(session.now, side) is not None]
        self.pictures = {side: self._picture_rect(i) for i, side in enumerate(sides)}
        self._charts = _beside() if len(sides) == 1 else _below()

    def _picture_rect(self, i: int) -> pygame.Rect:
        """As large as fits in its panel."""
        panel = pygame.Rect(_MARGIN + i * (_PANEL + _GAP), _TOP, _PANEL, _PANEL)
        height, width, _ = self._session.system.frame_shape
        scale = _PANEL / max(height, width)
        rect = pygame.Rect(0, 0, round(scale * width), round(scale * height))
        rect.center = panel.center
        return rect

    def place(self, at: tuple[int, int]) -> Place | None:
        """In whose picture a point of the window is, and where."""
        for side, rect in self.pictures.items():
            if rect.collidepoint(at):
                return side, (at[0] - rect.x) / rect.w, (at[1] - rect.y) / rect.h
        return None

    def draw(self, status: Status) -> None:
        scene = self._session.now
        self.surface.fill(PAPER)
        for name, rect in self.pictures.items():
            side = scene.real if name == "real" else scene.dream
            assert side is not None
            self._draw_side(name, side, rect)
            if status.mouse is not None:
                _, x, y = status.mouse
                pygame.draw.circle(self.surface, GREY, _inside(rect, (x, y)), 7, 2)
        if scene.arrow is not None and scene.dream is not None:
            self._draw_arrow(scene.arrow, scene.dream.tool or (0.5, 0.5))
        draw_charts(self.surface, self._charts, self._session)
        self._draw_status(status)
        _draw_help(self.surface, self._session.system, both=len(self.pictures) > 1)
        pygame.display.flip()

    def pixels(self) -> UInt8[np.ndarray, "h w c=3"]:
        """As it is drawn."""
        return pygame.surfarray.array3d(self.surface).swapaxes(0, 1)

    def close(self) -> None:
        pygame.display.quit()

    def _draw_side(self, name: str, side: Side, rect: pygame.Rect) -> None:
        frame = np.broadcast_to(side.frame, (*side.frame.shape[:2], 3)).swapaxes(0, 1)
        picture = pygame.surfarray.make_surface(frame)
        self.surface.blit(pygame.transform.scale(picture, rect.size), rect)
        pygame.draw.rect(self.surface, FAINT, rect.inflate(2, 2), 1)
        title = write(
            self.surface, _NAMES[name], (rect.left, _TOP - 10), 20, COLOURS[name], "bottomleft",
            bold=True,
        )  # fmt: skip
        write(
            self.surface, self._session.names[name], (title.right + 10, _TOP - 12), 13, GREY,
            "bottomleft",
        )  # fmt: skip
        if name == next(iter(self.pictures)):
            steps, fps = self._session.steps, self._session.system.fps
            text = f"step {steps} · {steps / fps:.1f} s"
            write(self.surface, text, (rect.right, _TOP - 12), 13, GREY, "bottomright")

    def _draw_arrow(self, slope: Float[np.ndarray, "a"], tool: tuple[float, float]) -> None:
        rect = self.pictures["dream"]
        size = float(np.linalg.norm(slope))
        text = f"arrow: reward rises by {size:.3f} per action"
        write(self.surface, text, (SIZE[0] - _MARGIN, _TOP - 12), 13, _ARROW, "bottomright")
        start = _inside(rect, tool)
        end = arrow_end(start, drawn(self._session.system, slope))
        self.surface.set_clip(rect)
        for width, colour in ((11, WHITE), (5, _ARROW)):
            _arrow(self.surface, colour, start, end, width)
        self.surface.set_clip(None)

    def _draw_status(self, status: Status) -> None:
        rect = next(iter(self.pictures.values()))
        if status.word:
            _pill(self.surface, status.word, rect.move(10, 10).topleft, INK)
        if status.notice:
            _pill(self.surface, status.notice, rect.move(10, -32).bottomleft, GREY)
        if status.filming:
            _pill(self.surface, "recording", rect.move(-100, 10).topright, _RED)


def arrow_end(start: tuple[float, float], way: tuple[float, float]) -> tuple[float, float]:
    """Along the way; each tenfold of its size, from 0.001 on, is as much longer."""
    size = math.hypot(*way)
    if size == 0:
        return start
    length = 30 + 45 * min(max(math.log10(size) + 3, 0.0), 3.0)
    return start[0] + length * way[0] / size, start[1] + length * way[1] / size


def _arrow(
    surface: pygame.Surface,
    colour: Sequence[int],
    start: tuple[float, float],
    end: tuple[float, float],
    width: int,
) -> None:
    """A line and a head, wide as its width says."""
    a, b = pygame.Vector2(start), pygame.Vector2(end)
    if a == b:
        return
    along = (b - a).normalize()
    across = pygame.Vector2(-along.y, along.x)
    neck, rim = b - 16 * along, (width - 5) / 2
    half = across * width / 2
    pygame.draw.polygon(surface, colour, [a + half, neck + half, neck - half, a - half])
    tip, back, wing = b + 1.6 * rim * along, neck - rim * along, across * (9 + 1.6 * rim)
    pygame.draw.polygon(surface, colour, [tip, back + wing, back - wing])
    pygame.draw.circle(surface, colour, a, width / 2 + 1)


def _inside(rect: pygame.Rect, share: tuple[float, float]) -> tuple[float, float]:
    return rect.x + share[0] * rect.w, rect.y + share[1] * rect.h


def _below() -> list[pygame.Rect]:
    """Three charts side by side, under two pictures."""
    width = (SIZE[0] - 4 * _MARGIN) // 3
    y = _TOP + _PANEL + 12
    return [pygame.Rect(_MARGIN + i * (width + _MARGIN), y, width, _CHART) for i in range(3)]


def _beside() -> list[pygame.Rect]:
    """Three charts on top of one another, beside one picture."""
    x, height = _MARGIN + _PANEL + _GAP, (_PANEL - 2 * _MARGIN) // 3
    return [pygame.Rect(x, _TOP + i * (height + _MARGIN), _PANEL, height) for i in range(3)]


def _pill(surface: pygame.Surface, text: str, at: tuple[int, int], colour: Sequence[int]) -> None:
    width, height = font(13).size(text)
    pygame.draw.rect(surface, colour, (*at, width + 16, height + 7), border_radius=6)
    write(surface, text, (at[0] + 8, at[1] + 3), 13, WHITE)


def _draw_help(surface: pygame.Surface, system: System, *, both: bool) -> None:
    moves = [("W A S D", "move")]
    if system.tool is not None:
        moves = [("mouse", "or"), *moves]
    if system.action_size > 2:
        moves.append(("Q E", "more"))
    rows = (*moves, *_HELP[0]), (*_HELP[1], *([_RESYNC] if both else []))
    for row, keys in enumerate(rows):
        x, y = _MARGIN, SIZE[1] - 50 + 26 * row
        for key, what in keys:
            width = font(12).size(key)[0] + 12
            pygame.draw.rect(surface, WHITE, (x, y - 10, width, 20), border_radius=4)
            pygame.draw.rect(surface, FAINT, (x, y - 10, width, 20), 1, border_radius=4)
            write(surface, key, (x + 6, y), 12, INK, "midleft")
            x = write(surface, what, (x + width + 6, y), 12, GREY, "midleft").right + 14
