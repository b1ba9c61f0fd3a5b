"""Push-T's pictures: bit for bit gym-pusht's, drawn where something moved.

gym-pusht fills a 512 px surface, draws everything, copies it and lets OpenCV shrink it to 96 px.
Here the surface and the shrunk picture of the empty board are kept; a picture draws block and tool
upon them and shrinks only the cells they touch.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pygame
from jaxtyping import Float, Int, Num, UInt8

from wm_gym.systems.pusht.geometry import BAR, BOARD, GOAL, STEM, TOOL_RADIUS, to_board
from wm_gym.systems.pusht.physics import WALL_RADIUS, WALLS, Mark

SIZE = 96
"""Side of the observed picture."""

_WHITE = (255, 255, 255, 255)
_GOAL_GREEN = (
    144,
    238,
    144,
    255,
)  # the web colours LightGreen, LightSlateGray, RoyalBlue, LightGray
_BLOCK_GREY = (119, 136, 153, 255)
_TOOL_BLUE = (65, 105, 225, 255)
_WALL_GREY = (211, 211, 211, 255)
_MARK_RED = (231, 76, 60, 255)
_BLOCK_EDGE = 2  # half the width of its outline
_TOOL_RIM = 4

Point = tuple[int, int]
Colour = tuple[int, int, int, int]
Box = tuple[int, int, int, int]
"""left, top, right, bottom on the board; right and bottom are exclusive."""


def _light(colour: Colour) -> Colour:
    r, g, b, a = (round(min(1.2 * c, 255)) for c in colour)
    return r, g, b, a


_LIGHT_GREY, _LIGHT_BLUE = _light(_BLOCK_GREY), _light(_TOOL_BLUE)


def _whole(point: tuple[float, float]) -> Point:
    return round(point[0]), round(point[1])


def _taps() -> tuple[Int[np.ndarray, "c=96 2"], Int[np.ndarray, "c=96 2"]]:
    """The two board pixels that each cell of the small picture reads, and their weights in 1/2048.

    Bilinear shrinking as OpenCV does it: cell i is centred on x = (i + ½)·512/96 − ½.
    """
    x = (np.arange(SIZE) + 0.5) * (BOARD / SIZE) - 0.5
    first = np.floor(x).astype(np.int64)
    second = np.rint((x - first) * 2048).astype(np.int32)
    return np.stack([first, first + 1], 1), np.stack([2048 - second, second], 1)


class Painter:
    """Draws boards on one surface of its own."""

    def __init__(self) -> None:
        self._board = np.zeros((BOARD, BOARD, 4), np.uint8)
        self._surface = pygame.image.frombuffer(self._board.data, (BOARD, BOARD), "RGBX")
        self._pixels = self._board.view(np.uint32)[..., 0]
        self._taps, self._weights = _taps()
        self._surface.fill(_WHITE)
        for part in (BAR, STEM):
            corners = np.rint(to_board(part, GOAL)).astype(int).tolist()
            pygame.draw.polygon(self._surface, _GOAL_GREEN, corners)
        bare = self._pixels.copy()
        starts, ends = zip(*[(_whole(a), _whole(b)) for a, b in WALLS], strict=True)
        self._outline([*starts, *ends], [*ends, *starts], WALL_RADIUS, _WALL_GREY)
        self._wall = self._pixels != bare
        self._empty = self._pixels.copy()
        self._small_empty = self._shrunk((0, 0, SIZE, SIZE))

    def picture(
        self, state: Float[np.ndarray, "s"], marks: tuple[Mark, ...]
    ) -> UInt8[np.ndarray, "h=96 w=96 c=3"]:
        """The observation of a state."""
        small = self._small_empty.copy()
        with self._drawn(state, marks) as boxes:
            for box in boxes:
                left, top, right, bottom = cells = self._cells(box)
                if left < right and top < bottom:
                    small[top:bottom, left:right] = self._shrunk(cells)
        return small

    def board(
        self, state: Float[np.ndarray, "s"], marks: tuple[Mark, ...]
    ) -> UInt8[np.ndarray, "h=512 w=512 c=3"]:
        """The same at full size, for people."""
        with self._drawn(state, marks):
            return self._board[..., :3].copy()

    @contextmanager
    def _drawn(self, state: Float[np.ndarray, "s"], marks: tuple[Mark, ...]) -> Iterator[list[Box]]:
        """Whatever happens meanwhile, the board is empty again afterwards."""
        try:
            boxes = self._draw(state, marks)
            yield boxes
        except BaseException:
            self._pixels[:] = self._empty
            raise
        for left, top, right, bottom in boxes:
            self._pixels[top:bottom, left:right] = self._empty[top:bottom, left:right]

    def _draw(self, state: Float[np.ndarray, "s"], marks: tuple[Mark, ...]) -> list[Box]:
        parts = [to_board(part, state[2:5]) for part in (BAR, STEM)]
        for corners in parts:
            self._part(corners)
        tool = _whole((state[0], state[1]))
        pygame.draw.circle(self._surface, _TOOL_BLUE, tool, round(TOOL_RADIUS))
        pygame.draw.circle(self._surface, _LIGHT_BLUE, tool, round(TOOL_RADIUS - _TOOL_RIM))
        around_tool = np.array([tool, *(end for mark in marks for end in mark)])
        boxes = [
            self._box(np.concatenate(parts), 2 * _BLOCK_EDGE + 1),
            self._box(around_tool, round(TOOL_RADIUS) + 2),
        ]
        for left, top, right, bottom in boxes:
            if left < 8 or top < 8 or right > BOARD - 8 or bottom > BOARD - 8:
                region = np.s_[top:bottom, left:right]
                np.copyto(self._pixels[region], self._empty[region], where=self._wall[region])
        for a, b in marks:
            pygame.draw.aalines(self._surface, _MARK_RED, False, [_whole(a), _whole(b)])
        return boxes

    def _part(self, corners: Float[np.ndarray, "p 2"]) -> None:
        whole = [(x, y) for x, y in np.rint(corners).astype(int).tolist()]
        pygame.draw.polygon(self._surface, _LIGHT_GREY, whole)
        self._outline(whole, [*whole[1:], whole[0]], _BLOCK_EDGE, _BLOCK_GREY)

    def _outline(self, starts: list[Point], ends: list[Point], radius: int, colour: Colour) -> None:
        """Thick lines with round ends, in the pieces that pymunk draws them in."""
        surface = self._surface
        for a, b in zip(starts, ends, strict=True):
            pygame.draw.lines(surface, colour, False, [a, b], 2 * radius)
            across, along = abs(b[1] - a[1]), abs(b[0] - a[0])
            scale = radius / max(math.hypot(across, along), 1)
            dx, dy = round(across * scale), round(along * scale)
            corners = [(a[0] - dx, a[1] - dy), (a[0] + dx, a[1] + dy),
                       (b[0] + dx, b[1] + dy), (b[0] - dx, b[1] - dy)]  # fmt: skip
            pygame.draw.polygon(surface, colour, corners)
            pygame.draw.circle(surface, colour, a, radius)

    @staticmethod
    def _box(points: Num[np.ndarray, "p 2"], margin: int) -> Box:
        left, top = (int(v - margin) for v in points.min(0))
        right, bottom = (int(v + margin) + 2 for v in points.max(0))
        return max(left, 0), max(top, 0), min(right, BOARD), min(bottom, BOARD)

    @staticmethod
    def _cells(box: Box) -> Box:
        """The cells of the small picture that read a pixel of the box."""
        left, top, right, bottom = (v * SIZE / BOARD for v in box)
        return (
            max(int(left) - 1, 0), max(int(top) - 1, 0),
            min(int(right) + 2, SIZE), min(int(bottom) + 2, SIZE),
        )  # fmt: skip

    def _shrunk(self, cells: Box) -> UInt8[np.ndarray, "h w c=3"]:
        left, top, right, bottom = cells
        rows, columns = self._taps[top:bottom].reshape(-1, 1), self._taps[left:right].reshape(-1)
        pixels = self._pixels[rows, columns, None].view(np.uint8)[..., :3].astype(np.int32)
        across, down = self._weights[left:right, :, None], self._weights[top:bottom, :, None, None]
        lines = (pixels[:, 0::2] * across[:, 0] + pixels[:, 1::2] * across[:, 1]) >> 4
        first, second = (down[:, 0] * lines[0::2]) >> 16, (down[:, 1] * lines[1::2]) >> 16
        return ((first + second + 2) >> 2).astype(np.uint8)
